"""Cross-entropy on logits for any score, per example and in nats, with its closed-form derivative.

With p the normalised probabilities, the derivative of -log p_y with respect to z_j is
s'(z_j) (p_j - 1[j = y]): that of the softmax, times the slope of the score.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Integer

from sigsoftmax_jax._arguments import (
    AnyArray,
    check_class_axis,
    check_floating,
    check_shape,
    check_smoothing,
    check_where,
    compute_dtype,
    known_values,
)
from sigsoftmax_jax._labels import check_labels, nan_where_out_of_range
from sigsoftmax_jax._score_argument import as_partial
from sigsoftmax_jax._shifted_exponentials import (
    largest_exponent,
    log_total,
    materialized_on_cpu,
    one_where_all_masked,
    push_forward,
    shifted_exponential,
    shifted_score,
)
from sigsoftmax_jax.activations import closed_log_probs, mask_logits
from sigsoftmax_jax.scores import Score, sigsoftmax_score


def cross_entropy_with_integer_labels(
    logits: Float[AnyArray, "..."],
    labels: Integer[AnyArray, "..."],
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
        score: any elementwise log-score; see ``sigsoftmax_jax.scores``.
        axis: the dimension of the classes.
        where: classes (not examples) to keep, broadcast to ``logits``; the others get probability 0 and
            gradient 0. To leave out examples see docs/losses.md.
        label_smoothing: e in [0, 1).

    Returns:
        Losses [...] in nats, float32, or float64 if an input is; inf where the label is masked.

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
    logits = jnp.asarray(logits)
    check_floating(logits=logits)
    axis = check_class_axis(axis, logits.ndim)
    shape = logits.shape
    check_labels(labels, shape[:axis] + shape[axis + 1 :], shape[axis])
    check_where(where, "logits (it masks classes, not examples)", shape)
    form = _Form(axis, check_smoothing(label_smoothing))
    arrays = logits, jnp.asarray(labels), None if where is None else jnp.asarray(where)
    return _losses_of_labels(form, as_partial(score, compute_dtype(logits)), *arrays)


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
        score: any elementwise log-score; see ``sigsoftmax_jax.scores``.
        axis: the dimension of the classes.
        where: classes (not examples) to keep, broadcast to ``logits``; the others get probability 0 and
            gradient 0.
        label_smoothing: e in [0, 1); adds e times the mean of -log p over the unmasked classes to
            1 - e times the loss.

    Returns:
        Losses [...] in nats, float32, or float64 if an input is; inf where a target lies on a masked class.

    Raises:
        ValueError: shapes that differ, ``axis`` out of range, ``where`` that does not broadcast, a dtype
            that is not floating, smoothing outside [0, 1).

    Example:
        >>> import jax.numpy as jnp
        >>> print(f"{cross_entropy(jnp.array([0.0, 1.0, 2.0]), jnp.array([0.0, 0.5, 0.5])):.4f}")
        0.9168
    """
    logits, targets = jnp.asarray(logits), jnp.asarray(targets)
    check_floating(logits=logits, targets=targets)
    axis = check_class_axis(axis, logits.ndim)
    check_shape("targets", targets.shape, logits.shape, "one target per logit")
    check_where(where, "logits (it masks classes, not examples)", logits.shape)
    form = _Form(axis, check_smoothing(label_smoothing))
    where = None if where is None else jnp.asarray(where)
    return _losses_of_targets(form, as_partial(score, compute_dtype(logits, targets)), logits, targets, where)


def perplexity(
    total_nll: Float[AnyArray, "*texts"] | float, num_tokens: Integer[AnyArray, "..."] | int
) -> Float[Array, "*texts"]:
    """Perplexity of a text, or of each of several: exp(total_nll / num_tokens).

    Args:
        total_nll: summed negative log-probability, nats.
        num_tokens: how many tokens it was summed over, of the same shape or one for all.

    Returns:
        The perplexity, of the shape of ``total_nll``; inf where it overflows.

    Raises:
        ValueError: a known ``num_tokens`` below 1, or one of another shape.

    Example:
        >>> print(f"{perplexity(2 * 4.605170, 2):.2f}")
        100.00
    """
    if (known := known_values(num_tokens)) is not None and not np.all(known >= 1):
        raise ValueError(f"num_tokens must be at least 1, got {num_tokens}")
    if (shape := jnp.shape(num_tokens)) not in ((), jnp.shape(total_nll)):
        raise ValueError(f"num_tokens must be one number or have shape {jnp.shape(total_nll)}, got {shape}")
    return jnp.exp(jnp.asarray(total_nll / num_tokens))


class _Form(NamedTuple):
    """Where the classes are, and the weight of the uniform distribution among the targets."""

    axis: int
    smoothing: float


@partial(jax.jit, static_argnums=0)
def _losses_of_labels(form: _Form, score: Partial, logits: Array, labels: Array, where: Array | None) -> Array:
    wide = mask_logits(logits.astype(compute_dtype(logits)), where)
    losses = _label_loss(score, jnp.moveaxis(wide, form.axis, -1), labels.astype(jnp.int32))
    losses = nan_where_out_of_range(losses, labels, logits.shape[form.axis])
    return _smoothed(form, losses, score, wide)


@partial(jax.jit, static_argnums=0)
def _losses_of_targets(form: _Form, score: Partial, logits: Array, targets: Array, where: Array | None) -> Array:
    wide = mask_logits(logits.astype(compute_dtype(logits, targets)), where)
    log_probs = closed_log_probs((form.axis,), score, wide)
    # 0 log 0 = 0; elsewhere the derivative for a target is -log p, also for a target of 0.
    finite_terms = jnp.where((targets == 0) & (log_probs == -jnp.inf), 0, log_probs)
    losses = -jnp.sum(targets.astype(wide.dtype) * finite_terms, form.axis)
    return _smoothed(form, losses, score, wide)


def _smoothed(form: _Form, losses: Array, score: Partial, z: Array) -> Array:
    """The losses mixed with the mean of -log p over the unmasked classes."""
    if not form.smoothing:
        return losses
    live = z > -jnp.inf
    log_probs = jnp.where(live, closed_log_probs((form.axis,), score, z), 0)
    count = jnp.maximum(jnp.sum(live, form.axis), 1).astype(z.dtype)
    return (1 - form.smoothing) * losses - form.smoothing * jnp.sum(log_probs, form.axis) / count


@jax.custom_jvp
def _label_loss(score: Partial, z: Array, labels: Array) -> Array:
    return _loss_and_exponentials(score, z, labels)[0]


@_label_loss.defjvp
@jax.named_scope("label_loss_derivative")
def _(primals: tuple[Partial, Array, Array], tangents: tuple[Partial, Array, Any]) -> tuple[Array, Array]:
    (score, z, labels), (dscore, dz, _) = primals, tangents  # z [..., classes], labels [...]
    losses, exponentials = _loss_and_exponentials(score, z, labels)
    probs = exponentials / one_where_all_masked(jnp.sum(exponentials, -1, keepdims=True))  # [..., classes]
    is_label = jax.lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1) == labels[..., None]
    # The sum over j of (p_j - 1[j = y]) times the tangent of s(z_j).
    tangent = (probs - is_label.astype(probs.dtype)) * push_forward(score, z, dscore, dz)
    return losses, jnp.sum(tangent, -1)


@jax.named_scope("label_loss")
def _loss_and_exponentials(score: Partial, z: Array, labels: Array) -> tuple[Array, Array]:
    """Losses [...], and the unnormalised probabilities [..., classes] they were summed from."""
    shift = largest_exponent(score, z)  # [..., 1]
    exponentials = materialized_on_cpu(shifted_exponential(score, z, shift))
    label_logits = jnp.take_along_axis(z, labels[..., None], -1, mode="clip")  # [..., 1]
    losses = log_total(exponentials) - shifted_score(score, label_logits, shift)
    # With one live class the total may round below its only term: no probability exceeds 1.
    return jnp.maximum(losses[..., 0], 0), exponentials
