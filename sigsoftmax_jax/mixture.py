"""Mixtures of softmaxes (MoS) and of sigsoftmaxes (MoSS) in log space, and their blocked loss.

log p = log sum_k pi_k f_k with f_k the probabilities of expert k and pi the softmax of the mixture logits.
With the responsibilities r_k = pi_k f_k(y) / p(y), the derivative of -log p(y) is r_k s'(z_kj)
(f_kj - 1[j = y]) for a logit and pi_k - r_k for a mixture logit: both follow from each expert's
log-probability of the label, which takes one pass over the vocabulary for all experts.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from sigsoftmax_jax._arguments import (
    AnyArray,
    as_head,
    as_mixture_logits,
    check_block_size,
    check_floating,
    check_shape,
    check_where,
    compute_dtype,
)
from sigsoftmax_jax._labels import check_labels, nan_where_out_of_range, zero_uncounted
from sigsoftmax_jax._sharding import axis_size, with_automatic_axes
from sigsoftmax_jax._shifted_exponentials import one_where_all_masked, zero_where_all_masked
from sigsoftmax_jax._vocabulary_blocks import Blocks, label_log_probs
from sigsoftmax_jax.activations import log_normalize, score_log_probs
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
    hidden, embedding, bias = as_head(hidden, embedding, bias)
    mixture_logits = as_mixture_logits(mixture_logits, hidden)
    dtype = jnp.result_type(hidden, embedding, mixture_logits)
    wide = compute_dtype(hidden, embedding, mixture_logits)

    def log_probs(hidden: Array, mixture_logits: Array, embedding: Array, bias: Array | None) -> Array:
        # One expert after another, so that only the sum so far and one expert's logits are held: [..., V] each.
        def add_expert(total: Array, expert: tuple[Array, Array]) -> tuple[Array, None]:
            states, log_weight = expert  # [..., d], [...]
            logits = jnp.matmul(states, embedding.T, preferred_element_type=wide)  # [..., V]
            if bias is not None:
                logits = logits + jnp.broadcast_to(bias, logits.shape).astype(wide)
            log_probs = log_weight[..., None] + score_log_probs(score, logits, -1, None)
            return _log_sum_exp(jnp.stack([total, log_probs]), 0), None

        log_weights = log_normalize(mixture_logits.astype(wide))  # [..., K]
        start = jnp.full((*mixture_logits.shape[:-1], len(embedding)), -jnp.inf, wide)
        experts = jnp.moveaxis(hidden, -2, 0), jnp.moveaxis(log_weights, -1, 0)  # [K, ..., d], [K, ...]
        return jax.lax.scan(add_expert, start, experts)[0].astype(dtype)

    run = with_automatic_axes(jax.named_scope("mixture_log_probs")(log_probs), hidden, hidden.ndim - 2)
    return run(hidden, mixture_logits, embedding, bias)


def mixture_cross_entropy(
    hidden: Float[AnyArray, "*tokens experts d"],
    mixture_logits: Float[AnyArray, "*tokens experts"],
    embedding: Float[AnyArray, "vocab d"],
    labels: Integer[AnyArray, "*tokens"],
    bias: Float[AnyArray, " vocab"] | None = None,
    *,
    score: Score = sigsoftmax_score,
    block_size: int | None = None,
    where: Bool[AnyArray, "..."] | None = None,
    axis_name: str | None = None,
) -> Float[Array, "*tokens"]:
    """Per-token loss -log sum_k pi_k f_k(y) of a mixture of softmaxes or sigsoftmaxes.

    Peak memory is tokens x K x block_size, forward and backward; no tokens x K x V array exists.
    Differentiable in ``hidden``, ``mixture_logits``, ``embedding``, ``bias`` and the parameters of ``score`` in
    reverse mode, and from there again in forward or reverse mode; ``jax.jvp`` of the loss itself is not
    supported. For matrix products and meshes see ``linear_cross_entropy``.

    Args:
        hidden: one state per expert [..., K, d].
        mixture_logits: [..., K]; their softmax weighs the experts, -inf switches one off.
        embedding: output embedding [V, d], shared by the experts.
        labels: words [...], in [0, V). A traced label out of range gives a loss of NaN.
        bias: [V]; -inf masks a word, which gets probability 0 and gradient 0.
        score: ``softmax_score`` for a mixture of softmaxes, ``sigsoftmax_score`` for one of sigsoftmaxes; any
            other, see ``sigsoftmax_jax.scores``.
        block_size: rows of the embedding at a time; ``None`` picks about 2**21 logits, at least 512 rows.
        where: tokens (not words) to count, broadcast to ``labels``; the others get loss 0 and gradient 0,
            whatever their hidden states, mixture logits and label.
        axis_name: mapped axis over which the rows of ``embedding`` and ``bias`` are sharded; see
            ``linear_cross_entropy``.

    Returns:
        Losses [...] in nats, of the widest dtype of ``hidden``, ``mixture_logits`` and ``embedding``; inf
        where the label is masked.

    Raises:
        ValueError: shapes that do not match, experts of ``hidden`` and ``mixture_logits`` that differ, labels
            that are not integers or (when known) out of range, a block below 1.

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
    hidden, embedding, bias = as_head(hidden, embedding, bias)
    mixture_logits = as_mixture_logits(mixture_logits, hidden)
    blocks = Blocks(check_block_size(block_size), axis_name)
    check_where(where, "labels", jnp.shape(labels))
    vocab, tokens = len(embedding) * axis_size(axis_name), hidden.shape[:-2]
    check_labels(labels, tokens, vocab, where)
    states = zero_uncounted(hidden, where, tokens)
    mixture_logits = zero_uncounted(mixture_logits, where, tokens)
    # One pass over the vocabulary in which each expert's state is a token with the same label.
    expert_labels = jnp.broadcast_to(jnp.asarray(labels)[..., None], mixture_logits.shape)  # [..., K]
    log_probs, _ = label_log_probs(blocks, score, (states, embedding, bias), expert_labels)  # [..., K]
    losses = nan_where_out_of_range(_mixture_losses(mixture_logits, log_probs), labels, vocab)
    dtype = jnp.result_type(hidden, embedding, mixture_logits)
    return zero_uncounted(losses, where, tokens).astype(dtype)


@jax.named_scope("mixture_losses")
def _mixture_losses(mixture_logits: Array, log_probs: Array) -> Array:
    """Losses [...] from the mixture logits and the experts' log-probabilities of the label, both [..., K].

    The derivatives of the log-sum-exp are the responsibilities r_k of the experts for the label: they are what the
    backward pass over the vocabulary starts from.
    """
    wide = compute_dtype(mixture_logits, log_probs)
    log_weights = log_normalize(mixture_logits.astype(wide))
    losses = -_log_sum_exp(log_weights + log_probs.astype(wide), -1)
    # Weights and probabilities may sum to just above 1; the gradient is that of the sum.
    return losses - jax.lax.stop_gradient(jnp.minimum(losses, 0))


def _log_sum_exp(scores: Array, axis: int) -> Array:
    """log sum exp along ``axis``; -inf, with gradient 0, where every entry is -inf."""
    shift = zero_where_all_masked(jax.lax.stop_gradient(jnp.max(scores, axis, keepdims=True)))
    total = jnp.sum(jnp.exp(scores - shift), axis, keepdims=True)
    return jnp.squeeze(jnp.where(total == 0, -jnp.inf, jnp.log(one_where_all_masked(total)) + shift), axis)
