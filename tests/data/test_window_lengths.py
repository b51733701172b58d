"""Random lengths against their formula, and the sizes to pad to against all other choices."""

import itertools

import numpy as np
import pytest

from experiments.data.window_lengths import WindowLengths

SHORT = WindowLengths(base=6, half_probability=0.3, spread=2.0, smallest=2, largest=8)


def test_lengths_follow_the_formula_and_its_rates():
    total, base, spread, half = 2_000_000, 70, 5.0, 0.05
    lengths = WindowLengths(base, half, spread, smallest=5, largest=90).lengths(total, seed=0, epoch=0)
    assert lengths.sum() == total
    assert lengths.max() <= 90
    assert lengths[:-1].min() >= 5
    count = len(lengths)
    # The two normals are 7 standard deviations apart, so that 52 tells them apart.
    short = lengths < 52
    # Four standard errors of a proportion.
    assert abs(short.mean() - half) < 4 * np.sqrt(half * (1 - half) / count)
    for part, mean in ((lengths[short], base / 2), (lengths[~short], base)):
        # int() takes half a token off on average; four standard errors of a mean and of a standard deviation.
        assert abs(part.mean() - (mean - 0.5)) < 4 * spread / np.sqrt(len(part))
        # Rounding down adds 1/12 to the variance: less than 0.01 to the standard deviation.
        assert abs(part.std() - spread) < 4 * spread / np.sqrt(2 * len(part)) + 0.01


def test_lengths_are_clipped_at_both_ends():
    lengths = WindowLengths(base=10, half_probability=0.5, spread=8.0, smallest=4, largest=12)
    drawn = lengths.lengths(5_000, seed=0, epoch=0)
    assert (drawn[:-1].min(), drawn.max()) == (4, 12)
    # Both ends are common with a spread as wide as the range.
    assert np.count_nonzero(drawn == 4) > 50
    assert np.count_nonzero(drawn == 12) > 50


def test_lengths_depend_on_seed_and_epoch_alone():
    def lengths(seed, epoch):
        return SHORT.lengths(300, seed=seed, epoch=epoch).tolist()

    assert lengths(3, 1) == lengths(3, 1)
    # The last pair is the same stream if seed and epoch are merely put in a list.
    different = [lengths(*pair) for pair in [(0, 0), (0, 1), (1, 0), (1, 1), (2**32 + 5, 0), (5, 1)]]
    assert all(a != b for a, b in itertools.combinations(different, 2))


@pytest.mark.parametrize("total", [1, 6, 7, 12])
def test_last_window_takes_what_is_left(total):
    fixed = WindowLengths(base=6, half_probability=0.0, spread=0.0, smallest=6, largest=6)
    whole, left = divmod(total, 6)
    assert fixed.lengths(total, seed=0, epoch=0).tolist() == [6] * whole + [left] * (left > 0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"base": 91}, "must be 1 <= smallest <= base <= largest, got 5, 91 and 90"),
        ({"smallest": 0}, "got 0, 70 and 90"),
        ({"base": 4}, "got 5, 4 and 90"),
        ({"half_probability": 1.5}, "half_probability must be 0 to 1, got 1.5"),
        ({"half_probability": -0.1}, "half_probability must be 0 to 1, got -0.1"),
        ({"half_probability": float("nan")}, "half_probability must be 0 to 1, got nan"),
        ({"spread": -1.0}, "spread must be finite and at least 0, got -1.0"),
        ({"spread": float("inf")}, "spread must be finite and at least 0, got inf"),
    ],
)
def test_bad_rates(changed, message):
    with pytest.raises(ValueError, match=message):
        WindowLengths(**changed)


def test_a_pass_has_at_least_one_token():
    with pytest.raises(ValueError, match="total must be at least 1 token, got 0"):
        SHORT.lengths(0, seed=0, epoch=0)


@pytest.mark.parametrize(
    "lengths",
    [
        SHORT,
        WindowLengths(),
        WindowLengths(base=9, half_probability=0.5, spread=0.0, smallest=2, largest=12),
        WindowLengths(base=10, half_probability=0.5, spread=8.0, smallest=4, largest=12),
    ],
)
def test_probabilities_are_those_of_the_draws(lengths):
    probabilities = lengths.probabilities()
    assert probabilities.shape == (lengths.largest + 1,)
    assert probabilities.min() >= 0
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)  # double precision, up to 91 terms
    drawn = lengths.lengths(1_000_000, seed=0, epoch=0)[:-1]
    shares = np.bincount(drawn, minlength=lengths.largest + 1) / len(drawn)
    # Five standard errors of each proportion.
    errors = 5 * np.sqrt(probabilities * (1 - probabilities) / len(drawn))
    assert np.all(np.abs(shares - probabilities) <= np.maximum(errors, 1e-12 + 1 / len(drawn)))


def expected(lengths, sizes):
    return sum(
        share * min(size for size in sizes if size >= length)
        for length, share in enumerate(lengths.probabilities())
    )


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("half_probability", [0.05, 0.5])
def test_no_other_sizes_of_that_number_leave_less_padding(count, half_probability):
    lengths = WindowLengths(base=11, half_probability=half_probability, spread=2.0, smallest=3, largest=16)
    sizes = lengths.padded_sizes(count)
    assert len(sizes) == count
    others = itertools.combinations(range(1, lengths.largest), count - 1)
    least = min(expected(lengths, (*other, lengths.largest)) for other in others)
    assert expected(lengths, sizes) == pytest.approx(least, rel=1e-12)  # double precision
    assert lengths.expected_padded(sizes) == pytest.approx(least, rel=1e-12)


def test_sizes_of_the_published_windows():
    """Four sizes save 15 % of the positions, and no less than sizes near the means would."""
    lengths = WindowLengths(largest=85)
    found = lengths.expected_padded(lengths.padded_sizes(4))
    assert found <= expected(lengths, (45, 70, 76, 85))
    assert found < 0.85 * 85


def test_there_are_no_sizes_that_save_nothing():
    fixed = WindowLengths(base=9, half_probability=0.5, spread=0.0, smallest=2, largest=12)
    assert fixed.padded_sizes(9) == (4, 9, 12)
    assert WindowLengths(base=6, spread=0.0, half_probability=0.0, largest=6).padded_sizes(3) == (6,)
    assert SHORT.padded_sizes(99) == tuple(range(2, 9))
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        SHORT.padded_sizes(0)
