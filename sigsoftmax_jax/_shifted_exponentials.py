"""exp(s(z) - shift) of a score s, its logarithm and its derivative, evaluated so that nothing overflows.

The shift is the largest exponent of the score, a constant to differentiation. A logit of -inf is a masked word:
its exponential and its slope are 0, whatever the score.
"""

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array

from sigsoftmax_jax.scores import FORMS, ScoreForm, exp_minus_abs, keep_masked

_FORM_OF = {form.score: form for form in FORMS.values()}


def _form(score: Partial) -> ScoreForm:
    """The form of a built-in score; any other is its own exponent."""
    return _FORM_OF.get(score.func) or ScoreForm(score, exponent=keep_masked(score))


def has_bounded_slope(score: Partial) -> bool:
    """Whether the slope is known, and with it that it lies within [0, 2]."""
    return _form(score).slope is not None


def largest_exponent(score: Partial, z: Array, axis: int | tuple[int, ...] = -1) -> Array:
    """Largest exponent along ``axis`` (kept), a constant to differentiation; -inf if all are masked."""
    return jax.lax.stop_gradient(jnp.max(_form(score).exponent(z), axis, keepdims=True, initial=-jnp.inf))


def shifted_score(score: Partial, z: Array, shift: Array) -> Array:
    """s(z) - shift."""
    form = _form(score)
    shifted = form.exponent(z) - zero_where_all_masked(shift)
    # log1p would be twice as slow, for digits below the rounding of a log-probability of 1.
    return shifted - jnp.log(1 + exp_minus_abs(z)) if form.gated else shifted


def shifted_exponential(score: Partial, z: Array, shift: Array) -> Array:
    """exp(s(z) - shift), without a logarithm: the gate divides by 1 + exp(-|z|), in [1, 2]."""
    form = _form(score)
    exponentials = jnp.exp(form.exponent(z) - zero_where_all_masked(shift))
    return exponentials / (1 + exp_minus_abs(z)) if form.gated else exponentials


def push_forward(score: Partial, z: Array, dscore: Partial, dz: Array) -> Array:
    """Tangent of s(z) from those of what the score holds and of z; 0 where z is masked."""
    masked = z == -jnp.inf
    if slope := _form(score).slope:
        return jnp.where(masked, 0, slope(z)) * dz
    _, tangent = jax.jvp(lambda s, z: s(z), (score, jnp.where(masked, 0, z)), (dscore, dz))
    return jnp.where(masked, 0, tangent)


def pull_back(score: Partial, z: Array, gradient: Array) -> tuple[Partial, Array]:
    """Gradients for what the score holds and for z from the one for s(z); none where z is masked."""
    masked = z == -jnp.inf
    gradient = jnp.where(masked, 0, gradient)
    if slope := _form(score).slope:
        return score, slope(z) * gradient
    _, pull = jax.vjp(lambda s, z: s(z), score, jnp.where(masked, 0, z))
    return pull(gradient)


def log_total(exponentials: Array, axis: int | tuple[int, ...] = -1) -> Array:
    """Log of the sum along ``axis`` (kept); 0 for an empty sum, whose log-probabilities are -inf."""
    return jnp.log(one_where_all_masked(jnp.sum(exponentials, axis, keepdims=True)))


def zero_where_all_masked(shift: Array) -> Array:
    """The shift, or 0 where there is nothing to shift, so that -inf - shift stays -inf."""
    return jnp.where(shift == -jnp.inf, 0, shift)


def rescaling(shift: Array, higher: Array) -> Array:
    """exp(shift - higher), which makes a sum relative to a shift (0 if that is -inf) one relative to a higher."""
    return jnp.exp(jnp.where(shift == -jnp.inf, 0, shift - zero_where_all_masked(higher)))


def one_where_all_masked(total: Array) -> Array:
    """The total, or 1 where every entry is masked, so that its exponentials divided by it stay 0."""
    return jnp.where(total == 0, 1, total)


def materialized_on_cpu(x: Array) -> Array:
    """``x``, on a CPU written to memory before it is summed.

    XLA's CPU backend does not vectorise an exponential that it fuses into a reduction, which costs more
    than the extra pass over memory; on an accelerator the fusion is what one wants.
    """
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda y: y)
