"""Cross-entropy and log normaliser from hidden states, block by block: the logits never exist whole."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from sigsoftmax_jax._arguments import AnyArray, as_head, check_block_size, check_where
from sigsoftmax_jax._labels import check_labels, nan_where_out_of_range, zero_uncounted
from sigsoftmax_jax._sharding import axis_size
from sigsoftmax_jax._vocabulary_blocks import Blocks, label_log_probs
from sigsoftmax_jax.scores import Score, sigsoftmax_score


def linear_cross_entropy(
    hidden: Float[AnyArray, "*tokens d"],
    embedding: Float[AnyArray, "vocab d"],
    labels: Integer[AnyArray, "*tokens"],
    bias: Float[AnyArray, " vocab"] | None = None,
    *,
    score: Score = sigsoftmax_score,
    block_size: int | None = None,
    where: Bool[AnyArray, "..."] | None = None,
    axis_name: str | None = None,
) -> Float[Array, "*tokens"]:
    """Per-token loss log sum_j exp(s(z_j)) - s(z_y) of the logits z = hidden embedding^T + bias.

    Peak memory is tokens x block_size, in one pass over the vocabulary; the backward pass computes the
    logits again, four matrix products for the three of materialised logits. Differentiable in ``hidden``,
    ``embedding``, ``bias`` and the parameters of ``score`` in reverse mode, and from there again in forward or
    reverse mode; ``jax.jvp`` of the loss itself is not supported. Matrix products take their precision from
    ``jax.default_matmul_precision``, their inputs' wider dtype (cast a float32 ``embedding`` to bfloat16 for
    bfloat16 products) and accumulate in float32. Under a mesh with Explicit axes (``jax.set_mesh``) the losses
    are sharded as the tokens; inside ``jax.shard_map`` all Explicit axes must be manual.

    Args:
        hidden: states [..., d].
        embedding: output embedding [V, d]; a tied input embedding, or a dense kernel transposed.
        labels: words [...], in [0, V). A traced label out of range gives a loss of NaN.
        bias: [V]; -inf masks a word, which gets probability 0 and gradient 0.
        score: any elementwise log-score, see ``sigsoftmax_jax.scores``; ``softmax_score`` gives the usual loss.
        block_size: rows of the embedding at a time; ``None`` picks about 2**21 logits, at least 512 rows.
        where: tokens (not words) to count, broadcast to ``labels``; the others get loss 0 and gradient 0,
            whatever their hidden state and label.
        axis_name: mapped axis over which the rows of ``embedding`` and ``bias`` are sharded, in order of the
            device index; ``hidden`` and ``labels`` (counted over the whole vocabulary) are the same on its
            devices. Pad a vocabulary that the devices do not divide with rows whose ``bias`` is -inf. Under
            ``shard_map(..., check_vma=False)`` take gradients inside the mapped function.

    Returns:
        Losses [...] in nats, of the wider dtype of ``hidden`` and ``embedding``; inf where the label
        is masked.

    Raises:
        ValueError: shapes that do not match, labels that are not integers or (when known) out of range, a
            block below 1, ``where`` that does not broadcast.

    Example:
        >>> import jax.numpy as jnp
        >>> hidden, embedding = jnp.ones((2, 3)), jnp.eye(5, 3)
        >>> losses = linear_cross_entropy(hidden, embedding, jnp.array([0, 4]), block_size=2)
        >>> with jnp.printoptions(precision=4):
        ...     print(losses)
        [1.2537 2.6336]

    References:
        Kanai et al., "Sigsoftmax: Reanalysis of the Softmax Bottleneck", NeurIPS 2018, arXiv:1805.10829, for
        the score; Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", ICLR 2025,
        arXiv:2411.09009, for the softmax loss without logits.
    """
    hidden, embedding, bias = as_head(hidden, embedding, bias)
    blocks = Blocks(check_block_size(block_size), axis_name)
    check_where(where, "labels", jnp.shape(labels))
    vocab = len(embedding) * axis_size(axis_name)
    tokens = hidden.shape[:-1]
    check_labels(labels, tokens, vocab, where)
    states = zero_uncounted(hidden, where, tokens)
    log_probs, _ = label_log_probs(blocks, score, (states, embedding, bias), jnp.asarray(labels))
    losses = zero_uncounted(nan_where_out_of_range(-log_probs, labels, vocab), where, tokens)
    return losses.astype(jnp.result_type(hidden, embedding))


def linear_log_normalizer(
    hidden: Float[AnyArray, "*tokens d"],
    embedding: Float[AnyArray, "vocab d"],
    bias: Float[AnyArray, " vocab"] | None = None,
    *,
    score: Score = sigsoftmax_score,
    block_size: int | None = None,
    where: Bool[AnyArray, "..."] | None = None,
    axis_name: str | None = None,
) -> Float[Array, "*tokens"]:
    """log sum_j exp(s(z_j)) of the logits z = hidden embedding^T + bias, in the memory of a block.

    The derivative for a logit is s'(z_j) p_j, computed and differentiable as that of ``linear_cross_entropy``.

    Args:
        hidden: states [..., d].
        embedding: output embedding [V, d].
        bias: [V]; -inf masks a word.
        score: any elementwise log-score, see ``sigsoftmax_jax.scores``; ``softmax_score`` gives log-sum-exp.
        block_size: rows of the embedding at a time; ``None`` picks about 2**21 logits, at least 512 rows.
        where: tokens (not words) to count, broadcast to the tokens; the others get 0 and gradient 0.
        axis_name: mapped axis over which the rows of ``embedding`` and ``bias`` are sharded; see
            ``linear_cross_entropy``.

    Returns:
        Log normalisers [...] in nats, of the wider dtype of ``hidden`` and ``embedding``; -inf where every
        word is masked.

    Raises:
        ValueError: shapes that do not match, a dtype that is not floating, a block below 1, ``where`` that does
            not broadcast.

    Example:
        >>> import jax.numpy as jnp
        >>> from sigsoftmax_jax import softmax_score
        >>> print(f"{linear_log_normalizer(jnp.zeros(3), jnp.ones((5, 3)), score=softmax_score):.4f}")
        1.6094
    """
    hidden, embedding, bias = as_head(hidden, embedding, bias)
    blocks = Blocks(check_block_size(block_size), axis_name)
    tokens = hidden.shape[:-1]
    check_where(where, "the tokens", tokens)
    states, unused = zero_uncounted(hidden, where, tokens), jnp.zeros(tokens, jnp.int32)
    _, normalizers = label_log_probs(blocks, score, (states, embedding, bias), unused)
    return zero_uncounted(normalizers, where, tokens).astype(jnp.result_type(hidden, embedding))
