"""What is found piece by piece is what NumPy and zlib find of the whole."""

import functools

import numpy as np
import pytest

from experiments.data.source_files import checksum
from experiments.data.summary import ImageSummary, summarize

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(3, 250, (23, 5, 4, 2), np.uint8)
LABELS = RNG.integers(2, 9, 23).astype(np.int32)


def of_pieces(*ends):
    bounds = zip([0, *ends], [*ends, len(LABELS)], strict=True)
    pieces = [summarize(IMAGES[first:end], LABELS[first:end]) for first, end in bounds]
    return functools.reduce(ImageSummary.followed_by, pieces)


@pytest.mark.parametrize("ends", [(), (1,), (22,), (7, 8, 20), range(1, 23)])
def test_pieces_are_joined_to_the_whole(ends):
    found, pixels = of_pieces(*ends), IMAGES.reshape(-1, 2).astype(np.float64)
    assert (found.count, found.pixels) == (23, len(pixels))
    assert (found.lowest, found.highest) == (tuple(pixels.min(axis=0)), tuple(pixels.max(axis=0)))
    assert (found.lowest_label, found.highest_label) == (LABELS.min(), LABELS.max())
    # float32 rounds to 6e-8 of the value.
    np.testing.assert_allclose(found.channel_mean, pixels.mean(axis=0) / 255, rtol=1e-7)
    np.testing.assert_allclose(found.channel_std, pixels.std(axis=0) / 255, rtol=1e-7)
    assert found.checksum == checksum(IMAGES, LABELS)


def test_checksums_tell_the_order_of_pieces():
    first, second = summarize(IMAGES[:9], LABELS[:9]), summarize(IMAGES[9:], LABELS[9:])
    assert first.followed_by(second).checksum != second.followed_by(first).checksum
