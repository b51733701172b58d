"""Numerical rank of a log-probability matrix, from the matrix or streamed in blocks of contexts, its rows."""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sigsoftmax_jax._arguments import AnyArray, check_floating
from sigsoftmax_jax._streamed_qr import append_columns

# Contexts folded in at a time, however the blocks are cut: enough for matrix products, few beside the vocabulary.
BLOCK_CONTEXTS = 4096


@dataclasses.dataclass(frozen=True)
class RankReport:
    """Rank of a matrix with what it depends on: a rank without its dtype and tolerance says little.

    Args:
        rank: how many singular values exceed ``tolerance``.
        singular_values: min(m, n) of them in descending order; ``singular_values[:k]`` are the leading ones.
        tolerance: absolute.
        dtype: the dtype that the matrix came in, whose eps the default tolerance uses.
        shape: (m, n).
    """

    rank: int
    singular_values: np.ndarray
    tolerance: float
    dtype: np.dtype
    shape: tuple[int, int]

    def effective_rank(self, epsilon: float = 1e-3) -> int:
        """Fewest singular values whose squares hold 1 - epsilon of the sum of all squares.

        Args:
            epsilon: the share of the squared Frobenius norm left out, in (0, 1).

        Returns:
            The count; 0 for a zero matrix.

        Raises:
            ValueError: ``epsilon`` outside (0, 1).

        Example:
            >>> log_prob_rank(np.diag([10.0, 1.0, 0.1])).effective_rank(0.01)
            1
        """
        if not 0 < epsilon < 1:
            raise ValueError(f"epsilon must be in (0, 1), got {epsilon}")
        largest = self.singular_values[0]
        if largest == 0:
            return 0
        # From the smallest up, so that a tail far below the leading square is not lost to rounding; relative
        # to the largest, whose square may be beyond float64.
        tails = np.cumsum(np.square(self.singular_values[::-1] / largest))
        return int(np.sum(tails > epsilon * tails[-1]))

    def __str__(self) -> str:
        leading = ", ".join(f"{value:.4g}" for value in self.singular_values[:5])
        return (
            f"rank {self.rank} of {self.shape[0]} x {self.shape[1]} {self.dtype} at tolerance "
            f"{self.tolerance:.3g}; {self.effective_rank():d} singular values hold 99.9 % of the squares; "
            f"leading {leading}"
        )


def log_prob_rank(log_probs: Float[AnyArray, "contexts vocab"], *, tolerance: float | None = None) -> RankReport:
    """Numerical rank: how many singular values exceed the tolerance.

    The default tolerance is 0.5 sqrt(m + n + 1) s_max eps(dtype), with the eps of the dtype that the entries
    come in: rounding to bfloat16 alone gives a matrix full rank far above the eps of float32. The decomposition
    itself is in float64.

    Args:
        log_probs: [m, n], one row per context; finite.
        tolerance: absolute threshold; ``None`` for the default.

    Returns:
        A ``RankReport``.

    Raises:
        ValueError: not a finite floating-point matrix with a context, a tolerance that is negative or not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> print(log_prob_rank(jnp.outer(jnp.arange(1.0, 4.0), jnp.ones(5))).rank)
        1

    References:
        Press et al., Numerical Recipes, 3rd ed., section 2.6, for the tolerance; Yang et al., ICLR 2018,
        arXiv:1711.03953, for the rank of a language model.
    """
    _check_tolerance(tolerance)
    matrix, dtype = _checked(log_probs, None)
    if not len(matrix):
        raise ValueError(f"log_probs must have at least one context, got {matrix.shape}")
    values = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    return _report(values, matrix.shape, dtype, tolerance)


def streamed_log_prob_rank(blocks: Iterable[AnyArray], *, tolerance: float | None = None) -> RankReport:
    """``log_prob_rank`` of the contexts of all blocks, in the memory of min(m, n) x n and its decomposition.

    Contexts beyond the n-th are folded, in float64 and at 2 n^2 operations each, into the triangular factor
    of an orthogonal factorisation, which has the singular values of the whole matrix: Householder reflections
    keep the small ones to eps times the largest, where the Gram matrix would lose all below sqrt(eps) times
    the largest.

    Args:
        blocks: matrices [any number of contexts, n], for example the log-probabilities of one batch each.
        tolerance: absolute threshold; ``None`` for the default of ``log_prob_rank``.

    Returns:
        A ``RankReport``.

    Raises:
        ValueError: no context, blocks of different width or dtype, entries that are not finite; before the first
            block, a tolerance that is negative or not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> blocks = (jnp.outer(jnp.arange(i, i + 2.0), jnp.ones(5)) for i in range(0, 6, 2))
        >>> report = streamed_log_prob_rank(blocks)
        >>> print(report.rank, report.shape)
        1 (6, 5)
    """
    _check_tolerance(tolerance)
    factor = waiting = np.zeros((0, 0))
    dtype, contexts = None, 0
    for block in blocks:
        matrix, dtype = _checked(block, dtype)
        if not contexts:
            vocab = matrix.shape[1]
            factor, waiting = np.zeros((vocab, 0)), np.zeros((vocab, BLOCK_CONTEXTS))
        if matrix.shape[1] != len(factor):
            raise ValueError(f"blocks must have {len(factor)} columns as the first, got {matrix.shape}")
        for part in _cut(matrix, contexts % BLOCK_CONTEXTS):
            filled = contexts % BLOCK_CONTEXTS + len(part)
            waiting[:, filled - len(part) : filled] = part.T
            if filled == BLOCK_CONTEXTS:
                factor = _fold(factor, waiting)
            contexts += len(part)
    if dtype is None or not contexts:
        raise ValueError("blocks must have at least one context, got none")
    factor = _fold(factor, waiting[:, : contexts % BLOCK_CONTEXTS])
    values = np.linalg.svd(factor, compute_uv=False)
    return _report(values, (contexts, len(factor)), dtype, tolerance)


def _fold(factor: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A factor of [factor, columns] with at most as many columns as rows: the whole of it, or a triangle."""
    vocab, width = factor.shape
    if width + columns.shape[1] <= vocab:
        return np.concatenate([factor, columns], axis=1)
    if width < vocab:
        factor = _fold(np.zeros((vocab, vocab)), factor)
    append_columns(factor, columns)
    return factor


def _cut(matrix: np.ndarray, filled: int) -> list[np.ndarray]:
    """The contexts in parts that end where the block of contexts, of which some are filled, is full."""
    return np.split(matrix, range(BLOCK_CONTEXTS - filled, len(matrix), BLOCK_CONTEXTS))


def _checked(log_probs: AnyArray, expected: np.dtype | None) -> tuple[np.ndarray, np.dtype]:
    """The entries in float32 or float64, and the dtype that they came in."""
    if isinstance(log_probs, jax.core.Tracer):
        raise ValueError("log_probs must be known: the rank is computed on the host, outside of jax.jit")
    log_probs = np.asarray(log_probs)
    check_floating(log_probs=log_probs)
    if np.ndim(log_probs) != 2 or np.shape(log_probs)[1] < 1:
        raise ValueError(f"log_probs must be [contexts, vocab], got {np.shape(log_probs)}")
    dtype = np.dtype(log_probs.dtype)
    matrix = np.asarray(log_probs, np.result_type(dtype, np.float32))
    if not (finite := np.isfinite(matrix)).all():
        raise ValueError(f"log_probs must be finite (a masked word has no rank), got {matrix[~finite][0]}")
    if expected is not None and dtype != expected:
        raise ValueError(f"blocks must have dtype {expected} as the first, got {dtype}")
    return matrix, dtype


def _report(values: np.ndarray, shape: tuple[int, ...], dtype: np.dtype, tolerance: float | None) -> RankReport:
    """Count the values above the tolerance."""
    if tolerance is None:
        tolerance = float(0.5 * np.sqrt(sum(shape) + 1) * values[0] * float(jnp.finfo(dtype).eps))
    rank = int(np.sum(values > tolerance))
    return RankReport(rank, values, tolerance, dtype, (shape[0], shape[1]))


def _check_tolerance(tolerance: float | None) -> None:
    if tolerance is not None and (np.ndim(tolerance) or not 0 <= tolerance < np.inf):
        raise ValueError(f"tolerance must be finite and not negative, got {tolerance}")
