"""The matrix products of a blocked loss, in its own blocks: what the rest of the loss is held against."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from sigsoftmax_jax._vocabulary_blocks import Blocks, _write_at


def default_block_size(tokens: int, vocab: int) -> int:
    """Rows of the embedding in a block where the caller names no size."""
    return Blocks().words(tokens, vocab)


def loss_products(hidden: Array, embedding: Array) -> tuple[Array, Array, Array]:
    """In every block of the vocabulary one product forward, and three backward.

    The blocks are those that the library takes by itself, products of half precision accumulate in float32 and a
    block of a gradient is written, as there: products of the whole vocabulary at once, which have no such loop,
    can be quicker where they fit. What a product gives is handed on, so that the compiler removes none.

    Args:
        hidden: [tokens, d].
        embedding: [V, d].

    Returns:
        The last block's logits [tokens, block], and products of the shapes of both arguments.
    """
    vocab, multiply = len(embedding), partial(jnp.matmul, preferred_element_type=jnp.float32)
    size = default_block_size(len(hidden), vocab)

    def rows(index: Array) -> tuple[Array, Array]:
        start = jnp.minimum(index * size, vocab - size)
        return start, jax.lax.dynamic_slice_in_dim(embedding, start, size)

    def forward(index: Array, logits: Array) -> Array:
        del logits
        return multiply(hidden, rows(index)[1].T)

    def backward(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        start, block = rows(index)
        logits = multiply(hidden, block.T).astype(hidden.dtype)
        return multiply(logits, block), _write_at(carry[1], multiply(logits.T, hidden), start)

    blocks = -(-vocab // size)
    logits = jax.lax.fori_loop(0, blocks, forward, jnp.zeros((len(hidden), size)))
    zeros = jnp.zeros(hidden.shape), jnp.zeros_like(embedding)
    return logits, *jax.lax.fori_loop(0, blocks, backward, zeros)
