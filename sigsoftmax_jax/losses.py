"""Cross-entropy on logits for any score, per example and in nats, with its closed-form derivative.

With p the normalised probabilities, the derivative of -log p_y with respect to z_j is
s'(z_j) (p_j - 1[j = y]): that of the softmax, times the slope of the score.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sigsoftmax_jax.activations import mask, score_log_probs
from sigsoftmax_jax.checks import AnyArray, check_axis, check_floating, check_labels, check_shape
from sigsoftmax_jax.scores import Score, compute_dtype, sigsoftmax_score
from sigsoftmax_jax.weights import log_total, nonzero, peak, shifted_score, slope, weight, written


def cross_entropy_with_integer_labels(
    logits: Float[AnyArray, "..."],
    labels: Int[AnyArray, "..."],
    *,
    score: Score = sigsoftmax_score,
    axis: int = -1,
    where: Bool[AnyArray, "..."] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Array, "..."]:
    """Negative log-probability of each label: log sum_j exp(s(z_j)) - s(z_y).

    With smoothing e, (1 - e) times that plus e times the mean of -log p over the unmasked classes.

    Args:
        logits: [..., classes] (classes on ``axis``), nats; -inf marks a masked class.
        labels: [...], in [0, classes). A traced label out of range gives a loss of NaN.
        score: any elementwise log-score; see ``sigsoftmax_score``.
        axis: the dimension of the classes.
        where: classes to keep, broadcast to ``logits``; the others get probability 0 and gradient 0.
        label_smoothing: e in [0, 1).

    Returns:
        Losses [...] in nats, of the dtype of ``logits``; inf where the label is masked.

    Raises:
        ValueError: labels that are not integers, are out of range (when known) or of another shape; ``axis``
            out of range; ``where`` that does not broadcast; smoothing outside [0, 1).

    Example:
        >>> import jax.numpy as jnp
        >>> logits, labels = jnp.array([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]]), jnp.array([2, 1])
        >>> with jnp.printoptions(precision=4):
        ...     print(cross_entropy_with_integer_labels(logits, labels))
        [0.3237 3.6955]

    References:
        Kanai et al., "Sigsoftmax: Reanalysis of the Softmax Bottleneck", NeurIPS 2018, arXiv:1805.10829.
    """
    check_floating(logits=logits)
    (axis,) = check_axis(axis, jnp.ndim(logits))
    shape = jnp.shape(logits)
    check_labels(labels, shape[:axis] + shape[axis + 1 :], shape[axis])
    _check_smoothing(label_smoothing)
    wide = mask(jnp.asarray(logits, compute_dtype(logits)), where)
    losses = _label_loss(score, jnp.moveaxis(wide, axis, -1), jnp.asarray(labels, jnp.int32))
    if label_smoothing:
        losses = (1 - label_smoothing) * losses + label_smoothing * _mean_loss(score, wide, axis)
    return losses.astype(jnp.result_type(logits))


def cross_entropy(
    logits: Float[AnyArray, "..."],
    targets: Float[AnyArray, "..."],
    *,
    score: Score = sigsoftmax_score,
    axis: int = -1,
    where: Bool[AnyArray, "..."] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Array, "..."]:
    """Cross-entropy against soft targets: -sum_j t_j log p_j, where 0 log 0 = 0.

    Args:
        logits: [..., classes] (classes on ``axis``), nats; -inf marks a masked class.
        targets: probabilities t, of the shape of ``logits``; they need not sum to 1.
        score: any elementwise log-score; see ``sigsoftmax_score``.
        axis: the dimension of the classes.
        where: classes to keep, broadcast to ``logits``; the others get probability 0 and gradient 0.
        label_smoothing: e in [0, 1); adds e times the mean of -log p over the unmasked classes to
            1 - e times the loss.

    Returns:
        Losses [...] in nats, of the dtype of ``logits``; inf where a target lies on a masked class.

    Raises:
        ValueError: shapes that differ, ``axis`` out of range, ``where`` that does not broadcast, a dtype
            that is not floating, smoothing outside [0, 1).

    Example:
        >>> import jax.numpy as jnp
        >>> print(f"{cross_entropy(jnp.array([0.0, 1.0, 2.0]), jnp.array([0.0, 0.5, 0.5])):.4f}")
        0.9168
    """
    check_floating(logits=logits, targets=targets)
    (axis,) = check_axis(axis, jnp.ndim(logits))
    check_shape("targets", jnp.shape(targets), jnp.shape(logits), "one target per logit")
    _check_smoothing(label_smoothing)
    wide = mask(jnp.asarray(logits, compute_dtype(logits, targets)), where)
    log_probs = score_log_probs(score, wide, axis, None)
    used = jnp.asarray(targets) != 0
    losses = -jnp.sum(jnp.where(used, targets * jnp.where(used, log_probs, 0), 0), axis)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses + label_smoothing * _mean_loss(score, wide, axis)
    return losses.astype(jnp.result_type(logits))


def perplexity(total_nll: Float[AnyArray, ""] | float, num_tokens: Int[AnyArray, ""] | int) -> Float[Array, ""]:
    """Perplexity of a text: exp(total_nll / num_tokens).

    Args:
        total_nll: summed negative log-probability, nats.
        num_tokens: how many tokens it was summed over.

    Returns:
        The perplexity, a scalar; inf where it overflows.

    Raises:
        ValueError: a known ``num_tokens`` below 1.

    Example:
        >>> print(f"{perplexity(2 * 4.605170, 2):.2f}")
        100.00
    """
    if not isinstance(num_tokens, jax.core.Tracer) and num_tokens < 1:
        raise ValueError(f"num_tokens must be at least 1, got {num_tokens}")
    return jnp.exp(jnp.asarray(total_nll / num_tokens))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _label_loss(score: Score, z: Array, labels: Array) -> Array:
    return _loss_and_weights(score, z, labels)[0]


@_label_loss.defjvp
def _(score: Score, primals: tuple[Array, Array], tangents: tuple[Array, Any]) -> tuple[Array, Array]:
    (z, labels), (dz, _) = primals, tangents
    losses, weights = _loss_and_weights(score, z, labels)
    probs = weights / nonzero(jnp.sum(weights, -1, keepdims=True))
    is_label = jax.lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1) == labels[..., None]
    return losses, jnp.sum(slope(score, z) * (probs - is_label) * dz, -1)


def _loss_and_weights(score: Score, z: Array, labels: Array) -> tuple[Array, Array]:
    """Losses [...], and the unnormalised probabilities [..., classes] they were summed from."""
    shift = peak(score, z)
    weights = written(weight(score, z, shift))
    in_range = (labels >= 0) & (labels < z.shape[-1])
    label_logits = jnp.take_along_axis(z, jnp.where(in_range, labels, 0)[..., None], -1)
    losses = log_total(weights) - shifted_score(score, label_logits, shift)
    return jnp.where(in_range, losses[..., 0], jnp.nan), weights


def _mean_loss(score: Score, z: Array, axis: int) -> Array:
    """Mean of -log p over the unmasked classes."""
    live = z > -jnp.inf
    log_probs = score_log_probs(score, z, axis, None)
    return -jnp.sum(jnp.where(live, log_probs, 0), axis) / jnp.maximum(jnp.sum(live, axis), 1)


def _check_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
