"""The linear loss with blocks of the vocabulary of several sizes, against the size that it takes by itself."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.accelerator.work import Budget, Call, Pieces
from benchmarks.loss_products import default_block_size
from benchmarks.measure import median_seconds
from sigsoftmax_jax import linear_cross_entropy

TOKENS = (512, 2_048, 8_192)
# Words and width of the embedding: of WikiText-2 in AWD-LSTM, of GPT-2, of Llama 3.
EMBEDDINGS = ((33_278, 400), (50_257, 768), (128_256, 4_096))
DTYPES = ("float32", "bfloat16")


def pieces(call: Call) -> Pieces:
    """A piece for each shape and dtype."""
    shapes = [(8, 640, 4)] if call.tiny else [(tokens, *size) for size in EMBEDDINGS for tokens in TOKENS]
    return {
        f"{tokens} x {width} x {vocab}, {dtype}": functools.partial(
            _times, call.budget, (tokens, vocab, width), dtype, repeats=1 if call.tiny else 5
        )
        for tokens, vocab, width in shapes
        for dtype in DTYPES
    }


def _times(budget: Budget, shape: tuple[int, int, int], dtype: str, *, repeats: int) -> dict[str, Any]:
    """Median seconds of value and gradients by block size."""
    tokens, vocab, width = shape
    keys = jax.random.split(jax.random.key(0), 3)
    hidden = jax.random.normal(keys[0], (tokens, width), dtype)
    embedding = (width**-0.5 * jax.random.normal(keys[1], (vocab, width))).astype(dtype)
    labels = jax.random.randint(keys[2], (tokens,), 0, vocab)

    def seconds(size: int | None) -> float:
        budget.require()

        def mean_loss(hidden: jax.Array, embedding: jax.Array) -> jax.Array:
            return jnp.mean(linear_cross_entropy(hidden, embedding, labels, block_size=size))

        step = jax.jit(jax.value_and_grad(mean_loss, (0, 1)))
        return median_seconds(lambda: step(hidden, embedding), repeats=repeats)

    by_size = {size: seconds(size) for size in (*(2**i for i in range(9, 17, 2) if 2**i < vocab), vocab)}
    default = seconds(None)
    return {
        "default_block_size": default_block_size(tokens, vocab),
        "default_seconds": default,
        "seconds_by_block_size": by_size,
        "fastest_block_size": min(by_size, key=lambda size: by_size[size]),
        "default / fastest": default / min(by_size.values()),
    }
