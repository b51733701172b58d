"""Exact McNemar test by enumeration, and the paired t test against tables and figures of scipy."""

import functools
import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import accuracy_interval, mcnemar_test, paired_t_test
from absum_jax.comparison import student_t_quantile


def outcomes(both, first_only, second_only, neither):
    """Two bool arrays with so many examples of each kind."""
    counts = [both, first_only, second_only, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@functools.cache
def enumerated(first_only, second_only):
    """The share of all assignments of the unequal examples to the two networks that are at least as uneven."""
    uneven = abs(first_only - second_only)
    splits = itertools.product([1, -1], repeat=first_only + second_only)
    return Fraction(sum(abs(sum(each)) >= uneven for each in splits), 2 ** (first_only + second_only))


@pytest.mark.parametrize("first_only", range(6))
@pytest.mark.parametrize("second_only", [0, 1, 4, 7])
def test_p_is_that_of_all_assignments(first_only, second_only):
    found = mcnemar_test(*outcomes(3, first_only, second_only, 2))
    assert found[:3] == (first_only, second_only, 5 + first_only + second_only)
    assert found.p_value == float(enumerated(first_only, second_only))
    assert found.difference == (first_only - second_only) / found.total
    swapped = mcnemar_test(*reversed(outcomes(3, first_only, second_only, 2)))
    assert swapped.p_value == found.p_value
    assert swapped.difference == -found.difference


def test_p_of_many_examples_is_exact():
    # scipy 1.17: binomtest(4_700, 10_000).pvalue = 2.0760e-09; 1 / 2^1999 is below the smallest float.
    found = mcnemar_test(*outcomes(0, 4_700, 5_300, 0))
    whole = sum(math.comb(10_000, k) for k in range(4_701))
    assert found.p_value == 2 * whole / 2**10_000
    assert found.p_value == pytest.approx(2.0760e-09, rel=1e-3)
    assert mcnemar_test(*outcomes(0, 2_000, 0, 0)).p_value == 0.0


def test_pairs_tell_apart_what_intervals_do_not():
    """90 and 84 of 100 with overlapping intervals, but only one of them ever wrong alone."""
    first, second = outcomes(84, 6, 0, 10)
    (low, _), (_, high) = (accuracy_interval(int(each.sum()), 100) for each in (first, second))
    assert low < high
    assert mcnemar_test(first, second).p_value == 2 / 2**6 < 0.05


def test_jax_arrays_and_lists_are_taken_and_tracers_are_not():
    assert mcnemar_test(jnp.array([True, False]), [False, False]).first_only == 1
    with pytest.raises(ValueError, match="must be known, got traced ones"):
        jax.jit(lambda x: mcnemar_test(x, x).p_value)(jnp.ones(3, bool))


# The 0.975 quantile of Student's distribution, and for 9 degrees of freedom others (printed tables).
QUANTILES = [(1, 0.975, 12.706), (2, 0.975, 4.303), (3, 0.975, 3.182), (4, 0.975, 2.776), (30, 0.975, 2.042)]
QUANTILES += [(9, 0.75, 0.703), (9, 0.95, 1.833), (9, 0.995, 3.250), (9, 0.9995, 4.781), (9, 0.5, 0.0)]


@pytest.mark.parametrize(("dof", "probability", "expected"), QUANTILES)
def test_quantiles_are_those_of_the_tables(dof, probability, expected):
    assert student_t_quantile(probability, dof) == pytest.approx(expected, abs=5.1e-4)


def test_quantiles_of_two_and_many_degrees_of_freedom_are_right_to_rounding():
    # Closed forms: t = (2q - 1) / sqrt(2 q (1 - q)) for two, tan(pi (q - 1/2)) for one; the normal law for many.
    for q in (0.6, 0.9, 0.9999):
        assert student_t_quantile(q, 2) == pytest.approx((2 * q - 1) / math.sqrt(2 * q * (1 - q)), rel=1e-10)
        assert student_t_quantile(q, 1) == pytest.approx(math.tan(math.pi * (q - 0.5)), rel=1e-10)
    assert student_t_quantile(0.975, 10_000) == pytest.approx(1.959963985 + 2.37e-4, abs=1e-5)


FIRST = np.array([[0.62, 0.66, 0.64], [0.10, 0.30, 0.20]])
SECOND = np.array([[0.52, 0.43, 0.50], [0.10, 0.20, 0.30]])
# scipy 1.17: r = ttest_rel(FIRST, SECOND, axis=1); r.pvalue, r.confidence_interval(0.95).
P_VALUES = [0.05526445, 1.0]
LOWS, HIGHS = [-0.00873537, -0.24841377], [0.32206871, 0.24841377]


def test_each_row_is_tested_as_scipy_tests_it():
    found = jax.jit(paired_t_test)(FIRST, SECOND)
    assert found.num_pairs == 3
    np.testing.assert_allclose(found.difference, [0.15666667, 0.0], atol=1e-7)
    np.testing.assert_allclose(found.p_value, P_VALUES, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.low, LOWS, rtol=1e-5)
    np.testing.assert_allclose(found.high, HIGHS, rtol=1e-5)


def test_equal_differences_leave_no_doubt():
    found = paired_t_test([[0.5, 0.75], [0.25, 0.5]], [[0.25, 0.5], [0.25, 0.5]])
    np.testing.assert_array_equal(found.p_value, [0.0, 1.0])
    np.testing.assert_array_equal(found.low, found.high)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, jnp.bfloat16])
@pytest.mark.parametrize("compiled", [False, True])
def test_differences_are_equal_up_to_the_rounding_of_the_values(dtype, compiled):
    # 0.4 - 0.3 and 0.3 - 0.2 differ by rounding; so do 0.1 + 0.2 and 0.3.
    first = np.array([[0.3, 0.4, 0.5, 0.9], [0.1 + 0.2, 0.3, 0.3, 0.7]]).astype(dtype)
    second = np.array([[0.2, 0.3, 0.4, 0.8], [0.3, 0.3, 0.3, 0.7]]).astype(dtype)
    found = (jax.jit(paired_t_test) if compiled else paired_t_test)(first, second)
    np.testing.assert_array_equal(found.p_value, [0.0, 1.0])
    np.testing.assert_array_equal(found.low, found.high)
    np.testing.assert_allclose(found.difference, [0.1, 0.0], atol=2 * float(jnp.finfo(dtype).eps) + 1e-8)


def test_integers_are_exact():
    found = paired_t_test(10**8 + np.array([3, 1, 2]), np.full(3, 10**8))
    expected = paired_t_test([3.0, 1.0, 2.0], [0.0, 0.0, 0.0])
    np.testing.assert_array_equal(found[:4], expected[:4])


def test_known_values_keep_the_digits_of_float64():
    # Differences of 3, 1 and 2 units of 1e-9, which float32 does not tell apart; the reference is exact.
    found = paired_t_test(1.0 + 1e-9 * np.array([3, 1, 2]), np.ones(3))
    spread = student_t_quantile(0.975, 2) / math.sqrt(3)
    np.testing.assert_allclose(found.difference, 2e-9, rtol=1e-6)
    np.testing.assert_allclose([found.low, found.high], [1e-9 * (2 - spread), 1e-9 * (2 + spread)], rtol=1e-6)


def test_the_interval_holds_the_true_difference_as_often_as_it_says():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.3, 1.0, (4_000, 4)), rng.normal(0.0, 2.0, (4_000, 4))
    found = paired_t_test(first.astype(np.float32), second.astype(np.float32), confidence=0.9)
    share = np.mean((found.low <= 0.3) & (found.high >= 0.3))
    assert share == pytest.approx(0.9, abs=3 * math.sqrt(0.9 * 0.1 / 4_000))
    # The interval leaves 0 out where p is below 0.1, and only there.
    np.testing.assert_array_equal((found.low > 0) | (found.high < 0), found.p_value < 0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mcnemar_test(np.ones(3), np.ones(3)), r"must be bools \[N\] .*got float64 \(3,\)"),
        (lambda: mcnemar_test(np.ones(3, bool), np.ones(2, bool)), r"got bool \(3,\) and bool \(2,\)"),
        (lambda: mcnemar_test(np.ones(0, bool), np.ones(0, bool)), "N > 0"),
        (lambda: mcnemar_test(np.ones((2, 2), bool), np.ones((2, 2), bool)), "one length"),
        (lambda: paired_t_test([1.0], [2.0]), r"one shape \[..., n\] with n > 1, got \(1,\)"),
        (lambda: paired_t_test([1.0, 2.0], [2.0, 1.0, 0.0]), r"got \(2,\) and \(3,\)"),
        (lambda: paired_t_test(1.0, 2.0), r"got \(\) and \(\)"),
        (lambda: paired_t_test([1.0, math.nan], [2.0, 1.0]), "first must be finite"),
        (lambda: paired_t_test([1.0, 2.0], [2.0, 1.0], confidence=1.0), "confidence must lie between 0 and 1"),
        (lambda: paired_t_test([1.0, 2.0], [2.0, 1.0], confidence="a"), "confidence must be an array of numbers"),
        (lambda: paired_t_test(["a"], [1.0]), "first must be an array of numbers, got list of dtype <U1"),
        (lambda: paired_t_test([1.0], [[1.0], []]), "second must be an array of numbers, got a ragged list"),
        (lambda: paired_t_test([1.0], [10**30]), "second must be an array of numbers, got list of dtype object"),
    ],
)
def test_bad_input(call, message, no_shape_types):
    with pytest.raises(ValueError, match=message):
        call()
