"""Fooling rate and the Wilson interval."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binomtest

from absum_jax import accuracy_interval, fooling_rate


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
        (lambda: accuracy_interval(1, 2, 1.0), "confidence"),
        (lambda: fooling_rate(jnp.ones(3), jnp.ones(3, int)), "clean_predictions must be integer"),
        (lambda: fooling_rate(jnp.ones(3, int), jnp.ones(4, int)), r"\(3,\) and \(4,\)"),
        (lambda: fooling_rate(jnp.ones(0, int), jnp.ones(0, int)), "predictions must be"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
