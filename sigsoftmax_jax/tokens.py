"""Which tokens a per-token loss counts, and what the others and the labels out of range get."""

import jax.numpy as jnp
from jaxtyping import Array

from sigsoftmax_jax.checks import AnyArray


def only_counted(hidden: AnyArray, labels: AnyArray, where: AnyArray | None) -> tuple[Array, Array]:
    """Hidden states and labels with 0 for the tokens that do not count: theirs may be anything."""
    hidden, labels = jnp.asarray(hidden), jnp.asarray(labels, jnp.int32)
    if where is None:
        return hidden, labels
    counted = jnp.broadcast_to(where, labels.shape)
    per_state = counted.reshape(counted.shape + (1,) * (hidden.ndim - counted.ndim))
    return jnp.where(per_state, hidden, 0), jnp.where(counted, labels, 0)


def settled(losses: Array, labels: AnyArray, vocab: int, where: AnyArray | None) -> Array:
    """NaN where a label is out of range, and then 0 where the token does not count."""
    labels = jnp.asarray(labels)
    losses = jnp.where((labels >= 0) & (labels < vocab), losses, jnp.nan)
    return losses if where is None else jnp.where(jnp.broadcast_to(where, losses.shape), losses, 0)
