"""Fooling rate, worst case, chance and the Wilson interval."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binomtest

from absum_jax import accuracy_interval, epsilon_at_chance, fooling_rate, worst_case


@pytest.mark.parametrize(("correct", "total"), [(0, 7), (7, 7), (3, 10), (490, 500), (1, 1)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_interval_equals_scipy(correct, total, confidence):
    expected = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    low, high = accuracy_interval(correct, total, confidence)
    # float32 quantile and square root: about ten units in the last place.
    np.testing.assert_allclose([low, high], [expected.low, expected.high], atol=1e-6)
    assert 0 <= low <= high <= 1


def test_interval_of_an_array():
    low, high = accuracy_interval(jnp.array([[1, 2], [3, 4]]), 10)
    assert low.shape == high.shape == (2, 2)


def test_fooling_rate_counts_changes_not_errors():
    clean = jnp.array([0, 1, 2, 2])
    attacked = jnp.array([[0, 1, 2, 2], [1, 1, 0, 2], [1, 0, 0, 0]])
    np.testing.assert_array_equal(fooling_rate(clean, attacked), [0.0, 0.5, 1.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy_interval(3, 2), "correct must lie between 0 and total"),
        (lambda: accuracy_interval(0, 0), "total must be at least 1"),
        (
            lambda: accuracy_interval([1, 2, 3], [4, 5]),
            r"total must be a number or of the shape \(3,\) of correct, got \(2,\)",
        ),
        (lambda: accuracy_interval(1, 2, 1.0), "confidence must lie between 0 and 1, got 1.0"),
        (lambda: accuracy_interval(1, 2, "a"), "confidence must be an array of numbers, got str of dtype <U1"),
        (lambda: accuracy_interval(1, 2, [0.9]), r"confidence must lie between 0 and 1, got \[0.9\]"),
        (lambda: accuracy_interval("a", 2), "correct must be an array of numbers, got str"),
        (lambda: accuracy_interval(1, None), "total must be an array of numbers, got NoneType"),
        (lambda: jax.jit(accuracy_interval)(1, 2, 0.9), "confidence must lie between 0 and 1, got .*Tracer"),
        (lambda: fooling_rate(jnp.ones(3), jnp.ones(3, int)), "clean_predictions must be integer"),
        (lambda: fooling_rate(jnp.ones(3, int), jnp.ones(4, int)), r"\(3,\) and \(4,\)"),
        (lambda: fooling_rate(jnp.ones(0, int), jnp.ones(0, int)), "predictions must be"),
        (lambda: worst_case(jnp.ones(2, int)), "predictions must be of at least one attack, got none"),
        (lambda: worst_case(jnp.ones(2), jnp.ones(2, int)), "labels must be integer classes, got dtype float32"),
        (lambda: worst_case(jnp.ones(0, int), jnp.ones(0, int)), r"labels must have shape \[N\]"),
        (lambda: worst_case(jnp.ones(2, int), jnp.ones(2)), "predictions 0 must be integer classes"),
        (
            lambda: worst_case(jnp.ones(2, int), jnp.ones(2, int), jnp.ones((2, 3), int)),
            r"predictions 1 must have shape \[..., 2\], got \(2, 3\)",
        ),
        (
            lambda: epsilon_at_chance([0.1], [1, 2], 9, num_classes=10),
            r"epsilons and correct must be \[E\] and \[..., E\], got \(1,\), \(2,\)",
        ),
        (
            lambda: epsilon_at_chance([0.1], [1], 9, num_classes=10, confidence="a"),
            "confidence must be an array of numbers",
        ),
        (lambda: epsilon_at_chance(["a"], [1], 9, num_classes=10), "epsilons must be an array of numbers"),
        (lambda: epsilon_at_chance([0.1], ["a"], 9, num_classes=10), "correct must be an array of numbers"),
        (lambda: epsilon_at_chance([-0.1], [1], 9, num_classes=10), "epsilons must be finite and not negative"),
        (lambda: epsilon_at_chance([0.1], [1], 9, num_classes=1), "num_classes must be an integer of at least 2"),
        (lambda: epsilon_at_chance([0.1], [10], 9, num_classes=2), "correct must lie between 0 and total"),
    ],
)
def test_bad_input(call, message, no_shape_types):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_worst_case_is_taken_for_each_example():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 40)
    attacks = [rng.integers(-1, 3, (5, 40)), rng.integers(0, 3, 40), np.tile(labels, (2, 1))]
    attacks[0][:, :20] = labels[:20]
    expected = [all((each.reshape(-1, 40)[:, i] == labels[i]).all() for each in attacks) for i in range(40)]
    found = worst_case(labels, *attacks)
    np.testing.assert_array_equal(found, expected)
    assert 0 < found.sum() < min((each == labels).sum(axis=-1).min() for each in attacks)
    np.testing.assert_array_equal(jax.jit(worst_case)(labels, *attacks), expected)
    np.testing.assert_array_equal(worst_case(labels, attacks[1]), attacks[1] == labels)


def test_a_curve_reaches_chance_where_it_cannot_be_told_from_it():
    epsilons = jnp.array([0.3, 0.1, 0.2])
    # Of 1,000: the 95 % interval of 120 starts at 0.101, that of 117 at 0.099.
    correct = jnp.array([[117, 800, 120], [120, 800, 121], [90, 20, 100], [1000, 1000, 1000]])
    found = jax.jit(lambda counts: epsilon_at_chance(epsilons, counts, 1_000, num_classes=10))(correct)
    np.testing.assert_array_equal(found, np.float32([0.3, np.inf, 0.1, np.inf]))
    low = [float(accuracy_interval(count, 1_000)[0]) for count in (117, 120)]
    assert low[0] < 0.1 < low[1]
    assert epsilon_at_chance(epsilons, correct[1], 1_000, num_classes=10, confidence=0.999) == np.float32(0.2)
