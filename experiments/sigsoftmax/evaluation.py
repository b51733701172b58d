"""What a trained language model is measured by: perplexity, and the rank of its log-probabilities."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.data.streams import evaluation_batches
from experiments.sigsoftmax.dynamic import LossFn, Window
from experiments.sigsoftmax.models import LanguageModel
from experiments.training.progress import ProgressReport
from sigsoftmax_jax import RankReport, perplexity, streamed_log_prob_rank

PyTree = Any
LogProbsFn = Callable[[PyTree, Array, Array, PyTree], tuple[Array, PyTree]]

_EFFECTIVE_EPSILONS = (1e-3, 1e-4, 1e-5)
_SPECTRUM_POINTS = 200


@functools.cache
def model_loss(model: LanguageModel) -> LossFn:
    """``(params, tokens, labels, where, carry) -> (losses, carry)``, no dropout; one function per model."""

    def loss(params: PyTree, tokens: Array, labels: Array, where: Array, carry: PyTree) -> tuple[Array, PyTree]:
        result: Any = model.apply({"params": params}, tokens, labels, where, carry, method="token_losses")
        losses, output = result
        return losses, output.carry

    return loss


@functools.cache
def model_log_probs(model: LanguageModel) -> LogProbsFn:
    """``(params, tokens, where, carry) -> (log-probabilities, carry)``; one function per model."""

    def log_probs(params: PyTree, tokens: Array, where: Array, carry: PyTree) -> tuple[Array, PyTree]:
        result: Any = model.apply({"params": params}, tokens, where, carry, method="log_probs")
        return result

    return log_probs


def text_perplexity(
    model: LanguageModel, params: PyTree, tokens: np.ndarray, *, batch_size: int, window: int = 70
) -> float:
    """exp of the mean loss of all n - 1 labels of a text, each counted once whatever the batch size.

    Args:
        model, params: a trained network.
        tokens: int [n].
        batch_size: number of streams that the text is cut into; each starts without a history.
        window: tokens of one forward pass; the result does not depend on it.

    Returns:
        The perplexity.

    Raises:
        ValueError: as for `evaluation_batches`.
    """
    carry, total = model.initial_carry(batch_size), 0.0
    for batch in evaluation_batches(tokens, batch_size, window):
        losses, carry = _window_loss(model_loss(model), params, _arrays(batch), carry)
        total += float(losses)
    return float(perplexity(total, len(tokens) - 1))


def unigram_perplexity(train: np.ndarray, tokens: np.ndarray, vocab_size: int) -> float:
    """Perplexity of the labels of a text under word frequencies alone: the baseline of any language model.

    p(w) = (count of w in the training text + 1) / (its length + vocabulary), with one added to every count
    (Laplace) as a word of the vocabulary may be missing from the training text.

    Args:
        train: int [m], the training text.
        tokens: int [n], whose n - 1 labels are scored: all but the first, as for a language model.
        vocab_size: number of words.

    Returns:
        The perplexity.

    Raises:
        ValueError: fewer than two tokens, as there is nothing to score.

    Example:
        >>> print(f"{unigram_perplexity(np.array([0, 0, 1]), np.array([1, 0, 0]), 2):.4f}")
        1.6667
    """
    if len(tokens) < 2:
        raise ValueError(f"{len(tokens)} tokens, expected at least 2: the first one is not scored")
    probs = (np.bincount(train, minlength=vocab_size) + 1) / (len(train) + vocab_size)
    return float(np.exp(-np.mean(np.log(probs[tokens[1:]]))))


def log_prob_rank_of(
    model: LanguageModel,
    params: PyTree,
    tokens: np.ndarray,
    *,
    contexts: int | None = None,
    window: int = 70,
    label: str = "rank",
) -> dict[str, Any]:
    """Numerical rank of the log-probabilities [contexts, V] of a text, read as one stream.

    Args:
        model, params: a trained network.
        tokens: int [n].
        contexts: the first N of the n - 1 contexts that have a label; None for all of them.
        window: tokens of one forward pass.
        label: shown with the progress.

    Returns:
        What ``result.json`` says of it: ``rank``, ``contexts``, ``vocabulary``, ``dtype``, ``tolerance``,
        ``effective_ranks`` by the share of the squares left out, and ``singular_values``: about 200 pairs
        [k, k-th largest], k = 1, 2, ... evenly spaced on a logarithmic axis.

    Raises:
        ValueError: ``contexts`` is not in [1, n - 1]; otherwise as for `evaluation_batches`.
    """
    most = len(tokens) - 1
    if contexts is not None and not 1 <= contexts <= most:
        raise ValueError(f"contexts is {contexts}, expected 1 to {most}, those of the text")
    count = most if contexts is None else contexts
    batches = evaluation_batches(tokens[: count + 1], 1, window)
    with ProgressReport(label, count, "contexts") as progress:
        return rank_row(streamed_log_prob_rank(_log_prob_blocks(model, params, batches, progress)))


def rank_row(report: RankReport) -> dict[str, Any]:
    """What ``result.json`` says of a rank; see `log_prob_rank_of`."""
    values = report.singular_values
    numbers = np.unique(np.geomspace(1, len(values), _SPECTRUM_POINTS).round().astype(int))
    return {
        "rank": report.rank,
        "contexts": report.shape[0],
        "vocabulary": report.shape[1],
        "dtype": str(report.dtype),
        "tolerance": report.tolerance,
        "effective_ranks": {f"{epsilon:g}": report.effective_rank(epsilon) for epsilon in _EFFECTIVE_EPSILONS},
        "singular_values": [[int(k), float(values[k - 1])] for k in numbers],
    }


def _log_prob_blocks(
    model: LanguageModel, params: PyTree, batches: Iterator[Window], progress: ProgressReport
) -> Iterator[np.ndarray]:
    """The log-probabilities of one window at a time, of positions that are not padding."""
    carry = model.initial_carry(1)
    for batch in batches:
        log_probs, carry = _window_log_probs(model_log_probs(model), params, _arrays(batch), carry)
        yield np.asarray(log_probs)[batch["where"]]
        progress.advance(int(batch["where"].sum()))


def _arrays(batch: Window) -> Window:
    return {name: batch[name] for name in ("tokens", "labels", "where")}


@functools.partial(jax.jit, static_argnums=0)
def _window_loss(loss_fn: LossFn, params: PyTree, batch: Window, carry: PyTree) -> tuple[Array, PyTree]:
    losses, carry = loss_fn(params, batch["tokens"], batch["labels"], batch["where"], carry)
    return jnp.sum(losses, where=batch["where"]), carry


@functools.partial(jax.jit, static_argnums=0)
def _window_log_probs(
    log_probs_fn: LogProbsFn, params: PyTree, batch: Window, carry: PyTree
) -> tuple[Array, PyTree]:
    return log_probs_fn(params, batch["tokens"], batch["where"], carry)
