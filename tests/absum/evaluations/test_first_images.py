"""Which images an evaluation looks at, and what it refuses."""

import dataclasses
import math

import numpy as np
import pytest

from experiments.absum.evaluations.first_images import (
    FirstImages,
    check_first_images,
    first_images,
    first_images_checksum,
    require_epsilons,
)
from tests.absum.evaluations.known_networks import known_network

SETTINGS = FirstImages(images=5)


@pytest.fixture
def trained(splits):
    return known_network(splits[2])


@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_first_of_the_split_are_taken(trained, split):
    settings = dataclasses.replace(SETTINGS, split=split)
    check_first_images(trained.subject, settings, "name")
    for found, wanted in zip(first_images(trained.subject, settings), trained.subject.images(split), strict=True):
        np.testing.assert_array_equal(found, wanted[:5])
    other = dataclasses.replace(settings, images=6)
    assert first_images_checksum(trained, settings) != first_images_checksum(trained, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 0}, "--name.images must be at least 1"),
        ({"batch_size": 0}, "--name.batch-size must be at least 1"),
        ({"images": 41, "split": "validation"}, "--name.images must be at most the 40 validation images, got 41"),
        ({"split": "train"}, "--name.split must be test or validation, got 'train'"),
    ],
)
def test_others_are_refused(trained, change, message):
    with pytest.raises(ValueError, match=message):
        check_first_images(trained.subject, dataclasses.replace(SETTINGS, **change), "name")


def test_epsilons_lie_in_their_range():
    require_epsilons("name.epsilons", None, 1)
    require_epsilons("name.epsilons", (0.0, 1.0), 1)
    for wrong in ((), (-0.1,), (0.5, 1.1), (math.nan,)):
        with pytest.raises(ValueError, match=r"--name.epsilons must lie in \[0, 1\], at least one, got"):
            require_epsilons("name.epsilons", wrong, 1)
