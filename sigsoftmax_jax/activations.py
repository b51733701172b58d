"""Normalised log-probabilities of a score, with their closed-form derivative.

The derivative of log f_i with respect to z_j is s'(z_j) (delta_ij - f_j). It is given as a Jacobian-vector
product, which JAX transposes for reverse mode and differentiates again for second derivatives.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float

from sigsoftmax_jax._arguments import AnyArray, Axis, check_axis, check_floating, check_where, compute_dtype
from sigsoftmax_jax._score_argument import as_partial
from sigsoftmax_jax._shifted_exponentials import (
    largest_exponent,
    log_total,
    materialized_on_cpu,
    push_forward,
    shifted_score,
)
from sigsoftmax_jax.scores import Score, sigsoftmax_score, softmax_score


def log_normalize(
    scores: Float[AnyArray, "..."], axis: Axis = -1, where: Bool[AnyArray, "..."] | None = None
) -> Float[Array, "..."]:
    """Log-probabilities of log-scores: s_i - log sum_j exp(s_j), shifted by the largest score first.

    Args:
        scores: log-scores s(z), nats; -inf marks a masked entry.
        axis: the dimension or dimensions normalised over; ``None`` for all.
        where: entries (classes) to keep, broadcast to ``scores``; the others get -inf and gradient 0.

    Returns:
        Log-probabilities of the shape and dtype of ``scores``. Where no entry is left, all are -inf.

    Raises:
        ValueError: ``axis`` out of range, ``where`` that does not broadcast, a dtype that does not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from sigsoftmax_jax import relu_score
        >>> with jnp.printoptions(precision=4, suppress=True):
        ...     print(jnp.exp(log_normalize(relu_score(jnp.array([-2.0, 1.0, 3.0])))))
        [0.   0.25 0.75]
    """
    return score_log_probs(softmax_score, scores, axis, where)


def log_sigsoftmax(
    logits: Float[AnyArray, "..."], axis: Axis = -1, where: Bool[AnyArray, "..."] | None = None
) -> Float[Array, "..."]:
    """Log-probabilities of the sigsoftmax: log of exp(z_i) sigmoid(z_i) / sum_j exp(z_j) sigmoid(z_j).

    Signature of ``jax.nn.log_softmax``. Unlike the softmax it depends on a constant added to all logits:
    far above 0 it is softmax(z), far below 0 it is softmax(2 z).

    Args:
        logits: nats; -inf marks a masked entry. Half precision is evaluated in float32.
        axis: the dimension or dimensions normalised over; ``None`` for all.
        where: entries (classes) to keep, broadcast to ``logits``; the others get -inf and gradient 0.

    Returns:
        Log-probabilities of the shape and dtype of ``logits``. Where no entry is left, all are -inf.

    Raises:
        ValueError: ``axis`` out of range, ``where`` that does not broadcast, a dtype that does not fit.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> logits = jnp.array([0.0, 1.0, 2.0])
        >>> with jnp.printoptions(precision=4):
        ...     print(log_sigsoftmax(logits), jax.nn.log_softmax(logits))
        [-2.8899 -1.51   -0.3237] [-2.4076 -1.4076 -0.4076]

    References:
        Kanai et al., "Sigsoftmax: Reanalysis of the Softmax Bottleneck", NeurIPS 2018, arXiv:1805.10829.
    """
    return score_log_probs(sigsoftmax_score, logits, axis, where)


def sigsoftmax(
    logits: Float[AnyArray, "..."], axis: Axis = -1, where: Bool[AnyArray, "..."] | None = None
) -> Float[Array, "..."]:
    """Probabilities of the sigsoftmax: exp(z_i) sigmoid(z_i) / sum_j exp(z_j) sigmoid(z_j).

    Args:
        logits: nats; -inf marks a masked entry. Half precision is evaluated in float32.
        axis: the dimension or dimensions normalised over; ``None`` for all.
        where: entries (classes) to keep, broadcast to ``logits``; the others get 0 and gradient 0.

    Returns:
        Probabilities of the shape and dtype of ``logits``. Where no entry is left, all are 0.

    Raises:
        ValueError: ``axis`` out of range, ``where`` that does not broadcast, a dtype that does not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> with jnp.printoptions(precision=4):
        ...     print(sigsoftmax(jnp.array([0.0, 1.0, 2.0])))
        [0.0556 0.2209 0.7235]

    References:
        Kanai et al., NeurIPS 2018, arXiv:1805.10829.
    """
    logits = jnp.asarray(logits)
    check_floating(logits=logits)
    wide = logits.astype(compute_dtype(logits))
    # Rounded once, after the exponential.
    return jnp.exp(score_log_probs(sigsoftmax_score, wide, axis, where)).astype(logits.dtype)


def score_log_probs(score: Score, logits: AnyArray, axis: Axis, where: AnyArray | None) -> Array:
    """Log-probabilities of any score: checks, mask and dtype around the closed form."""
    logits = jnp.asarray(logits)
    check_floating(logits=logits)
    axes = check_axis(axis, logits.ndim)
    check_where(where, "logits", logits.shape)
    where = None if where is None else jnp.asarray(where)
    return _rounded_log_probs(axes, as_partial(score, compute_dtype(logits)), logits, where)


def mask_logits(logits: Array, where: Array | None) -> Array:
    """-inf where ``where`` is False."""
    return logits if where is None else jnp.where(jnp.broadcast_to(where, logits.shape), logits, -jnp.inf)


@partial(jax.jit, static_argnums=0)
def _rounded_log_probs(axes: tuple[int, ...], score: Partial, logits: Array, where: Array | None) -> Array:
    wide = mask_logits(logits.astype(compute_dtype(logits)), where)
    return closed_log_probs(axes, score, wide).astype(logits.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
@jax.named_scope("score_log_probs")
def closed_log_probs(axes: tuple[int, ...], score: Partial, z: Array) -> Array:
    """The log-probabilities of logits in the wide dtype."""
    # s(z) - shift is rounded at the size of the log-probability, not of the logit; its exponential is at most 1.
    shifted = materialized_on_cpu(shifted_score(score, z, largest_exponent(score, z, axes)))
    # With one live entry the total may round below its only term: no probability exceeds 1.
    return jnp.minimum(shifted - log_total(materialized_on_cpu(jnp.exp(shifted)), axes), 0)


@closed_log_probs.defjvp
@jax.named_scope("score_log_probs_derivative")
def _(
    axes: tuple[int, ...], primals: tuple[Partial, Array], tangents: tuple[Partial, Array]
) -> tuple[Array, Array]:
    score, z = primals
    log_probs = closed_log_probs(axes, score, z)
    # d log f_i = ds_i - sum_j f_j ds_j, with ds_j = s'(z_j) dz_j.
    tangent = push_forward(score, z, *tangents)
    mean = jnp.sum(jnp.exp(log_probs) * tangent, axes, keepdims=True)
    return log_probs, jnp.where(z == -jnp.inf, 0, tangent - mean)
