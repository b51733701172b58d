"""Labels, soft targets and which tokens count: what is known raises, what is traced becomes a loss of NaN."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sigsoftmax_jax._arguments import AnyArray, Shape, check_floating, check_shape, compute_dtype, known_values


class Targets(NamedTuple):
    """What a loss is taken against: words [..., k] with a weight each, or one word of weight 1."""

    ids: Array
    weights: Array | None


def as_targets(
    labels: AnyArray | None,
    weights: AnyArray | None,
    ids: AnyArray | None,
    *,
    tokens: Shape,
    classes: int,
    where: AnyArray | None,
) -> Targets:
    """Integer labels [*tokens], or soft targets [*tokens, k] at ids [*tokens, k]."""
    if labels is not None:
        if weights is not None or ids is not None:
            raise ValueError("labels must be None where targets and target_ids are given, got all")
        check_labels(labels, tokens, classes, where)
        return Targets(jnp.asarray(labels)[..., None], None)
    if weights is None or ids is None:
        raise ValueError("targets and target_ids must be given where labels are None, got None")
    weights, ids = jnp.asarray(weights), jnp.asarray(ids)
    check_floating(targets=weights)
    if weights.shape[:-1] != tokens or weights.ndim != len(tokens) + 1:
        raise ValueError(f"targets must have shape {tokens} and a last dimension, got {weights.shape}")
    check_shape("target_ids", ids.shape, weights.shape, "one word for each target")
    _check_integers("target_ids", ids)
    _check_range("target_ids", ids, classes, where, tokens)
    return Targets(ids, weights)


def check_labels(labels: AnyArray, shape: Shape, classes: int, where: AnyArray | None = None) -> None:
    """Integer labels of this shape; the counted ones in [0, classes) if their values are known."""
    if labels is None:
        raise ValueError("labels must be integers, got None")
    _check_integers("labels", labels)
    check_shape("labels", jnp.shape(labels), shape, "one label per example")
    _check_range("labels", labels, classes, where, shape)


def target_loss(log_probs: Array, targets: Targets, where: AnyArray | None, classes: int) -> Array:
    """-sum_i t_i log p_i [...] of the targets' log-probabilities [..., k], where 0 log 0 = 0."""
    log_probs = nan_where_out_of_range(log_probs, targets.ids, classes)
    if targets.weights is None:
        return -log_probs[..., 0]
    # What does not count has no weight at all: not even NaN, which times 0 would be one.
    weights = zero_uncounted(targets.weights, where, log_probs.shape[:-1])
    wide = compute_dtype(log_probs, weights)
    # The derivative for a weight is -log p, also for a weight of 0.
    terms = jnp.where((weights == 0) & (log_probs == -jnp.inf), 0, log_probs)
    return -jnp.sum(weights.astype(wide) * terms.astype(wide), -1)


def zero_uncounted(array: Array, where: AnyArray | None, tokens: Shape) -> Array:
    """An array [*tokens, ...] with 0 for the tokens that do not count: theirs may be anything, even NaN."""
    if where is None:
        return array
    counted = jnp.broadcast_to(where, tokens)
    return jnp.where(counted.reshape(tokens + (1,) * (array.ndim - len(tokens))), array, 0)


def nan_where_out_of_range(losses: Array, labels: AnyArray, classes: int) -> Array:
    """The losses, NaN where a label is not in [0, classes)."""
    return jnp.where(_in_range(jnp.asarray(labels), classes), losses, jnp.nan)


def _in_range(labels: Array, classes: int) -> Array:
    """Whether each label lies in [0, classes), compared in the dtype of the labels, which may not hold classes."""
    last = min(classes - 1, int(jnp.iinfo(labels.dtype).max))
    return (labels >= 0) & (labels <= last)


def _check_integers(name: str, ids: AnyArray) -> None:
    if not jnp.issubdtype(jnp.result_type(ids), jnp.integer):
        raise ValueError(f"{name} must be integers, got {jnp.result_type(ids)}")


def _check_range(name: str, ids: AnyArray, classes: int, where: AnyArray | None, tokens: Shape) -> None:
    """The counted words [*tokens, ...] lie in [0, classes), if they are known."""
    known_ids, known_where = known_values(ids), True if where is None else known_values(where)
    if known_ids is None or known_where is None or not known_ids.size:
        return
    counted = known_ids[np.broadcast_to(known_where, tokens)]
    if counted.size and not (counted.min() >= 0 and counted.max() < classes):
        raise ValueError(f"{name} must be in [0, {classes}), got {counted.min()} to {counted.max()}")
