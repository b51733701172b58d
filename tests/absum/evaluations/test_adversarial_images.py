"""Adversarial images of known networks, and usual epsilons."""

import numpy as np
import pytest

from experiments.absum.evaluations.adversarial_images import (
    adversarial_images,
    default_epsilons,
)
from experiments.absum.figures.words import display_epsilon
from experiments.data.images import to_float
from tests.absum.evaluations.known_networks import known_network, logits_of


@pytest.mark.parametrize("hidden", [0, 12], ids=["linear", "two layers"])
def test_images_stay_in_the_ball_and_are_nearer_to_a_boundary_or_over_it(splits, hidden):
    trained = known_network(splits[2], hidden=hidden)
    images, labels = trained.subject.images("test")
    pixels, labels = to_float(images[:24]), labels[:24]
    options = {"epsilon": 0.03, "loss": "margin", "num_steps": 5, "num_restarts": 2}
    found = adversarial_images(trained, pixels, labels, batch_size=24, **options)
    assert np.abs(found - pixels).max() <= 0.03 + 1e-6  # a rounding of float32
    assert 0 <= found.min() <= found.max() <= 1
    # Nearer to a boundary, and over it for some.
    margins = [
        np.partition(logits, -2, axis=1)[:, -1] - logits[np.arange(24), labels]
        for logits in (logits_of(trained, pixels), logits_of(trained, found))
    ]
    assert np.sum(margins[0] > 0) < np.sum(margins[1] > 0)
    in_batches = adversarial_images(trained, pixels, labels, batch_size=7, **options)
    np.testing.assert_allclose(in_batches, found, atol=1e-6)  # sums in another order


def test_epsilons_of_gray_and_of_colour():
    assert max(default_epsilons(1)) == 0.3
    assert [display_epsilon(round(each, 6)) for each in default_epsilons(3)] == [
        "2/255", "4/255", "8/255", "16/255",
    ]  # fmt: skip
    assert [display_epsilon(each) for each in (0.2, 0.05, 0.123456)] == ["0.2", "0.05", "0.123"]
