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
from jaxtyping import Array

from sigsoftmax_jax.scores import Score, compute_dtype
from sigsoftmax_jax.sharding import combined, local_labels, match_varying, summed
from sigsoftmax_jax.weights import finite, nonzero, peak, shifted_score, slope, weight, written

# Logits in one block when the caller names no size: 8 MiB in float32, which stays in a CPU's cache and
# still fills an accelerator; but never fewer than 512 rows of the embedding, for the matrix units.
BLOCK_LOGITS = 2**21
SMALLEST_BLOCK = 512

Carry = TypeVar("Carry")
Head = tuple[Array, Array, Array | None]
Residuals = tuple[Array, Array, Array | None, Array, Array, Array]


@dataclasses.dataclass(frozen=True)
class Pass:
    """The static options of a pass over the vocabulary."""

    score: Score
    block_size: int | None
    axis_name: str | None = None

    def block_rows(self, tokens: int, vocab: int) -> int:
        """Rows of the embedding in a block; all of them where the block is larger."""
        sensible = max(BLOCK_LOGITS // max(tokens, 1) // 128 * 128, SMALLEST_BLOCK)
        # Blocks of equal size that hold the vocabulary with little to spare: what is left over is computed twice.
        blocks = -(-vocab // sensible)
        even = -(-vocab // blocks // 128) * 128
        return min(self.block_size or even, vocab)


@partial(jax.jit, static_argnums=0)
def label_log_probs(
    plan: Pass, hidden: Array, embedding: Array, bias: Array | None, labels: Array
) -> tuple[Array, Array]:
    """Log-probabilities of labels [...], and log normalisers [...], of hidden states [..., d]."""
    rows = match_varying(hidden, hidden, labels).reshape(-1, hidden.shape[-1])
    embedding, bias = match_varying((embedding, bias), rows, embedding)
    outputs = _label_log_probs(plan, rows, embedding, bias, labels.ravel())
    return outputs[0].reshape(labels.shape), outputs[1].reshape(labels.shape)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _label_log_probs(
    plan: Pass, hidden: Array, embedding: Array, bias: Array | None, labels: Array
) -> tuple[Array, Array]:
    return _forward(plan, hidden, embedding, bias, labels)[0]


def _forward(
    plan: Pass, hidden: Array, embedding: Array, bias: Array | None, labels: Array
) -> tuple[tuple[Array, Array], Residuals]:
    rows = local_labels(labels, len(embedding), plan.axis_name)

    def add_block(start: Array, fresh: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        highest, total, label_logit = carry
        z = _block_logits((hidden, embedding, bias), start, fresh)
        higher = jnp.maximum(highest, peak(plan.score, z))
        rescale = jnp.exp(jnp.where(highest == -jnp.inf, 0, highest - finite(higher)))
        weights = written(weight(plan.score, z, higher))
        total = total * rescale + jnp.sum(weights, -1, keepdims=True)
        return higher, total, _pick(z, rows - start, fresh, label_logit)

    low = jnp.full((len(hidden), 1), -jnp.inf, compute_dtype(hidden, embedding))
    carry = match_varying((low, jnp.zeros_like(low), low), hidden, embedding, bias, labels)
    highest, total, label_logit = _over_blocks(plan, hidden, embedding, add_block, carry)
    owned = ((rows >= 0) & (rows < len(embedding)))[:, None]
    highest, total, label_logit = combined(highest, total, label_logit, owned, plan.axis_name)
    log_total = jnp.log(nonzero(total))
    log_probs = shifted_score(plan.score, label_logit, highest) - log_total
    normalizers = jnp.where(total == 0, -jnp.inf, finite(highest) + log_total)
    residuals = (hidden, embedding, bias, labels, highest, total)
    return (log_probs[:, 0], normalizers[:, 0]), residuals


def _backward(
    plan: Pass, residuals: Residuals, cotangents: tuple[Array, Array]
) -> tuple[Array, Array, Array | None, None]:
    hidden, embedding, bias, labels, highest, total = residuals
    rows = local_labels(labels, len(embedding), plan.axis_name)
    at_label, at_normalizer = (c[:, None].astype(total.dtype) for c in cotangents)
    scale = (at_normalizer - at_label) / nonzero(total)

    def add_block(start: Array, fresh: Array, carry: Head) -> Head:
        dhidden, dembedding, dbias = carry
        z = _block_logits((hidden, embedding, bias), start, fresh)
        is_label = jnp.arange(z.shape[1])[None] == (rows - start)[:, None]
        dscores = scale * weight(plan.score, z, highest) + jnp.where(is_label, at_label, 0)
        dz = slope(plan.score, z) * dscores
        narrow = dz.astype(jnp.result_type(hidden, embedding))
        block = jax.lax.dynamic_slice_in_dim(embedding, start, z.shape[1])
        dhidden = dhidden + _matmul(narrow, block, (1, 0), total.dtype)
        dembedding = _add_rows(dembedding, _matmul(narrow, hidden, (0, 0), total.dtype), start)
        dbias = None if dbias is None else _add_rows(dbias, jnp.sum(dz, 0), start)
        return dhidden, dembedding, dbias

    dbias = None if bias is None else jnp.zeros_like(bias)
    zeros = (jnp.zeros(hidden.shape, total.dtype), jnp.zeros_like(embedding), dbias)
    carry = match_varying(zeros, hidden, embedding, bias, labels, *cotangents)
    dhidden, dembedding, dbias = _over_blocks(plan, hidden, embedding, add_block, carry)
    return summed(dhidden, plan.axis_name).astype(hidden.dtype), dembedding, dbias, None


_label_log_probs.defvjp(_forward, _backward)


def _over_blocks(plan: Pass, hidden: Array, embedding: Array, body: Callable[..., Carry], carry: Carry) -> Carry:
    """Fold ``body(start, fresh, carry)`` over the blocks.

    All blocks have one size. The last starts early enough to end with the vocabulary, and its ``fresh``
    marks the rows that no earlier block held: no padded copy of the embedding is made.
    """
    vocab = len(embedding)
    size = plan.block_rows(len(hidden), vocab)

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
