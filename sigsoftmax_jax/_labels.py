"""Which tokens a per-token loss counts, and what the others and the labels out of range get."""

import jax.numpy as jnp
from jaxtyping import Array

from sigsoftmax_jax._arguments import AnyArray


def only_counted(array: Array, where: AnyArray | None, tokens: tuple[int, ...]) -> Array:
    """An array [*tokens, ...] with 0 for the tokens that do not count: theirs may be anything, even NaN."""
    if where is None:
        return array
    counted = jnp.broadcast_to(where, tokens)
    return jnp.where(counted.reshape(tokens + (1,) * (array.ndim - len(tokens))), array, 0)


def only_counted_losses(losses: Array, labels: AnyArray, classes: int, where: AnyArray | None = None) -> Array:
    """NaN where a label is out of range, and then 0 where the token does not count."""
    losses = jnp.where(in_range(jnp.asarray(labels), classes), losses, jnp.nan)
    return only_counted(losses, where, losses.shape)


def in_range(labels: Array, classes: int) -> Array:
    """Whether each label lies in [0, classes), compared in the dtype of the labels, which may not hold classes."""
    last = min(classes - 1, int(jnp.iinfo(labels.dtype).max))
    return (labels >= 0) & (labels <= last)
