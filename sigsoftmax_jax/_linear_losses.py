"""Losses of hidden states with their terms and the most probable words, from one pass over the vocabulary."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array

from sigsoftmax_jax._arguments import (
    AnyArray,
    Head,
    as_head,
    check_block_size,
    check_smoothing,
    check_where,
    check_z_loss,
    compute_dtype,
)
from sigsoftmax_jax._labels import Targets, as_targets, target_loss, zero_uncounted
from sigsoftmax_jax._mesh import on_shards
from sigsoftmax_jax._score_argument import as_partial
from sigsoftmax_jax._sharding import axis_size
from sigsoftmax_jax._vocabulary_blocks import Blocks, Pass, over_vocabulary
from sigsoftmax_jax.scores import Score


class Terms(NamedTuple):
    """The weights of the uniform distribution among the targets, and of the squared log normaliser."""

    smoothing: float
    z_loss: float


def losses_and_argmax(
    hidden: AnyArray,
    embedding: AnyArray,
    labels: AnyArray | None,
    bias: AnyArray | None,
    *,
    score: Score,
    block_size: int | None,
    where: AnyArray | None,
    axis_name: str | None,
    targets: AnyArray | None,
    target_ids: AnyArray | None,
    label_smoothing: float,
    z_loss: float,
    argmax: bool,
) -> tuple[Array, Array | None]:
    """The arguments of ``linear_cross_entropy``, checked, and its losses; the words if ``argmax``."""
    head = as_head(hidden, embedding, bias)
    tokens, vocab = head[0].shape[:-1], len(head[1]) * axis_size(axis_name)
    check_where(where, "labels", tokens)
    wanted = as_targets(labels, targets, target_ids, tokens=tokens, classes=vocab, where=where)
    terms = Terms(check_smoothing(label_smoothing), check_z_loss(z_loss))
    search = Pass(Blocks(check_block_size(block_size), axis_name), mean=terms.smoothing > 0, argmax=argmax)
    counted = None if where is None else jnp.asarray(where)
    return _losses(search, terms, as_partial(score, compute_dtype(*head)), head, (wanted, counted))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _losses(
    search: Pass, terms: Terms, score: Partial, head: Head, wanted: tuple[Targets, Array | None]
) -> tuple[Array, Array | None]:
    own = functools.partial(_own_losses, terms)
    return on_shards(own, search, score, head, wanted, ndim=head[0].ndim - 1)


def _own_losses(
    terms: Terms, search: Pass, score: Partial, head: Head, wanted: tuple[Targets, Array | None]
) -> tuple[Array, Array | None]:
    hidden, embedding, bias = head
    targets, where = wanted
    tokens, vocab = hidden.shape[:-1], len(embedding) * axis_size(search.blocks.axis_name)
    states = zero_uncounted(hidden, where, tokens)
    found = over_vocabulary(search, score, (states, embedding, bias), targets.ids)
    losses = target_loss(found.log_probs, targets, where, vocab)
    if found.mean_log_prob is not None:
        losses = (1 - terms.smoothing) * losses - terms.smoothing * found.mean_log_prob.astype(losses.dtype)
    if terms.z_loss:
        # Where every word is masked the loss is inf already.
        normalizer = jnp.where(found.normalizer == -jnp.inf, 0, found.normalizer)
        losses = losses + terms.z_loss * jnp.square(normalizer).astype(losses.dtype)
    return zero_uncounted(losses, where, tokens), found.argmax
