"""Labels and which tokens count: what is known raises, what is traced becomes a loss of NaN."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sigsoftmax_jax._arguments import AnyArray, Shape, check_shape, known_values


def check_labels(labels: AnyArray, shape: Shape, classes: int, where: AnyArray | None = None) -> None:
    """Integer labels of this shape; the counted ones in [0, classes) if their values are known."""
    if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise ValueError(f"labels must be integers, got {jnp.result_type(labels)}")
    check_shape("labels", jnp.shape(labels), shape, "one label per example")
    known_labels, known_where = known_values(labels), True if where is None else known_values(where)
    if known_labels is None or known_where is None or not math.prod(shape):
        return
    counted = known_labels[np.broadcast_to(known_where, shape)]
    if counted.size and not (counted.min() >= 0 and counted.max() < classes):
        raise ValueError(f"labels must be in [0, {classes}), got {counted.min()} to {counted.max()}")


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
