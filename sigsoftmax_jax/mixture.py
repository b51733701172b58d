"""Mixtures of softmaxes (MoS) and of sigsoftmaxes (MoSS) in log space, and their blocked loss.

log p = log sum_k pi_k f_k with f_k the probabilities of expert k and pi the softmax of the mixture logits.
With the responsibilities r_k = pi_k f_k(y) / p(y), the derivative of -log p(y) is r_k s'(z_kj)
(f_kj - 1[j = y]) for a logit and pi_k - r_k for a mixture logit: both follow from each expert's
log-probability of the label, which takes one pass over the vocabulary for all experts.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Integer

from sigsoftmax_jax._arguments import (
    AnyArray,
    Head,
    as_head,
    as_mixture_logits,
    check_block_size,
    check_floating,
    check_shape,
    check_smoothing,
    check_where,
    check_z_loss,
    compute_dtype,
)
from sigsoftmax_jax._labels import Targets, as_targets, target_loss, zero_uncounted
from sigsoftmax_jax._mesh import on_shards
from sigsoftmax_jax._score_argument import as_partial
from sigsoftmax_jax._sharding import axis_size, with_automatic_axes
from sigsoftmax_jax._shifted_exponentials import one_where_all_masked, zero_where_all_masked
from sigsoftmax_jax._vocabulary_blocks import Blocks, Pass, over_vocabulary
from sigsoftmax_jax.activations import closed_log_probs, log_normalize
from sigsoftmax_jax.scores import Score, sigsoftmax_score


def log_mixture(
    log_weights: Float[AnyArray, "*tokens experts"],
    component_log_probs: Float[AnyArray, "*tokens experts vocab"],
) -> Float[Array, "*tokens vocab"]:
    """Log-probabilities of a mixture: log sum_k exp(log_weights_k + component_log_probs_k).

    Args:
        log_weights: normalised log-weights [..., K], nats; -inf switches an expert off.
        component_log_probs: [..., K, V], nats.

    Returns:
        Log-probabilities [..., V], of the wider dtype of the two.

    Raises:
        ValueError: shapes that do not match, a dtype that is not floating.

    Example:
        >>> import jax.numpy as jnp
        >>> components = jnp.log(jnp.array([[0.5, 0.5], [0.1, 0.9]]))
        >>> with jnp.printoptions(precision=4):
        ...     print(jnp.exp(log_mixture(jnp.log(jnp.array([0.25, 0.75])), components)))
        [0.2 0.8]

    References:
        Yang et al., "Breaking the Softmax Bottleneck", ICLR 2018, arXiv:1711.03953.
    """
    log_weights, components = jnp.asarray(log_weights), jnp.asarray(component_log_probs)
    check_floating(log_weights=log_weights, component_log_probs=components)
    if components.ndim < 2:
        raise ValueError(f"component_log_probs must be [..., K, V], got {components.shape}")
    why = f"one weight per component of component_log_probs {components.shape}"
    check_shape("log_weights", log_weights.shape, components.shape[:-1], why)
    wide = compute_dtype(log_weights, components)
    joint = log_weights.astype(wide)[..., None] + components.astype(wide)
    return _log_sum_exp(joint, -2).astype(jnp.result_type(log_weights, components))


def mixture_log_probs(
    hidden: Float[AnyArray, "*tokens experts d"],
    mixture_logits: Float[AnyArray, "*tokens experts"],
    embedding: Float[AnyArray, "vocab d"],
    bias: Float[AnyArray, " vocab"] | None = None,
    *,
    score: Score = sigsoftmax_score,
) -> Float[Array, "*tokens vocab"]:
    """Log-probabilities of every word under the mixture, one expert at a time: for evaluation and rank.

    Args:
        hidden: one state per expert [..., K, d].
        mixture_logits: [..., K]; their softmax weighs the experts.
        embedding: output embedding [V, d], shared by the experts.
        bias: [V]; -inf masks a word.
        score: ``softmax_score`` for a mixture of softmaxes, ``sigsoftmax_score`` for one of sigsoftmaxes; any
            other, see ``sigsoftmax_jax.scores``.

    Returns:
        Log-probabilities [..., V] in nats, of the widest dtype of ``hidden``, ``mixture_logits`` and
        ``embedding``.

    Raises:
        ValueError: shapes that do not match, a dtype that is not floating.

    Example:
        >>> import jax.numpy as jnp
        >>> log_probs = mixture_log_probs(jnp.ones((2, 3)), jnp.zeros(2), jnp.eye(4, 3))
        >>> with jnp.printoptions(precision=4):
        ...     print(jnp.exp(log_probs))
        [0.3075 0.3075 0.3075 0.0774]

    References:
        Yang et al., ICLR 2018, arXiv:1711.03953, eq. 4, for softmaxes; Kanai et al., NeurIPS 2018,
        arXiv:1805.10829, for sigsoftmaxes.
    """
    head = as_head(hidden, embedding, bias)
    mixture_logits = as_mixture_logits(mixture_logits, head[0])
    run = with_automatic_axes(_mixture_log_probs, head[0], head[0].ndim - 2)
    return run(as_partial(score, compute_dtype(*head, mixture_logits)), head, mixture_logits)


@jax.jit
@jax.named_scope("mixture_log_probs")
def _mixture_log_probs(score: Partial, head: Head, mixture_logits: Array) -> Array:
    hidden, embedding, bias = head
    wide = compute_dtype(*head, mixture_logits)

    # One expert after another, so that only the sum so far and one expert's logits are held: [..., V] each.
    def add_expert(total: Array, expert: tuple[Array, Array]) -> tuple[Array, None]:
        states, log_weight = expert  # [..., d], [...]
        logits = jnp.matmul(states, embedding.T, preferred_element_type=wide)  # [..., V]
        if bias is not None:
            logits = logits + jnp.broadcast_to(bias, logits.shape).astype(wide)
        log_probs = log_weight[..., None] + closed_log_probs((logits.ndim - 1,), score, logits)
        return _log_sum_exp(jnp.stack([total, log_probs]), 0), None

    log_weights = log_normalize(mixture_logits.astype(wide))  # [..., K]
    start = jnp.full((*mixture_logits.shape[:-1], len(embedding)), -jnp.inf, wide)
    experts = jnp.moveaxis(hidden, -2, 0), jnp.moveaxis(log_weights, -1, 0)  # [K, ..., d], [K, ...]
    log_probs = jax.lax.scan(add_expert, start, experts)[0]
    return log_probs.astype(jnp.result_type(hidden, embedding, mixture_logits))


def mixture_cross_entropy(
    hidden: Float[AnyArray, "*tokens experts d"],
    mixture_logits: Float[AnyArray, "*tokens experts"],
    embedding: Float[AnyArray, "vocab d"],
    labels: Integer[AnyArray, "*tokens"] | None,
    bias: Float[AnyArray, " vocab"] | None = None,
    *,
    score: Score = sigsoftmax_score,
    block_size: int | None = None,
    where: Bool[AnyArray, "..."] | None = None,
    axis_name: str | None = None,
    targets: Float[AnyArray, "*tokens k"] | None = None,
    target_ids: Integer[AnyArray, "*tokens k"] | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Float[Array, "*tokens"]:
    """Per-token loss -log sum_k pi_k f_k(y) of a mixture of softmaxes or sigsoftmaxes.

    With soft targets t_i at words i it is -sum_i t_i log sum_k pi_k f_k(i).

    Peak memory is tokens x K x block_size, forward and backward; no tokens x K x V array exists.
    Differentiable in ``hidden``, ``mixture_logits``, ``embedding``, ``bias`` and the parameters of ``score`` in
    reverse mode, and from there again in forward mode, in the same memory, or in reverse mode, which keeps the
    logits of all blocks; ``jax.jvp`` of the loss itself is not supported. For matrix products and meshes see
    ``linear_cross_entropy``.

    Args:
        hidden: one state per expert [..., K, d].
        mixture_logits: [..., K]; their softmax weighs the experts, -inf switches one off.
        embedding: output embedding [V, d], shared by the experts.
        labels: words [...], in [0, V), or ``None`` with soft targets. A traced label out of range gives a loss of
            NaN.
        bias: [V]; -inf masks a word, which gets probability 0 and gradient 0.
        score: ``softmax_score`` for a mixture of softmaxes, ``sigsoftmax_score`` for one of sigsoftmaxes; any
            other, see ``sigsoftmax_jax.scores``.
        block_size: rows of the embedding at a time; ``None`` picks about 2**21 logits, at least 512 rows on a CPU,
            2,048 elsewhere.
        where: tokens (not words) to count, broadcast to ``labels``; the others get loss 0 and gradient 0,
            whatever their hidden states, mixture logits and label.
        axis_name: mapped axis over which the rows of ``embedding`` and ``bias`` are sharded; see
            ``linear_cross_entropy``.
        targets: probabilities t [..., k] of few words, as a teacher's; they need not sum to 1 and get gradients.
        target_ids: their words [..., k], in [0, V).
        label_smoothing: must be 0: the mean over the words needs the logarithm of the mixture for each of them.
        z_loss: must be 0: a mixture of probabilities has the normaliser 1.

    Returns:
        Losses [...] in nats, float32, or float64 if an input is; inf where the label is masked.

    Raises:
        ValueError: shapes that do not match, experts of ``hidden`` and ``mixture_logits`` that differ, labels
            that are not integers or (when known) out of range, labels and targets at once, a block below 1, what
            needs log p over the vocabulary.

    Example:
        >>> import jax.numpy as jnp
        >>> hidden, mixture_logits, embedding = jnp.ones((7, 2, 3)), jnp.zeros((7, 2)), jnp.eye(4, 3)
        >>> losses = mixture_cross_entropy(hidden, mixture_logits, embedding, jnp.array([0] * 6 + [3]))
        >>> with jnp.printoptions(precision=4):
        ...     print(losses[-2:])
        [1.1791 2.559 ]

    References:
        Yang et al., ICLR 2018, arXiv:1711.03953, eq. 4, for softmaxes; Kanai et al., NeurIPS 2018,
        arXiv:1805.10829, for sigsoftmaxes.
    """
    _check_no_terms(label_smoothing, z_loss)
    head = as_head(hidden, embedding, bias)
    mixture_logits = as_mixture_logits(mixture_logits, head[0])
    tokens, vocab = head[0].shape[:-2], len(head[1]) * axis_size(axis_name)
    check_where(where, "labels", tokens)
    wanted = as_targets(labels, targets, target_ids, tokens=tokens, classes=vocab, where=where)
    search = Pass(Blocks(check_block_size(block_size), axis_name))
    tokens_of = _Tokens(mixture_logits, wanted, None if where is None else jnp.asarray(where))
    return _losses(search, as_partial(score, compute_dtype(*head)), head, tokens_of)


class _Tokens(NamedTuple):
    """What belongs to the tokens beside their states."""

    mixture_logits: Array
    targets: Targets
    where: Array | None


@functools.partial(jax.jit, static_argnums=0)
@jax.named_scope("mixture_losses")
def _losses(search: Pass, score: Partial, head: Head, tokens: _Tokens) -> Array:
    return on_shards(_own_losses, search, score, head, tokens, ndim=head[0].ndim - 2)


def _own_losses(search: Pass, score: Partial, head: Head, tokens: _Tokens) -> Array:
    hidden, embedding, bias = head
    mixture_logits, targets, where = tokens
    shape, vocab = mixture_logits.shape[:-1], len(embedding) * axis_size(search.blocks.axis_name)
    states = zero_uncounted(hidden, where, shape)
    mixture_logits = zero_uncounted(mixture_logits, where, shape)
    # One pass over the vocabulary in which each expert's state is a token with the same targets.
    ids = jnp.broadcast_to(
        targets.ids[..., None, :], (*mixture_logits.shape, targets.ids.shape[-1])
    )  # [..., K, k]
    log_probs = over_vocabulary(search, score, (states, embedding, bias), ids).log_probs  # [..., K, k]
    wide = compute_dtype(*head, mixture_logits)
    log_weights = log_normalize(mixture_logits.astype(wide))[..., None]  # [..., K, 1]
    # The derivatives of this log-sum-exp are the responsibilities r_k of the experts for a target: they are what
    # the backward pass over the vocabulary starts from.
    mixed = _log_sum_exp(log_weights + log_probs.astype(wide), -2)  # [..., k]
    # Weights and probabilities may sum to just above 1; the gradient is that of the sum.
    mixed = mixed - jax.lax.stop_gradient(jnp.maximum(mixed, 0))
    return zero_uncounted(target_loss(mixed, targets, where, vocab), where, shape)


def _check_no_terms(label_smoothing: float, z_loss: float) -> None:
    """Neither of the terms that a loss of a single expert can have."""
    if check_smoothing(label_smoothing):
        why = "its mean needs log p of every word, which a mixture has only word by word"
        raise ValueError(f"label_smoothing must be 0 for a mixture, as {why}, got {label_smoothing}")
    if check_z_loss(z_loss):
        raise ValueError(f"z_loss must be 0 for a mixture, as its probabilities have no normaliser, got {z_loss}")


def _log_sum_exp(scores: Array, axis: int) -> Array:
    """log sum exp along ``axis``; -inf, with gradient 0, where every entry is -inf."""
    shift = zero_where_all_masked(jax.lax.stop_gradient(jnp.max(scores, axis, keepdims=True)))
    total = jnp.sum(jnp.exp(scores - shift), axis, keepdims=True)
    return jnp.squeeze(jnp.where(total == 0, -jnp.inf, jnp.log(one_where_all_masked(total)) + shift), axis)
