"""The pass over the vocabulary, block by block: log-probabilities without tokens x vocabulary logits.

Forward, an online log-sum-exp: each block rescales the running total to the largest exponent so far.
Backward, each block of logits is computed again from the hidden states and the embedding; its gradient
s'(z_j) (a p_j + b_j), where b_j is that of a target or of the mean over words, goes into those of hidden,
embedding and bias and is dropped.

In the comments on shapes, N is the number of tokens (times the experts in a mixture), k the targets of each, d the
width of a state, V the words, that is the rows of this device's embedding, and B the words of one block.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array

from sigsoftmax_jax._arguments import Head, compute_dtype
from sigsoftmax_jax._sharding import AxisName, local_words, match_varying, sum_over_devices
from sigsoftmax_jax._shifted_exponentials import (
    has_bounded_slope,
    one_where_all_masked,
    pull_back,
    shifted_exponential,
)
from sigsoftmax_jax._vocabulary_totals import Found, Totals, add_words, combine_over_devices, found, no_words

# Logits in one block when the caller names no size: 8 MiB in float32, which stays in a CPU's cache and still fills
# an accelerator. But never fewer words than keep the matrix units busy while the states are read for each block:
# for a TPU v5e the compiler plans 1.38 times the cycles with 512 words as with 2,048, in equal memory.
BLOCK_LOGITS = 2**21
# Blocks are multiples of the words that are computed together anyway: those of a vector, or of a tile's width.
SMALLEST_AND_MULTIPLE = {"cpu": (512, 16)}
SMALLEST_AND_MULTIPLE_ELSEWHERE = (2048, 128)

Carry = TypeVar("Carry")
# The score, the head, the targets' words, and the totals of each token.
Residuals = tuple[Partial, Head, Array, Totals]


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How the vocabulary is cut: words in a block, if the caller names it, and the axis they are sharded over."""

    size: int | None = None
    axis_name: AxisName = None

    def words(self, tokens: Any, vocab: int) -> int:
        """Words in a block; all of them where the block is larger."""
        least, together = SMALLEST_AND_MULTIPLE.get(jax.default_backend(), SMALLEST_AND_MULTIPLE_ELSEWHERE)
        # A number of tokens that is a symbol, in a program that is exported for any, may be large.
        most = BLOCK_LOGITS // max(tokens, 1) // together * together if isinstance(tokens, int) else 0
        # Blocks of equal size that hold the vocabulary with little to spare: what is left over is computed twice.
        count = -(-vocab // max(most, least))
        even = -(-vocab // count // together) * together
        return min(self.size or even, vocab)


@dataclasses.dataclass(frozen=True)
class Pass:
    """A pass over the vocabulary: its blocks, and what it finds beside log-probabilities and normalisers."""

    blocks: Blocks
    mean: bool = False
    argmax: bool = False

    def over(self, axis_name: AxisName) -> "Pass":
        """The same pass over words that are sharded over this axis."""
        return dataclasses.replace(self, blocks=dataclasses.replace(self.blocks, axis_name=axis_name))


def over_vocabulary(search: Pass, score: Partial, head: Head, targets: Array) -> Found:
    """What is found for hidden states [..., d] and the words ``targets`` [..., k], of any integer dtype."""
    hidden, embedding, bias = head
    score, hidden = match_varying((score, hidden), hidden, targets)
    embedding, bias = match_varying((embedding, bias), hidden, embedding)
    tokens = hidden.shape[:-1]
    states = hidden.reshape(math.prod(tokens), hidden.shape[-1])  # [N, d]
    words = targets.reshape(math.prod(tokens), targets.shape[-1]).astype(jnp.int32)  # [N, k]
    flat = _blocked(search, score, (states, embedding, bias), words)
    return jax.tree.map(lambda x: x.reshape(tokens + x.shape[1:]), flat)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _blocked(search: Pass, score: Partial, head: Head, targets: Array) -> Found:
    return _forward(search, score, head, targets)[0]


@jax.named_scope("vocabulary_forward")
def _forward(search: Pass, score: Partial, head: Head, targets: Array) -> tuple[Found, Residuals]:
    hidden, embedding, bias = head  # [N, d], [V, d], [V]
    words, axis_name = len(embedding), search.blocks.axis_name
    local = local_words(targets, words, axis_name)  # [N, k]

    def add_block(start: Array, fresh: Array, totals: Totals) -> Totals:
        return add_words(score, totals, _block_logits(head, start, fresh), local, start=start, fresh=fresh)

    empty = no_words(targets.shape, compute_dtype(*head), mean=search.mean, argmax=search.argmax)
    totals = match_varying(empty, hidden, embedding, bias, targets)
    totals = _over_blocks(search.blocks, hidden, embedding, add_block, totals)
    # A target is a row of one device's embedding; to the others it is below 0 or at least V.
    totals = combine_over_devices(totals, (local >= 0) & (local < words), words, axis_name)
    return found(score, totals), (score, head, targets, totals)


@jax.named_scope("vocabulary_backward")
def _backward(search: Pass, residuals: Residuals, cotangents: Found) -> tuple[Partial, Head, None]:
    score, head, targets, (highest, total, _, live, _) = residuals
    hidden, embedding, bias = head  # [N, d], [V, d], [V]
    local = local_words(targets, len(embedding), search.blocks.axis_name)  # [N, k]
    # With cotangents c_i of log p_i = s(z_i) - log Z, n of log Z and m of the mean of log p over M live words, the
    # gradient for s(z_j) is (n - sum_i c_i - m) p_j + sum_i c_i 1[j = i] + m / M, where
    # p_j = exp(s(z_j) - highest) / total.
    at_targets = cotangents.log_probs  # [N, k]
    at_total = cotangents.normalizer[:, None] - jnp.sum(at_targets, 1, keepdims=True)  # [N, 1]
    at_each = None
    if live is not None and cotangents.mean_log_prob is not None:
        at_mean = cotangents.mean_log_prob[:, None]  # [N, 1]
        at_total, at_each = at_total - at_mean, at_mean / one_where_all_masked(live.words)
    scale = at_total / one_where_all_masked(total)  # [N, 1]
    # Each device's own part of the gradient of the score's parameters: else newer versions of JAX sum it over the
    # devices in every block, and it is summed again below.
    varying = (hidden, embedding, bias, targets, at_targets, scale)
    own_score = match_varying(score, *varying)
    narrow = _product_dtype(score, head)

    def add_block(start: Array, fresh: Array, carry: tuple[Partial, Head]) -> tuple[Partial, Head]:
        dscore, (dhidden, dembedding, dbias) = carry
        z = _block_logits(head, start, fresh)  # [N, B], as in the forward pass
        at_score = scale * shifted_exponential(score, z, highest) + _place(at_targets, local - start, z.shape[1])
        if at_each is not None:
            at_score = at_score + at_each
        # Through the score; 0 for masked words, and so for those that another block holds.
        from_block, dz = pull_back(own_score, z, at_score)  # [N, B]
        # Through z = hidden block^T + bias.
        block = jax.lax.dynamic_slice_in_dim(embedding, start, z.shape[1])  # [B, d]
        dz_narrow = dz.astype(narrow)
        dhidden = dhidden + _matmul(dz_narrow, block, (1, 0), total.dtype)  # [N, d]
        dembedding = _write_at(dembedding, _matmul(dz_narrow, hidden, (0, 0), total.dtype), start)  # [V, d]
        dbias = None if dbias is None else _write_at(dbias, jnp.sum(dz, 0), start)  # [V]
        return jax.tree.map(jnp.add, dscore, from_block), (dhidden, dembedding, dbias)

    dbias = None if bias is None else jnp.zeros_like(bias)
    dhead = (jnp.zeros(hidden.shape, total.dtype), jnp.zeros_like(embedding), dbias)
    carry = match_varying((jax.tree.map(jnp.zeros_like, score), dhead), *varying)
    dscore, (dhidden, dembedding, dbias) = _over_blocks(search.blocks, hidden, embedding, add_block, carry)
    # Every device has the gradients of its own words, but of the states only what its words contribute.
    dscore, dhidden = sum_over_devices((dscore, dhidden), search.blocks.axis_name)
    return dscore, (dhidden.astype(hidden.dtype), dembedding, dbias), None


_blocked.defvjp(_forward, _backward)


def _over_blocks(
    blocks: Blocks, hidden: Array, embedding: Array, body: Callable[..., Carry], carry: Carry
) -> Carry:
    """Fold ``body(start, fresh, carry)`` over the blocks, from the last to the first.

    All blocks have one size. The last starts early enough to end with the vocabulary, and its ``fresh`` [B]
    marks the words that no other block holds: no padded copy of the embedding is made. Where the two overlap, what
    the block before it writes comes later and stands.
    """
    vocab = len(embedding)
    size = blocks.words(hidden.shape[0], vocab)
    count = -(-vocab // size)

    def step(index: Array, carry: Carry) -> Carry:
        first = (count - 1 - index) * size
        start = jnp.minimum(first, vocab - size)
        return body(start, start + jnp.arange(size) >= first, carry)

    return jax.lax.fori_loop(0, count, step, carry)


def _block_logits(head: Head, start: Array, fresh: Array) -> Array:
    """Logits [N, B] in the wide dtype; -inf, masked, in the columns that are not fresh."""
    hidden, embedding, bias = head
    block = jax.lax.dynamic_slice_in_dim(embedding, start, len(fresh))  # [B, d]
    z = _matmul(hidden, block, (1, 1), compute_dtype(*head))
    offset = 0 if bias is None else jax.lax.dynamic_slice_in_dim(bias, start, len(fresh)).astype(z.dtype)
    return z + jnp.where(fresh, offset, -jnp.inf)[None]


def _matmul(a: Array, b: Array, axes: tuple[int, int], dtype: jnp.dtype) -> Array:
    """Contract one axis of each matrix, accumulating in the wide dtype whatever theirs is."""
    dims = (((axes[0],), (axes[1],)), ((), ()))
    common = jnp.result_type(a, b)
    return jax.lax.dot_general(a.astype(common), b.astype(common), dims, preferred_element_type=dtype)


def _product_dtype(score: Partial, head: Head) -> jnp.dtype:
    """The dtype that gradients of logits are multiplied in: the inputs' own, unless they may not fit into it.

    That of ``relu_score`` reaches 1e8, which is infinite in float16, and times 0 NaN.
    """
    hidden, embedding, _ = head
    dtype = jnp.result_type(hidden, embedding)
    return compute_dtype(*head) if dtype == jnp.float16 and not has_bounded_slope(score) else dtype


def _place(values: Array, columns: Array, size: int) -> Array:
    """Values [N, k] at their columns [N, k] of a block [N, B], summed where columns are equal; 0 elsewhere."""
    word = jnp.arange(size)[None]
    placed = (jnp.where(columns[:, i, None] == word, values[:, i, None], 0) for i in range(values.shape[1]))
    return sum(placed, jnp.zeros((), values.dtype))


@jax.custom_jvp
def _write_at(total: Array, block: Array, start: Array) -> Array:
    """Write a block [B, ...] into [V, ...] at ``start``: each word once, so that its wide sum is rounded once."""

    def write(total: Array, block: Array, start: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(total, block, start, 0)

    def write_bits(total: Array, block: Array, start: Array) -> Array:
        total_bits, block_bits = (jax.lax.bitcast_convert_type(x, jnp.uint16) for x in (total, block))
        return jax.lax.bitcast_convert_type(write(total_bits, block_bits, start), total.dtype)

    block = block.astype(total.dtype)
    if total.dtype.itemsize != 2:
        return write(total, block, start)
    # XLA's CPU backend would write half precision by converting the whole array to float32 and back.
    return jax.lax.platform_dependent(total, block, start, cpu=write_bits, default=write)


@_write_at.defjvp
def _(primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Any]) -> tuple[Array, Array]:
    total, block, start = primals
    dtotal, dblock, _ = tangents
    tangent = jax.lax.dynamic_update_slice_in_dim(dtotal, dblock.astype(total.dtype), start, 0)
    return _write_at(total, block, start), tangent
