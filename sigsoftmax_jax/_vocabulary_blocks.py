"""The pass over the vocabulary, block by block: label log-probabilities without tokens x vocabulary logits.

Forward, an online log-sum-exp: each block rescales the running total to the largest exponent so far.
Backward, each block of logits is computed again from the hidden states and the embedding; its gradient
s'(z_j) (a p_j + b 1[j = y]) goes into those of hidden, embedding and bias and is dropped.

In the comments on shapes, N is the number of tokens (times the experts in a mixture), d the width of a state,
V the words, that is the rows of this device's embedding, and B the words of one block.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array

from sigsoftmax_jax._arguments import Head, compute_dtype
from sigsoftmax_jax._score_argument import as_partial
from sigsoftmax_jax._sharding import (
    combine_over_devices,
    local_labels,
    match_varying,
    sum_over_devices,
    with_automatic_axes,
)
from sigsoftmax_jax._shifted_exponentials import (
    largest_exponent,
    materialized_on_cpu,
    one_where_all_masked,
    pull_back,
    rescaling,
    shifted_exponential,
    shifted_score,
    zero_where_all_masked,
)
from sigsoftmax_jax.scores import Score

# Logits in one block when the caller names no size: 8 MiB in float32, which stays in a CPU's cache and
# still fills an accelerator; but never fewer than 512 words, for the matrix units.
BLOCK_LOGITS = 2**21
SMALLEST_BLOCK = 512

Carry = TypeVar("Carry")
# The score, the head, the labels, and of each token the largest exponent and the total relative to it.
Residuals = tuple[Partial, Head, Array, Array, Array]


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How the vocabulary is cut: words in a block, if the caller names it, and the axis they are sharded over."""

    size: int | None = None
    axis_name: str | None = None

    def words(self, tokens: int, vocab: int) -> int:
        """Words in a block; all of them where the block is larger."""
        sensible = max(BLOCK_LOGITS // max(tokens, 1) // 128 * 128, SMALLEST_BLOCK)
        # Blocks of equal size that hold the vocabulary with little to spare: what is left over is computed twice.
        count = -(-vocab // sensible)
        even = -(-vocab // count // 128) * 128
        return min(self.size or even, vocab)


def label_log_probs(blocks: Blocks, score: Score, head: Head, labels: Array) -> tuple[Array, Array]:
    """Log-probabilities of labels [...], and log normalisers [...], of hidden states [..., d]."""
    hidden, embedding, _ = head
    run = with_automatic_axes(partial(_label_log_probs, blocks), hidden, labels.ndim)
    return run(as_partial(score, compute_dtype(hidden, embedding)), head, labels)


@partial(jax.jit, static_argnums=0)
def _label_log_probs(blocks: Blocks, score: Partial, head: Head, labels: Array) -> tuple[Array, Array]:
    hidden, embedding, bias = head
    score, hidden = match_varying((score, hidden), hidden, labels)
    embedding, bias = match_varying((embedding, bias), hidden, embedding)
    states = hidden.reshape(-1, hidden.shape[-1])  # [N, d]
    outputs = _blocked(blocks, score, (states, embedding, bias), labels.ravel().astype(jnp.int32))
    return outputs[0].reshape(labels.shape), outputs[1].reshape(labels.shape)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _blocked(blocks: Blocks, score: Partial, head: Head, labels: Array) -> tuple[Array, Array]:
    return _forward(blocks, score, head, labels)[0]


@jax.named_scope("vocabulary_forward")
def _forward(blocks: Blocks, score: Partial, head: Head, labels: Array) -> tuple[tuple[Array, Array], Residuals]:
    hidden, embedding, bias = head  # [N, d], [V, d], [V]
    local = local_labels(labels, len(embedding), blocks.axis_name)  # [N]

    # ``highest`` is the largest exponent so far and ``total`` the sum so far of exp(s(z_j) - highest): all [N, 1].
    def add_block(start: Array, fresh: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        highest, total, label_logit = carry
        z = _block_logits(head, start, fresh)  # [N, B]
        higher = jnp.maximum(highest, largest_exponent(score, z))
        # What was summed before is relative to the old shift, what is new to the higher one.
        rescale = rescaling(highest, higher)
        exponentials = materialized_on_cpu(shifted_exponential(score, z, higher))  # [N, B]
        total = total * rescale + jnp.sum(exponentials, -1, keepdims=True)
        return higher, total, _pick(z, local - start, fresh, label_logit)

    low = jnp.full((len(hidden), 1), -jnp.inf, compute_dtype(hidden, embedding))
    carry = match_varying((low, jnp.zeros_like(low), low), hidden, embedding, bias, labels)
    highest, total, label_logit = _over_blocks(blocks, hidden, embedding, add_block, carry)

    # The label is a row of one device's embedding; to the others it is below 0 or at least V.
    owned = ((local >= 0) & (local < len(embedding)))[:, None]
    highest, total, label_logit = combine_over_devices(highest, total, label_logit, owned, blocks.axis_name)

    log_total = jnp.log(one_where_all_masked(total))
    # With one live word the total may round below its only term: no probability exceeds 1.
    log_probs = jnp.minimum(shifted_score(score, label_logit, highest) - log_total, 0)
    normalizers = jnp.where(total == 0, -jnp.inf, zero_where_all_masked(highest) + log_total)
    return (log_probs[:, 0], normalizers[:, 0]), (score, head, labels, highest, total)


@jax.named_scope("vocabulary_backward")
def _backward(blocks: Blocks, residuals: Residuals, cotangents: tuple[Array, Array]) -> tuple[Partial, Head, None]:
    score, head, labels, highest, total = residuals
    hidden, embedding, bias = head  # [N, d], [V, d], [V]
    local = local_labels(labels, len(embedding), blocks.axis_name)  # [N]
    # With cotangents c of log p_y = s(z_y) - log Z and n of log Z, the gradient for s(z_j) is
    # (n - c) p_j + c 1[j = y], where p_j = exp(s(z_j) - highest) / total.
    at_label, at_normalizer = (c[:, None].astype(total.dtype) for c in cotangents)  # [N, 1]
    scale = (at_normalizer - at_label) / one_where_all_masked(total)  # [N, 1]
    # Each device's own part of the gradient of the score's parameters: else newer versions of JAX sum it over the
    # devices in every block, and it is summed again below.
    own_score = match_varying(score, hidden, embedding, bias, labels, *cotangents)

    def add_block(start: Array, fresh: Array, carry: tuple[Partial, Head]) -> tuple[Partial, Head]:
        dscore, (dhidden, dembedding, dbias) = carry
        z = _block_logits(head, start, fresh)  # [N, B], as in the forward pass
        is_label = jnp.arange(z.shape[1])[None] == (local - start)[:, None]  # [N, B]
        at_score = scale * shifted_exponential(score, z, highest) + jnp.where(is_label, at_label, 0)
        # Through the score; 0 for masked words, and so for those that an earlier block held.
        from_block, dz = pull_back(own_score, z, at_score)  # [N, B]
        # Through z = hidden block^T + bias, by products of the inputs' own dtype.
        narrow = dz.astype(jnp.result_type(hidden, embedding))
        block = jax.lax.dynamic_slice_in_dim(embedding, start, z.shape[1])  # [B, d]
        dhidden = dhidden + _matmul(narrow, block, (1, 0), total.dtype)  # [N, d]
        dembedding = _add_at(dembedding, _matmul(narrow, hidden, (0, 0), total.dtype), start)  # [V, d] += [B, d]
        dbias = None if dbias is None else _add_at(dbias, jnp.sum(dz, 0), start)  # [V] += [B]
        return jax.tree.map(jnp.add, dscore, from_block), (dhidden, dembedding, dbias)

    dbias = None if bias is None else jnp.zeros_like(bias)
    dhead = (jnp.zeros(hidden.shape, total.dtype), jnp.zeros_like(embedding), dbias)
    zeros = (jax.tree.map(jnp.zeros_like, score), dhead)
    carry = match_varying(zeros, hidden, embedding, bias, labels, *cotangents)
    dscore, (dhidden, dembedding, dbias) = _over_blocks(blocks, hidden, embedding, add_block, carry)
    # Every device has the gradients of its own words, but of the states only what its words contribute.
    dscore, dhidden = sum_over_devices((dscore, dhidden), blocks.axis_name)
    return dscore, (dhidden.astype(hidden.dtype), dembedding, dbias), None


_blocked.defvjp(_forward, _backward)


def _over_blocks(
    blocks: Blocks, hidden: Array, embedding: Array, body: Callable[..., Carry], carry: Carry
) -> Carry:
    """Fold ``body(start, fresh, carry)`` over the blocks.

    All blocks have one size. The last starts early enough to end with the vocabulary, and its ``fresh`` [B]
    marks the words that no earlier block held: no padded copy of the embedding is made.
    """
    vocab = len(embedding)
    size = blocks.words(len(hidden), vocab)

    def step(index: Array, carry: Carry) -> Carry:
        start = jnp.minimum(index * size, vocab - size)
        return body(start, start + jnp.arange(size) >= index * size, carry)

    return jax.lax.fori_loop(0, -(-vocab // size), step, carry)


def _block_logits(head: Head, start: Array, fresh: Array) -> Array:
    """Logits [N, B] in the wide dtype; -inf, masked, in the columns that are not fresh."""
    hidden, embedding, bias = head
    block = jax.lax.dynamic_slice_in_dim(embedding, start, len(fresh))  # [B, d]
    z = _matmul(hidden, block, (1, 1), compute_dtype(hidden, embedding))
    offset = 0 if bias is None else jax.lax.dynamic_slice_in_dim(bias, start, len(fresh)).astype(z.dtype)
    return z + jnp.where(fresh, offset, -jnp.inf)[None]


def _matmul(a: Array, b: Array, axes: tuple[int, int], dtype: jnp.dtype) -> Array:
    """Contract one axis of each matrix, accumulating in the wide dtype whatever theirs is."""
    dims = (((axes[0],), (axes[1],)), ((), ()))
    common = jnp.result_type(a, b)
    return jax.lax.dot_general(a.astype(common), b.astype(common), dims, preferred_element_type=dtype)


def _pick(z: Array, column: Array, fresh: Array, otherwise: Array) -> Array:
    """z [N, B] at each token's column [N], where that is in this block, else what was there: [N, 1]."""
    clipped = jnp.clip(column, 0, z.shape[1] - 1)
    inside = (column == clipped) & fresh[clipped]
    return jnp.where(inside[:, None], jnp.take_along_axis(z, clipped[:, None], 1), otherwise)


def _add_at(total: Array, block: Array, start: Array) -> Array:
    """Add a block [B, ...] to [V, ...] at ``start`` in place; each word once, so its wide sum is rounded once."""
    there = jax.lax.dynamic_slice_in_dim(total, start, len(block))
    return jax.lax.dynamic_update_slice_in_dim(total, there + block.astype(total.dtype), start, 0)
