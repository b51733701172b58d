"""Perplexity of the validation and test splits after each phase, and the learning curve that led to it."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.data.streams import evaluation_batches
from experiments.harness.evaluation import Cell, Evaluation, Group
from experiments.harness.paired import paired_cells
from experiments.harness.settings import require_at_least
from experiments.harness.stored import Measured, Partial
from experiments.sigsoftmax import figures
from experiments.sigsoftmax.models import LanguageModel, LossFn, PyTree, Window, arrays_of, model_loss
from experiments.sigsoftmax.run import WordModel, WordModelRun
from experiments.training.requests import stop_if_asked
from sigsoftmax_jax import perplexity

SPLITS = ("valid", "test")
PHASES = {"base": "trained", "finetune": "fine-tuned"}  # how the tables call the phases


@dataclasses.dataclass(frozen=True)
class Perplexity:
    """Settings of the evaluation by fixed parameters."""

    window: int = 70
    """Tokens of one forward pass; the result does not depend on it."""


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
        losses, carry = _window_loss(model_loss(model), params, arrays_of(batch), carry)
        total += float(losses)
        stop_if_asked(together=False)
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
        raise ValueError(f"tokens must be at least 2, as the first is not scored, got {len(tokens)}")
    probs = (np.bincount(train, minlength=vocab_size) + 1) / (len(train) + vocab_size)
    return float(np.exp(-np.mean(np.log(probs[tokens[1:]]))))


def checksums(subject: WordModel) -> dict[str, str]:
    """Of the splits that are scored."""
    return {split: subject.corpus.checksum(split) for split in SPLITS}


def _data(trained: WordModelRun, settings: Perplexity) -> dict[str, Any]:
    del settings
    epochs = {phase: len(each.lines) for phase, each in trained.phases.items()}  # those of the curve
    return {"checksums": checksums(trained.subject), "streams": _streams(trained.subject), "epochs": epochs}


def _streams(subject: WordModel) -> dict[str, int]:
    """How many of them each split is cut into."""
    return {"valid": subject.recipe.evaluation_batch_size, "test": subject.recipe.test_batch_size}


def _check(subject: WordModel, settings: Perplexity) -> None:
    del subject
    require_at_least(settings, 1, ("window",), prefix="perplexity.")


def _measure(trained: WordModelRun, settings: Perplexity, partial: Partial) -> Measured:
    del partial
    subject = trained.subject
    numbers: dict[str, Any] = {
        phase: {
            split: text_perplexity(
                subject.model, each.state.evaluated_params, getattr(subject.corpus, split),
                batch_size=count, window=settings.window,
            )
            for split, count in _streams(subject).items()
        }
        for phase, each in trained.phases.items()
    }  # fmt: skip
    curve = [[line["epoch"], line["train_loss"], line["validation_loss"]] for line in trained.lines]
    return Measured(numbers | {"final_phase": trained.final_phase, "curve": curve})


def _cells(numbers: dict[str, Any]) -> dict[str, Cell]:
    return {
        f"{title}, {split}": Cell(numbers[phase][split])
        for phase, title in PHASES.items()
        if phase in numbers
        for split in SPLITS
    }


def _products(group: Group) -> dict[str, Any]:
    curves = {name: [each.numbers["curve"] for each in measured] for name, measured in group.items()}
    return {"learning_curves.png": figures.learning_curves(curves)}


@functools.partial(jax.jit, static_argnums=0)
def _window_loss(loss_fn: LossFn, params: PyTree, batch: Window, carry: PyTree) -> tuple[Array, PyTree]:
    losses, carry = loss_fn(params, batch["tokens"], batch["labels"], batch["where"], carry)
    return jnp.sum(losses, where=batch["where"]), carry


PERPLEXITY = Evaluation(
    measure=_measure,
    settings=Perplexity(),
    data=_data,
    check=_check,
    cells=_cells,
    products=_products,
    comparison=paired_cells(_cells, "perplexity", digits=1),
)
