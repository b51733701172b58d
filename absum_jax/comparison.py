"""Two networks on the same images, or two methods on the same seeds: whether they differ by more than chance."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betainc
from jaxtyping import Array, Float

from absum_jax._argument_checks import concrete, require_finite
from absum_jax._types import ArrayOrNumpy, Values
from absum_jax.robustness import require_confidence


class McNemarTest(NamedTuple):
    """What :func:`mcnemar_test` found.

    Args:
        first_only, second_only: examples that only the first, or only the second, has right.
        total: number of examples.
        p_value: probability of a split at least as uneven if both were right equally often; two-sided.
    """

    first_only: int
    second_only: int
    total: int
    p_value: float

    @property
    def difference(self) -> float:
        """Accuracy of the first less that of the second."""
        return (self.first_only - self.second_only) / self.total


class PairedTTest(NamedTuple):
    """What :func:`paired_t_test` found; arrays of the shape of the values without their last axis.

    Args:
        difference: mean of first - second.
        low, high: its confidence interval.
        p_value: probability of a mean at least as far from 0 if the true one were 0; two-sided.
        num_pairs: n, how many there were.
    """

    difference: Float[Array, "..."]
    low: Float[Array, "..."]
    high: Float[Array, "..."]
    p_value: Float[Array, "..."]
    num_pairs: int


def mcnemar_test(first_correct: Values, second_correct: Values) -> McNemarTest:
    r"""Exact McNemar test of two networks on the same examples, or of one under two attacks.

    With b examples that only the first has right and c that only the second has,

    .. math:: p = \min\Big(1,\ 2^{1-b-c} \sum_{k=0}^{\min(b, c)} \binom{b+c}{k} \Big)

    Examples that both have right, or both wrong, say nothing about the difference; the intervals of the two
    accuracies ignore the pairs and are wider than they need be. What varies from one training to the next is not
    in it: for that take several seeds and :func:`paired_t_test`.

    Args:
        first_correct, second_correct: bool [N], in the order of the same examples, for example
            ``predictions == labels`` or :func:`worst_case`.

    Returns:
        A :class:`McNemarTest` of Python numbers. The sum is one of integers, so that p is exact; the values must
        be known, not traced.

    Raises:
        ValueError: unless both are known bools [N] of one length, not empty.

    Example:
        >>> import jax.numpy as jnp
        >>> first, second = jnp.arange(10) < 9, jnp.arange(10) < 3
        >>> mcnemar_test(first, second)
        McNemarTest(first_only=6, second_only=0, total=10, p_value=0.03125)

    References:
        McNemar, Note on the Sampling Error of the Difference between Correlated Proportions or Percentages,
        Psychometrika 12 (1947).
    """
    first, second = concrete(first_correct), concrete(second_correct)
    if first is None or second is None:
        raise ValueError("first_correct and second_correct must be known, got traced ones")
    if (
        first.dtype != bool
        or second.dtype != bool
        or first.ndim != 1
        or first.shape != second.shape
        or not first.size
    ):
        raise ValueError(
            "first_correct and second_correct must be bools [N] of one length N > 0, "
            f"got {first.dtype} {first.shape} and {second.dtype} {second.shape}"
        )
    first_only, second_only = int((first & ~second).sum()), int((second & ~first).sum())
    return McNemarTest(first_only, second_only, len(first), _two_sided_binomial(first_only, second_only))


def _two_sided_binomial(heads: int, tails: int) -> float:
    """Probability that a fair coin splits at least as unevenly."""
    num_flips = heads + tails
    term, ways = 1, 0  # binomial(num_flips, k), and their sum
    for k in range(min(heads, tails) + 1):
        ways += term
        term = term * (num_flips - k) // (k + 1)
    return min(1.0, 2 * ways / 2**num_flips)


def paired_t_test(first: Values, second: Values, *, confidence: float = 0.95) -> PairedTTest:
    r"""Student's t test and interval of the mean difference of pairs, for example of two methods over seeds.

    .. math:: \bar d \pm t_{n-1} \, s / \sqrt n, \qquad d_i = \text{first}_i - \text{second}_i

    with s the standard deviation of the n differences (divisor n - 1) and t the (1 + confidence) / 2 quantile of
    Student's distribution. The pairs must share what they can: seed, data order and images. A few seeds give wide
    intervals: with n = 3, t is 4.30.

    Args:
        first, second: floats [..., n] of one shape, n >= 2 pairs in the last axis; each leading entry, such as an
            epsilon, is a test of its own. Many tests find some small p by chance.
        confidence: in (0, 1), default 0.95; compiled in, not traced.

    Returns:
        A :class:`PairedTTest`, computed in float64 unless the values are traced. Where all differences are equal
        up to the rounding of the values, p is 0, or 1 if they are zero.

    Raises:
        ValueError: if shapes differ, there are fewer than two pairs, a value is no finite number, or confidence is
            outside (0, 1).

    Example:
        >>> test = paired_t_test([0.62, 0.66, 0.64], [0.52, 0.43, 0.50])
        >>> [round(float(x), 3) for x in (test.difference, test.low, test.high, test.p_value)]
        [0.157, -0.009, 0.322, 0.055]

    References:
        Student, The Probable Error of a Mean, Biometrika 6 (1908).
    """
    require_confidence(confidence)
    require_finite("first", first)
    require_finite("second", second)
    known_first, known_second = concrete(first), concrete(second)
    if known_first is None or known_second is None:
        first, second = jnp.asarray(first), jnp.asarray(second)
    else:
        first, second = known_first, known_second
    if first.shape != second.shape or first.ndim == 0 or first.shape[-1] < 2:
        raise ValueError(
            f"first and second must have one shape [..., n] with n > 1, got {first.shape} and {second.shape}"
        )
    count = first.shape[-1]
    mean, variance = _mean_difference(first, second)
    spread = student_t_quantile((1 + confidence) / 2, count - 1) * variance**0.5
    # P(|t| >= found) as an incomplete beta function of dof / (dof + t^2), without a division by zero.
    unexplained, all_of_it = (count - 1) * variance, (count - 1) * variance + mean**2
    share = jnp.where(all_of_it > 0, unexplained / jnp.where(all_of_it > 0, all_of_it, 1.0), 1.0)
    p_value = betainc((count - 1) / 2, 0.5, share)
    difference, low, high = (jnp.asarray(x, dtype=float) for x in (mean, mean - spread, mean + spread))
    return PairedTTest(difference, low, high, p_value, count)


def _mean_difference(first: ArrayOrNumpy, second: ArrayOrNumpy) -> tuple[ArrayOrNumpy, ArrayOrNumpy]:
    """The mean [...] of the differences and its variance, in float64 for NumPy arrays.

    Differences that are equal, or zero, up to the rounding of the values are taken for it: 0.4 - 0.3 is not quite
    0.3 - 0.2.
    """
    array_module: Any = np if isinstance(first, np.ndarray) else jnp
    dtypes = first.dtype, second.dtype
    first, second = (array_module.asarray(x, dtype=float) for x in (first, second))
    differences = first - second  # [..., n]
    # Of the coarsest type that they were rounded to; integers were not.
    eps = max(float(jnp.finfo(d).eps) for d in (*dtypes, differences.dtype) if jnp.issubdtype(d, jnp.floating))
    mean = differences.mean(axis=-1)
    variance = differences.var(axis=-1, ddof=1) / differences.shape[-1]
    # Between two differences: four values, each off by up to eps / 2 of itself, and two subtractions by as much.
    rounding = 4 * eps * array_module.maximum(abs(first), abs(second)).max(axis=-1)
    are_equal = differences.max(axis=-1) - differences.min(axis=-1) <= rounding
    are_zero = are_equal & (abs(mean) <= rounding)
    return array_module.where(are_zero, 0.0, mean), array_module.where(are_equal, 0.0, variance)


def student_t_quantile(probability: float, dof: int) -> float:
    """The quantile of Student's t distribution for a probability from 1/2 to 1 and whole degrees of freedom.

    By bisection of the angle theta = atan(t / sqrt(dof)), in which the distribution is a finite sum.

    Example:
        >>> round(student_t_quantile(0.975, 2), 4)
        4.3027
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # down to the rounding of float64
        middle = (low + high) / 2
        low, high = (middle, high) if _central_probability(middle, dof) < 2 * probability - 1 else (low, middle)
    return math.sqrt(dof) * math.tan(low)


def _central_probability(theta: float, dof: int) -> float:
    """P(|t| <= sqrt(dof) tan(theta)): Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    sine, cosine = math.sin(theta), math.cos(theta)
    if dof % 2:  # (2/pi) (theta + sin (cos + 2/3 cos^3 + 2 4/(3 5) cos^5 + ...)), up to cos^(dof - 2)
        term, total = cosine, 0.0
        for k in range(3, dof + 1, 2):
            total, term = total + term, term * cosine**2 * (k - 1) / k
        return 2 / math.pi * (theta + sine * total)
    term, total = 1.0, 0.0  # sin (1 + 1/2 cos^2 + 1 3/(2 4) cos^4 + ...), up to cos^(dof - 2)
    for k in range(2, dof + 1, 2):
        total, term = total + term, term * cosine**2 * (k - 1) / k
    return sine * total
