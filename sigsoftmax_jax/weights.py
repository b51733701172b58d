"""A score evaluated relative to a shift, so that its exponential never overflows.

Every function here reads a logit of -inf as a masked word: weight 0 and slope 0, whatever the score.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sigsoftmax_jax.scores import Score, minus_abs, sigmoid_score, sigsoftmax_score, softmax_score


class _Split(NamedTuple):
    """s(z) = exponent(z), or exponent(z) - log1p(exp(-|z|)) where ``gated``.

    The exponent is piecewise linear, hence exact, and the rest lies in [-log 2, 0]: subtracting the
    shift from the exponent alone rounds once, at the size of the result and not of the logit.
    """

    exponent: Callable[[Array], Array]
    gated: bool


_SPLITS: dict[Score, _Split] = {
    softmax_score: _Split(lambda z: z, gated=False),
    sigsoftmax_score: _Split(lambda z: jnp.where(z > 0, z, 2 * z), gated=True),
    sigmoid_score: _Split(lambda z: jnp.where(z > 0, 0, z), gated=True),
}


def _split(score: Score) -> _Split:
    """The split of a known score; any other is its own exponent, evaluated away from -inf."""

    def exponent(z: Array) -> Array:
        masked = z == -jnp.inf
        return jnp.where(masked, -jnp.inf, score(jnp.where(masked, 0, z)))

    return _SPLITS.get(score, _Split(exponent, gated=False))


def peak(score: Score, z: Array, axis: int | tuple[int, ...] = -1) -> Array:
    """Largest exponent along ``axis`` (kept), a constant to differentiation; -inf if all are masked."""
    return jax.lax.stop_gradient(jnp.max(_split(score).exponent(z), axis, keepdims=True, initial=-jnp.inf))


def finite(shift: Array) -> Array:
    """The shift, or 0 where there is nothing to shift, so that -inf - shift stays -inf."""
    return jnp.where(shift == -jnp.inf, 0, shift)


def shifted_score(score: Score, z: Array, shift: Array) -> Array:
    """s(z) - shift."""
    exponent, gated = _split(score)
    shifted = exponent(z) - finite(shift)
    # log1p would be twice as slow, for digits below the rounding of a log-probability of 1.
    return shifted - jnp.log(1 + jnp.exp(minus_abs(z))) if gated else shifted


def weight(score: Score, z: Array, shift: Array) -> Array:
    """exp(s(z) - shift), without a logarithm: the gate divides by 1 + exp(-|z|), in [1, 2]."""
    exponent, gated = _split(score)
    weights = jnp.exp(exponent(z) - finite(shift))
    return weights / (1 + jnp.exp(minus_abs(z))) if gated else weights


def slope(score: Score, z: Array) -> Array:
    """s'(z), and 0 where z is masked."""
    masked = z == -jnp.inf
    _, slopes = jax.jvp(score, (jnp.where(masked, 0, z),), (jnp.ones_like(z),))
    return jnp.where(masked, 0, slopes)


def log_total(weights: Array, axis: int | tuple[int, ...] = -1) -> Array:
    """Log of the sum along ``axis`` (kept); 0 for an empty sum, whose log-probabilities are -inf."""
    return jnp.log(nonzero(jnp.sum(weights, axis, keepdims=True)))


def nonzero(total: Array) -> Array:
    """The total, or 1 where every entry is masked, so that its weights divided by it stay 0."""
    return jnp.where(total == 0, 1, total)


def written(x: Array) -> Array:
    """``x``, on a CPU written out before it is summed.

    XLA's CPU backend does not vectorise an exponential that it fuses into a reduction, which costs more
    than the extra pass over memory; on an accelerator the fusion is what one wants.
    """
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda y: y)
