"""What a pass over the vocabulary finds of each token, put together from its blocks and from the devices.

Shapes as in ``_vocabulary_blocks``: N tokens with k targets each, blocks of B words.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array

from sigsoftmax_jax._arguments import Shape
from sigsoftmax_jax._sharding import AxisName
from sigsoftmax_jax._shifted_exponentials import (
    largest_exponent,
    materialized_on_cpu,
    one_where_all_masked,
    rescaling,
    shifted_exponential,
    shifted_score,
    zero_where_all_masked,
)
from sigsoftmax_jax.scores import keep_masked


class Live(NamedTuple):
    """Of the words that are not masked: the sum of s(z_j) - highest, and how many there are, both [N, 1]."""

    score_sum: Array
    words: Array


class Best(NamedTuple):
    """The largest score and its word, both [N, 1]."""

    score: Array
    word: Array


class Totals(NamedTuple):
    """Running totals; what is ``None`` is not asked for."""

    highest: Array  # [N, 1], the largest exponent
    total: Array  # [N, 1], the sum of exp(s(z_j) - highest)
    target_logits: Array  # [N, k]
    live: Live | None
    best: Best | None


class Found(NamedTuple):
    """Results: log p of the targets, log normaliser, mean of log p over the live words, most probable word."""

    log_probs: Array  # [..., k]
    normalizer: Array  # [...]
    mean_log_prob: Array | None  # [...]
    argmax: Array | None  # [...]


def no_words(shape: Shape, dtype: jnp.dtype, *, mean: bool, argmax: bool) -> Totals:
    """The totals of targets of this shape [N, k] before the first block."""
    tokens, _ = shape
    low, zero = jnp.full((tokens, 1), -jnp.inf, dtype), jnp.zeros((tokens, 1), dtype)
    live = Live(zero, zero) if mean else None
    best = Best(low, jnp.zeros((tokens, 1), jnp.int32)) if argmax else None
    return Totals(low, zero, jnp.full(shape, -jnp.inf, dtype), live, best)


def add_words(score: Partial, totals: Totals, z: Array, targets: Array, *, start: Array, fresh: Array) -> Totals:
    """The totals with a block of logits z [N, B] that begins at word ``start``; ``targets`` [N, k] are words."""
    highest, total, target_logits, live, best = totals
    higher = jnp.maximum(highest, largest_exponent(score, z))
    # What was summed before is relative to the old shift, what is new to the higher one.
    exponentials = materialized_on_cpu(shifted_exponential(score, z, higher))  # [N, B]
    total = total * rescaling(highest, higher) + jnp.sum(exponentials, -1, keepdims=True)
    target_logits = _pick(z, targets - start, fresh, target_logits)
    if live is not None:
        live = _add_live(live, score, z, highest, higher)
    if best is not None:
        best = _better(best, score, z, start)
    return Totals(higher, total, target_logits, live, best)


def combine_over_devices(totals: Totals, owned: Array, words: int, axis_name: AxisName) -> Totals:
    """Each device's totals of its own words made those of the axis; ``owned`` [N, k] are the targets it has."""
    if axis_name is None:
        return totals
    highest, total, target_logits, live, best = totals
    top = jax.lax.pmax(jax.lax.stop_gradient(highest), axis_name)
    total = jax.lax.psum(total * rescaling(highest, top), axis_name)
    target_logits = jax.lax.psum(jnp.where(owned, target_logits, 0), axis_name)
    if live is not None:
        live = jax.lax.psum(_relative_to(live, highest, top), axis_name)
    if best is not None:
        largest = jax.lax.pmax(best.score, axis_name)
        word = best.word + words * jax.lax.axis_index(axis_name)
        # Of several equal ones the first.
        last = jnp.iinfo(word.dtype).max
        best = Best(largest, jax.lax.pmin(jnp.where(best.score == largest, word, last), axis_name))
    return Totals(top, total, target_logits, live, best)


def found(score: Partial, totals: Totals) -> Found:
    """The results of the whole vocabulary."""
    highest, total, target_logits, live, best = totals
    log_total = jnp.log(one_where_all_masked(total))
    # With one live word the total may round below its only term: no probability exceeds 1.
    log_probs = jnp.minimum(shifted_score(score, target_logits, highest) - log_total, 0)
    normalizer = jnp.where(total == 0, -jnp.inf, zero_where_all_masked(highest) + log_total)
    mean = None
    if live is not None:
        mean = jnp.where(live.words == 0, 0, live.score_sum / one_where_all_masked(live.words) - log_total)[:, 0]
    return Found(log_probs, normalizer[:, 0], mean, None if best is None else best.word[:, 0])


def _pick(z: Array, columns: Array, fresh: Array, otherwise: Array) -> Array:
    """z [N, B] at each token's columns [N, k], where they are in this block, else what was there: [N, k]."""
    clipped = jnp.clip(columns, 0, z.shape[1] - 1)
    inside = (columns == clipped) & fresh[clipped]
    return jnp.where(inside, jnp.take_along_axis(z, clipped, 1), otherwise)


def _add_live(live: Live, score: Partial, z: Array, highest: Array, higher: Array) -> Live:
    """The sum over live words with those of a block, relative to the higher shift."""
    is_live = z > -jnp.inf
    scores = materialized_on_cpu(jnp.where(is_live, shifted_score(score, z, higher), 0))
    before = _relative_to(live, highest, higher)
    block_sum = jnp.sum(scores, -1, keepdims=True)
    return Live(before.score_sum + block_sum, live.words + jnp.sum(is_live, -1, keepdims=True, dtype=z.dtype))


def _relative_to(live: Live, highest: Array, higher: Array) -> Live:
    """The sum of what is live relative to another shift; each word by itself."""
    moved = zero_where_all_masked(highest) - zero_where_all_masked(higher)
    return Live(live.score_sum + live.words * moved, live.words)


def _better(best: Best, score: Partial, z: Array, start: Array) -> Best:
    """The better of the best so far and that of a block of earlier words, which wins where both are equal."""
    scores = jax.lax.stop_gradient(keep_masked(score)(z))
    scores = jnp.where(jnp.isnan(scores), jnp.inf, scores)  # found as by jnp.argmax, whatever the block or device
    column = jnp.argmax(scores, -1, keepdims=True).astype(best.word.dtype)
    largest = jnp.take_along_axis(scores, column, 1)
    is_better = largest >= best.score
    return Best(jnp.where(is_better, largest, best.score), jnp.where(is_better, start + column, best.word))
