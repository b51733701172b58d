"""The size of a block when the caller names none."""

import jax
import jax.numpy as jnp
import pytest

from sigsoftmax_jax import linear_cross_entropy
from sigsoftmax_jax._vocabulary_blocks import Blocks


@pytest.mark.parametrize(
    ("backend", "least", "multiple"), [("cpu", 512, 16), ("gpu", 2048, 128), ("tpu", 2048, 128)]
)
@pytest.mark.parametrize("tokens", [1, 840, 10**6])
@pytest.mark.parametrize("vocab", [1, 127, 512, 2048, 33_278, 262_144, 1_000_003])
def test_default_blocks_are_sensible_and_even(monkeypatch, backend, least, multiple, tokens, vocab):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    rows = Blocks().words(tokens, vocab)
    if vocab <= least:
        assert rows == vocab
        return
    assert rows == vocab or rows % multiple == 0
    # Enough rows for the matrix units, less what even blocks of one vocabulary need.
    assert rows >= least / 2
    assert rows * tokens <= max(2**21, least * tokens)
    blocks = -(-vocab // rows)
    # What the last block computes a second time is less than a multiple for each block.
    assert blocks * rows - vocab < multiple * blocks
    # Not cut finer than needed.
    assert blocks == -(-vocab // max(2**21 // tokens // multiple * multiple, least))


def test_the_default_never_holds_the_logits():
    tokens, vocab = 4096, 65_536
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((tokens, 8), (vocab, 8))]
    labels = jnp.zeros(tokens, jnp.int32)
    step = jax.grad(lambda h, w: linear_cross_entropy(h, w, labels).sum(), (0, 1))
    temporary = jax.jit(step).lower(*shapes).compile().memory_analysis().temp_size_in_bytes
    # Blocks of 512 of 65,536 words, or 2,048; a few of them at once.
    assert temporary < tokens * vocab * 4 / 4


@pytest.mark.parametrize("size", [1, 7, 99])
def test_a_named_size_is_kept(size):
    assert Blocks(size).words(10, 50) == min(size, 50)
