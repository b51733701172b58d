"""The pass over the vocabulary, block by block: label log-probabilities without tokens x vocabulary logits.

Forward, an online log-sum-exp: each block rescales the running total to the largest exponent so far.
Backward, each block of logits is computed again from the hidden states and the embedding; its gradient
s'(z_j) (a p_j + b 1[j = y]) goes into those of hidden, embedding and bias and is dropped.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array

from sigsoftmax_jax._score_argument import bound
from sigsoftmax_jax._sharding import automatic, combined, local_labels, match_varying, summed
from sigsoftmax_jax._shifted_exponentials import finite, nonzero, peak, pull_back, shifted_score, weight, written
from sigsoftmax_jax.scores import Score, compute_dtype

# Logits in one block when the caller names no size: 8 MiB in float32, which stays in a CPU's cache and
# still fills an accelerator; but never fewer than 512 rows of the embedding, for the matrix units.
BLOCK_LOGITS = 2**21
SMALLEST_BLOCK = 512

Carry = TypeVar("Carry")
Head = tuple[Array, Array, Array | None]
Residuals = tuple[Partial, Head, Array, Array, Array]


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How the vocabulary is cut: rows of the embedding in a block, and the axis they are sharded over."""

    size: int | None = None
    axis_name: str | None = None

    def rows(self, tokens: int, vocab: int) -> int:
        """Rows of the embedding in a block; all of them where the block is larger."""
        sensible = max(BLOCK_LOGITS // max(tokens, 1) // 128 * 128, SMALLEST_BLOCK)
        # Blocks of equal size that hold the vocabulary with little to spare: what is left over is computed twice.
        count = -(-vocab // sensible)
        even = -(-vocab // count // 128) * 128
        return min(self.size or even, vocab)


def label_log_probs(blocks: Blocks, score: Score, head: Head, labels: Array) -> tuple[Array, Array]:
    """Log-probabilities of labels [...], and log normalisers [...], of hidden states [..., d]."""
    hidden, embedding, _ = head
    run = automatic(partial(_label_log_probs, blocks), hidden, labels.ndim)
    return run(bound(score, compute_dtype(hidden, embedding)), head, labels)


@partial(jax.jit, static_argnums=0)
def _label_log_probs(blocks: Blocks, score: Partial, head: Head, labels: Array) -> tuple[Array, Array]:
    hidden, embedding, bias = head
    score, hidden = match_varying((score, hidden), hidden, labels)
    embedding, bias = match_varying((embedding, bias), hidden, embedding)
    rows = hidden.reshape(-1, hidden.shape[-1])
    outputs = _blocked(blocks, score, (rows, embedding, bias), labels.ravel().astype(jnp.int32))
    return outputs[0].reshape(labels.shape), outputs[1].reshape(labels.shape)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _blocked(blocks: Blocks, score: Partial, head: Head, labels: Array) -> tuple[Array, Array]:
    return _forward(blocks, score, head, labels)[0]


def _forward(blocks: Blocks, score: Partial, head: Head, labels: Array) -> tuple[tuple[Array, Array], Residuals]:
    hidden, embedding, bias = head
    rows = local_labels(labels, len(embedding), blocks.axis_name)

    def add_block(start: Array, fresh: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        highest, total, label_logit = carry
        z = _block_logits(head, start, fresh)
        higher = jnp.maximum(highest, peak(score, z))
        rescale = jnp.exp(jnp.where(highest == -jnp.inf, 0, highest - finite(higher)))
        weights = written(weight(score, z, higher))
        total = total * rescale + jnp.sum(weights, -1, keepdims=True)
        return higher, total, _pick(z, rows - start, fresh, label_logit)

    low = jnp.full((len(hidden), 1), -jnp.inf, compute_dtype(hidden, embedding))
    carry = match_varying((low, jnp.zeros_like(low), low), hidden, embedding, bias, labels)
    highest, total, label_logit = _over_blocks(blocks, hidden, embedding, add_block, carry)
    owned = ((rows >= 0) & (rows < len(embedding)))[:, None]
    highest, total, label_logit = combined(highest, total, label_logit, owned, blocks.axis_name)
    log_total = jnp.log(nonzero(total))
    # The total of a row with one live word may round below its only term: no probability exceeds 1.
    log_probs = jnp.minimum(shifted_score(score, label_logit, highest) - log_total, 0)
    normalizers = jnp.where(total == 0, -jnp.inf, finite(highest) + log_total)
    return (log_probs[:, 0], normalizers[:, 0]), (score, head, labels, highest, total)


def _backward(blocks: Blocks, residuals: Residuals, cotangents: tuple[Array, Array]) -> tuple[Partial, Head, None]:
    score, head, labels, highest, total = residuals
    hidden, embedding, bias = head
    rows = local_labels(labels, len(embedding), blocks.axis_name)
    at_label, at_normalizer = (c[:, None].astype(total.dtype) for c in cotangents)
    scale = (at_normalizer - at_label) / nonzero(total)
    # Each device's own part of the gradient of the score's parameters: else newer versions of JAX sum it over the
    # devices in every block, and it is summed again below.
    own_score = match_varying(score, hidden, embedding, bias, labels, *cotangents)

    def add_block(start: Array, fresh: Array, carry: tuple[Partial, Head]) -> tuple[Partial, Head]:
        dscore, (dhidden, dembedding, dbias) = carry
        z = _block_logits(head, start, fresh)
        is_label = jnp.arange(z.shape[1])[None] == (rows - start)[:, None]
        at_score = scale * weight(score, z, highest) + jnp.where(is_label, at_label, 0)
        from_block, dz = pull_back(own_score, z, at_score)
        narrow = dz.astype(jnp.result_type(hidden, embedding))
        block = jax.lax.dynamic_slice_in_dim(embedding, start, z.shape[1])
        dhidden = dhidden + _matmul(narrow, block, (1, 0), total.dtype)
        dembedding = _add_rows(dembedding, _matmul(narrow, hidden, (0, 0), total.dtype), start)
        dbias = None if dbias is None else _add_rows(dbias, jnp.sum(dz, 0), start)
        return jax.tree.map(jnp.add, dscore, from_block), (dhidden, dembedding, dbias)

    dbias = None if bias is None else jnp.zeros_like(bias)
    dhead = (jnp.zeros(hidden.shape, total.dtype), jnp.zeros_like(embedding), dbias)
    zeros = (jax.tree.map(jnp.zeros_like, score), dhead)
    carry = match_varying(zeros, hidden, embedding, bias, labels, *cotangents)
    dscore, (dhidden, dembedding, dbias) = _over_blocks(blocks, hidden, embedding, add_block, carry)
    dscore, dhidden = summed((dscore, dhidden), blocks.axis_name)
    return dscore, (dhidden.astype(hidden.dtype), dembedding, dbias), None


_blocked.defvjp(_forward, _backward)


def _over_blocks(
    blocks: Blocks, hidden: Array, embedding: Array, body: Callable[..., Carry], carry: Carry
) -> Carry:
    """Fold ``body(start, fresh, carry)`` over the blocks.

    All blocks have one size. The last starts early enough to end with the vocabulary, and its ``fresh``
    marks the rows that no earlier block held: no padded copy of the embedding is made.
    """
    vocab = len(embedding)
    size = blocks.rows(len(hidden), vocab)

    def step(index: Array, carry: Carry) -> Carry:
        start = jnp.minimum(index * size, vocab - size)
        return body(start, start + jnp.arange(size) >= index * size, carry)

    return jax.lax.fori_loop(0, -(-vocab // size), step, carry)


def _block_logits(head: Head, start: Array, fresh: Array) -> Array:
    """Logits [N, block] in the wide dtype; -inf, masked, in the columns that are not fresh."""
    hidden, embedding, bias = head
    block = jax.lax.dynamic_slice_in_dim(embedding, start, len(fresh))
    z = _matmul(hidden, block, (1, 1), compute_dtype(hidden, embedding))
    offset = 0 if bias is None else jax.lax.dynamic_slice_in_dim(bias, start, len(fresh)).astype(z.dtype)
    return z + jnp.where(fresh, offset, -jnp.inf)[None]


def _matmul(a: Array, b: Array, axes: tuple[int, int], dtype: jnp.dtype) -> Array:
    """Contract one axis of each matrix, accumulating in the wide dtype whatever theirs is."""
    dims = (((axes[0],), (axes[1],)), ((), ()))
    common = jnp.result_type(a, b)
    return jax.lax.dot_general(a.astype(common), b.astype(common), dims, preferred_element_type=dtype)


def _pick(z: Array, column: Array, fresh: Array, otherwise: Array) -> Array:
    """z at each row's column [N, 1] where that column is in this block, else what was there."""
    clipped = jnp.clip(column, 0, z.shape[1] - 1)
    inside = (column == clipped) & fresh[clipped]
    return jnp.where(inside[:, None], jnp.take_along_axis(z, clipped[:, None], 1), otherwise)


def _add_rows(total: Array, rows: Array, start: Array) -> Array:
    """Add rows at ``start`` in place; a row is added to once, so the wide sum is rounded once."""
    there = jax.lax.dynamic_slice_in_dim(total, start, len(rows))
    return jax.lax.dynamic_update_slice_in_dim(total, there + rows.astype(total.dtype), start, 0)
