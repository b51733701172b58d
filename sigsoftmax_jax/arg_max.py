"""The most probable words of hidden states, and how often they are the labels: blocked, without logits."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Integer

from sigsoftmax_jax._arguments import (
    AnyArray,
    Head,
    as_head,
    check_block_size,
    check_where,
    compute_dtype,
)
from sigsoftmax_jax._labels import check_labels, zero_uncounted
from sigsoftmax_jax._linear_losses import losses_and_argmax
from sigsoftmax_jax._mesh import on_shards
from sigsoftmax_jax._score_argument import as_partial
from sigsoftmax_jax._sharding import axis_size
from sigsoftmax_jax._vocabulary_blocks import Blocks, Pass, over_vocabulary
from sigsoftmax_jax.scores import Score, sigsoftmax_score


def linear_argmax(
    hidden: Float[AnyArray, "*tokens d"],
    embedding: Float[AnyArray, "vocab d"],
    bias: Float[AnyArray, " vocab"] | None = None,
    *,
    score: Score = sigsoftmax_score,
    block_size: int | None = None,
    axis_name: str | None = None,
) -> Integer[Array, "*tokens"]:
    """The word of the largest score s(z_j) of the logits z = hidden embedding^T + bias, in the memory of a block.

    Args:
        hidden: states [..., d].
        embedding: output embedding [V, d].
        bias: [V]; -inf masks a word.
        score: any elementwise log-score, see ``sigsoftmax_jax.scores``; one that increases gives the largest
            logit.
        block_size: rows of the embedding at a time; ``None`` picks about 2**21 logits, at least 512 rows on a CPU,
            2,048 elsewhere.
        axis_name: mapped axis over which the rows of ``embedding`` and ``bias`` are sharded; see
            ``linear_cross_entropy``. Words are counted over the whole vocabulary.

    Returns:
        Words [...], int32; the first of several with equal scores, 0 where every word is masked.

    Raises:
        ValueError: shapes that do not match, a dtype that is not floating, a block below 1.

    Example:
        >>> import jax.numpy as jnp
        >>> print(linear_argmax(jnp.array([[0.0, 1.0], [2.0, 1.0]]), jnp.eye(3, 2), block_size=2))
        [1 0]

    See also:
        ``linear_cross_entropy_and_argmax``, which finds them in the pass of the loss.
    """
    head = as_head(hidden, embedding, bias)
    search = Pass(Blocks(check_block_size(block_size), axis_name), argmax=True)
    return _argmax(search, as_partial(score, compute_dtype(*head)), head)


def linear_token_accuracy(
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
    """1 for each token whose most probable word is its label, else 0, in the memory of a block.

    Args:
        hidden: states [..., d].
        embedding: output embedding [V, d].
        labels: words [...], in [0, V).
        bias: [V]; -inf masks a word.
        score: any elementwise log-score, see ``sigsoftmax_jax.scores``.
        block_size: rows of the embedding at a time; ``None`` picks about 2**21 logits, at least 512 rows on a CPU,
            2,048 elsewhere.
        where: tokens to count, broadcast to ``labels``; the others get 0. The accuracy is the sum of what is
            returned by the number of tokens that count.
        axis_name: mapped axis over which the rows of ``embedding`` and ``bias`` are sharded; see
            ``linear_cross_entropy``.

    Returns:
        Ones and zeros [...], float32, without a gradient; 0 where a traced label is out of range.

    Raises:
        ValueError: as ``linear_cross_entropy``.

    Example:
        >>> import jax.numpy as jnp
        >>> hidden, labels = jnp.array([[0.0, 1.0], [2.0, 1.0]]), jnp.array([1, -100])
        >>> correct = linear_token_accuracy(hidden, jnp.eye(3, 2), labels, where=labels != -100)
        >>> print(correct, correct.sum() / (labels != -100).sum())
        [1. 0.] 1.0
    """
    head = as_head(hidden, embedding, bias)
    tokens = head[0].shape[:-1]
    check_where(where, "labels", tokens)
    check_labels(labels, tokens, len(head[1]) * axis_size(axis_name), where)
    search = Pass(Blocks(check_block_size(block_size), axis_name), argmax=True)
    counted = None if where is None else jnp.asarray(where)
    return _is_label(search, as_partial(score, compute_dtype(*head)), head, jnp.asarray(labels), counted)


def linear_cross_entropy_and_argmax(
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
) -> tuple[Float[Array, "*tokens"], Integer[Array, "*tokens"]]:
    """The losses of ``linear_cross_entropy`` and the words of ``linear_argmax``, in one pass over the vocabulary.

    Args:
        hidden: states [..., d].
        embedding: output embedding [V, d].
        labels: words [...], in [0, V), or ``None`` with soft targets.
        bias: [V]; -inf masks a word.
        score: any elementwise log-score, see ``sigsoftmax_jax.scores``.
        block_size: rows of the embedding at a time; ``None`` picks about 2**21 logits, at least 512 rows on a CPU,
            2,048 elsewhere.
        where: tokens to count; the others get loss 0 and whatever word.
        axis_name: mapped axis over which the rows of ``embedding`` and ``bias`` are sharded.
        targets: as in ``linear_cross_entropy``, like the rest.
        target_ids: their words [..., k].
        label_smoothing: in [0, 1).
        z_loss: weight of the squared log normaliser.

    Returns:
        Losses [...] and words [...], for a metric beside the gradient (``has_aux=True``).

    Raises:
        ValueError: as ``linear_cross_entropy``.

    Example:
        >>> import jax.numpy as jnp
        >>> hidden, embedding = jnp.array([[0.0, 1.0], [2.0, 1.0]]), jnp.eye(3, 2)
        >>> losses, words = linear_cross_entropy_and_argmax(hidden, embedding, jnp.array([1, 2]))
        >>> with jnp.printoptions(precision=4):
        ...     print(losses, words)
        [0.4076 2.8899] [1 0]
    """
    losses, words = losses_and_argmax(
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
        argmax=True,
    )
    assert words is not None  # as asked for
    return losses, words


@partial(jax.jit, static_argnums=0)
def _argmax(search: Pass, score: Partial, head: Head) -> Array:
    return on_shards(_own_argmax, search, score, head, (), ndim=head[0].ndim - 1)


def _own_argmax(search: Pass, score: Partial, head: Head, per_token: tuple[()]) -> Array:
    del per_token
    words = over_vocabulary(search, score, head, jnp.zeros((*head[0].shape[:-1], 0), jnp.int32)).argmax
    assert words is not None  # as asked for
    return words


@partial(jax.jit, static_argnums=0)
def _is_label(search: Pass, score: Partial, head: Head, labels: Array, where: Array | None) -> Array:
    return on_shards(_own_is_label, search, score, head, (labels, where), ndim=head[0].ndim - 1)


def _own_is_label(search: Pass, score: Partial, head: Head, per_token: tuple[Array, Array | None]) -> Array:
    labels, where = per_token
    # Not cast to the words' dtype, in which a label that is out of range might be a word.
    correct = (_own_argmax(search, score, head, ()) == labels).astype(jnp.float32)
    return zero_uncounted(correct, where, labels.shape)
