"""Cross-entropy and log normaliser from hidden states, block by block: the logits never exist whole."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Integer

from sigsoftmax_jax._arguments import AnyArray, Head, as_head, check_block_size, check_where, compute_dtype
from sigsoftmax_jax._labels import zero_uncounted
from sigsoftmax_jax._linear_losses import losses_and_argmax
from sigsoftmax_jax._mesh import on_shards
from sigsoftmax_jax._score_argument import as_partial
from sigsoftmax_jax._vocabulary_blocks import Blocks, Pass, over_vocabulary
from sigsoftmax_jax.scores import Score, sigsoftmax_score


def linear_cross_entropy(
    hidden: Float[AnyArray, "*tokens d"],
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
    """Per-token loss log sum_j exp(s(z_j)) - s(z_y) of the logits z = hidden embedding^T + bias.

    With soft targets t_i at words i it is -sum_i t_i log p_i; with smoothing e, (1 - e) times that plus e times
    the mean of -log p over the words that are not masked; a z-loss adds z_loss (log sum_j exp(s(z_j)))^2.

    Peak memory is tokens x block_size, in one pass over the vocabulary; the backward pass computes the
    logits again, four matrix products for the three of materialised logits. Differentiable in ``hidden``,
    ``embedding``, ``bias`` and the parameters of ``score`` in reverse mode, and from there again in forward
    mode, in the same memory (a Hessian-vector product by ``jax.jvp`` of the gradient), or in reverse mode,
    which keeps the logits of all blocks; ``jax.jvp`` of the loss itself is not supported. Matrix products take
    their precision from ``jax.default_matmul_precision``, their inputs' wider dtype (cast a float32
    ``embedding`` to bfloat16 for bfloat16 products) and accumulate in float32. On a mesh with Explicit axes every
    device passes over its own tokens and its own rows of the embedding, and the losses are sharded as the tokens;
    for Auto axes see docs/losses.md. Inside ``jax.shard_map`` all Explicit axes must be manual.

    Args:
        hidden: states [..., d].
        embedding: output embedding [V, d]; a tied input embedding, or a dense kernel transposed.
        labels: words [...], in [0, V), or ``None`` with soft targets. A traced label out of range gives a loss of
            NaN.
        bias: [V]; -inf masks a word, which gets probability 0 and gradient 0; its row must be finite all the same.
        score: any elementwise log-score, see ``sigsoftmax_jax.scores``; ``softmax_score`` gives the usual loss.
        block_size: rows of the embedding at a time; ``None`` picks about 2**21 logits, at least 512 rows on a CPU,
            2,048 elsewhere.
        where: tokens (not words) to count, broadcast to ``labels``; the others get loss 0 and gradient 0,
            whatever their hidden state and label.
        axis_name: mapped axis over which the rows of ``embedding`` and ``bias`` are sharded, in order of the
            device index; ``hidden`` and ``labels`` (counted over the whole vocabulary) are the same on its
            devices. Pad a vocabulary that the devices do not divide with rows whose ``bias`` is -inf. Under
            ``shard_map(..., check_vma=False)`` take gradients inside the mapped function.
        targets: probabilities t [..., k] of few words, as a teacher's; they need not sum to 1 and get gradients.
        target_ids: their words [..., k], in [0, V); one that occurs twice has the sum of its targets.
        label_smoothing: e in [0, 1), a number known before tracing.
        z_loss: weight of the squared log normaliser, at least 0, a number known before tracing.

    Returns:
        Losses [...] in nats, float32, or float64 if an input is; inf where the label is masked.

    Raises:
        ValueError: shapes that do not match, labels that are not integers or (when known) out of range, labels
            and targets at once, a block below 1, ``where`` that does not broadcast, smoothing outside [0, 1), a
            negative ``z_loss``.

    Example:
        >>> import jax.numpy as jnp
        >>> hidden, embedding = jnp.ones((2, 3)), jnp.eye(5, 3)
        >>> losses = linear_cross_entropy(hidden, embedding, jnp.array([0, 4]), block_size=2)
        >>> with jnp.printoptions(precision=4):
        ...     print(losses)
        [1.2537 2.6336]
        >>> teacher, words = jnp.array([[0.75, 0.25]] * 2), jnp.array([[0, 4]] * 2)
        >>> soft = linear_cross_entropy(hidden, embedding, None, targets=teacher, target_ids=words)
        >>> with jnp.printoptions(precision=4):
        ...     print(soft)
        [1.5987 1.5987]

    References:
        Kanai et al., "Sigsoftmax: Reanalysis of the Softmax Bottleneck", NeurIPS 2018, arXiv:1805.10829, for
        the score; Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", ICLR 2025,
        arXiv:2411.09009, for the softmax loss without logits.

    See also:
        ``linear_cross_entropy_and_argmax``, which finds the most probable words in the same pass.
    """
    return losses_and_argmax(
        hidden,
        embedding,
        labels,
        bias,
        score=score,
        block_size=block_size,
        where=where,
        axis_name=axis_name,
        targets=targets,
        target_ids=target_ids,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        argmax=False,
    )[0]


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
        block_size: rows of the embedding at a time; ``None`` picks about 2**21 logits, at least 512 rows on a CPU,
            2,048 elsewhere.
        where: tokens (not words) to count, broadcast to the tokens; the others get 0 and gradient 0.
        axis_name: mapped axis over which the rows of ``embedding`` and ``bias`` are sharded; see
            ``linear_cross_entropy``.

    Returns:
        Log normalisers [...] in nats, float32, or float64 if an input is; -inf where every word is masked.

    Raises:
        ValueError: shapes that do not match, a dtype that is not floating, a block below 1, ``where`` that does
            not broadcast.

    Example:
        >>> import jax.numpy as jnp
        >>> from sigsoftmax_jax import softmax_score
        >>> print(f"{linear_log_normalizer(jnp.zeros(3), jnp.ones((5, 3)), score=softmax_score):.4f}")
        1.6094
    """
    head = as_head(hidden, embedding, bias)
    tokens = head[0].shape[:-1]
    check_where(where, "the tokens", tokens)
    search = Pass(Blocks(check_block_size(block_size), axis_name))
    counted = None if where is None else jnp.asarray(where)
    return _log_normalizers(search, as_partial(score, compute_dtype(*head)), head, counted)


@partial(jax.jit, static_argnums=0)
def _log_normalizers(search: Pass, score: Partial, head: Head, where: Array | None) -> Array:
    return on_shards(_own_log_normalizers, search, score, head, where, ndim=head[0].ndim - 1)


def _own_log_normalizers(search: Pass, score: Partial, head: Head, where: Array | None) -> Array:
    hidden, embedding, bias = head
    tokens = hidden.shape[:-1]
    states, no_targets = zero_uncounted(hidden, where, tokens), jnp.zeros((*tokens, 0), jnp.int32)
    found = over_vocabulary(search, score, (states, embedding, bias), no_targets)
    return zero_uncounted(found.normalizer, where, tokens)
