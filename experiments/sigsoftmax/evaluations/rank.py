"""Numerical rank of the log-probabilities of the test text: what the softmax bottleneck bounds."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax import Array

from experiments.data.streams import evaluation_batches
from experiments.harness.evaluation import Cell, Evaluation, Group
from experiments.harness.settings import require_at_least
from experiments.harness.stored import Measured, Partial
from experiments.sigsoftmax import figures
from experiments.sigsoftmax.evaluations.perplexity import checksums
from experiments.sigsoftmax.models import LanguageModel, LogProbsFn, PyTree, Window, arrays_of, model_log_probs
from experiments.sigsoftmax.run import WordModel, WordModelRun
from experiments.training.progress import ProgressReport
from experiments.training.requests import stop_if_asked
from sigsoftmax_jax import RankReport, streamed_log_prob_rank

_EFFECTIVE_EPSILONS = (1e-3, 1e-4, 1e-5)
_SPECTRUM_POINTS = 200


@dataclasses.dataclass(frozen=True)
class Rank:
    """Settings of the rank."""

    contexts: int = 2048
    """The log-probabilities of the first so many test contexts make the matrix whose rank is taken; 0 for all."""


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
        raise ValueError(f"contexts must be 1 to {most}, those of the text, got {contexts}")
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
        log_probs, carry = _window_log_probs(model_log_probs(model), params, arrays_of(batch), carry)
        yield np.asarray(log_probs)[batch["where"]]
        progress.advance(int(batch["where"].sum()))
        stop_if_asked(together=False)


def _check(subject: WordModel, settings: Rank) -> None:
    del subject
    require_at_least(settings, 0, ("contexts",), prefix="rank.")


def _measure(trained: WordModelRun, settings: Rank, partial: Partial) -> Measured:
    del partial
    subject = trained.subject
    # Fewer contexts where the text has no more.
    contexts = settings.contexts if 0 < settings.contexts < len(subject.corpus.test) - 1 else None
    label = f"rank {subject.label}"
    return Measured(
        log_prob_rank_of(subject.model, trained.params, subject.corpus.test, contexts=contexts, label=label)
    )


def _cells(numbers: dict[str, Any]) -> dict[str, Cell]:
    return {f"rank of {numbers['contexts']} x {numbers['vocabulary']}": Cell(numbers["rank"])}


def _products(group: Group) -> dict[str, Any]:
    return {"spectra.png": figures.spectra({name: measured[0].numbers for name, measured in group.items()})}


@functools.partial(jax.jit, static_argnums=0)
def _window_log_probs(
    log_probs_fn: LogProbsFn, params: PyTree, batch: Window, carry: PyTree
) -> tuple[Array, PyTree]:
    return log_probs_fn(params, batch["tokens"], batch["where"], carry)


RANK = Evaluation(
    measure=_measure,
    settings=Rank(),
    data=lambda trained, settings: checksums(trained.subject)["test"],
    check=_check,
    cells=_cells,
    products=_products,
)
