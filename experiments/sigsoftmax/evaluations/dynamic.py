"""Dynamic evaluation: perplexity of a model that goes on learning from the text that it is scored on."""

import dataclasses
from typing import Any

import jax
import numpy as np

from experiments.harness.evaluation import Cell, Evaluation
from experiments.harness.paired import paired_cells
from experiments.harness.stored import Measured, Partial
from experiments.sigsoftmax.dynamic_evaluation import dynamic_loss, gradient_rms
from experiments.sigsoftmax.evaluations.perplexity import SPLITS, checksums
from experiments.sigsoftmax.models import model_loss
from experiments.sigsoftmax.run import WordModelRun
from sigsoftmax_jax import perplexity


@dataclasses.dataclass(frozen=True)
class Dynamic:
    """Settings of dynamic evaluation: all are the recipe's."""


def _data(trained: WordModelRun, settings: Dynamic) -> dict[str, Any]:
    del settings
    return checksums(trained.subject) | dataclasses.asdict(trained.subject.recipe.dynamic)


def _measure(trained: WordModelRun, settings: Dynamic, partial: Partial) -> Measured:
    """The gradient statistics and then each split, each kept when it is done."""
    del settings
    subject, params = trained.subject, trained.params
    model, dynamic = subject.model, subject.recipe.dynamic
    shared = model_loss(model), params, model.initial_carry
    done = partial.read()
    leaves, structure = jax.tree.flatten(params)
    if not done:
        label = f"gradient statistics {subject.label}"
        rms = gradient_rms(*shared, subject.corpus.train, dynamic, label=label)
        done = {f"rms{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(rms))}
        partial.write(**done)
    rms = jax.tree.unflatten(structure, [done[f"rms{i}"] for i in range(len(leaves))])
    for split in SPLITS:
        if split not in done:
            label = f"dynamic evaluation ({split}) {subject.label}"
            mean = dynamic_loss(*shared, getattr(subject.corpus, split), dynamic, rms=rms, label=label)
            done[split] = np.asarray(perplexity(float(mean.total), int(mean.count)))
            partial.write(**done)
    return Measured({split: float(done[split]) for split in SPLITS})


def _cells(numbers: dict[str, Any]) -> dict[str, Cell]:
    return {f"dynamic, {split}": Cell(numbers[split]) for split in SPLITS}


DYNAMIC = Evaluation(
    measure=_measure,
    settings=Dynamic(),
    data=_data,
    cells=_cells,
    comparison=paired_cells(_cells, "perplexity under dynamic evaluation", digits=1),
)
