"""Accuracy on all clean test images, and how large the filter sums are."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import Array

from experiments.absum.regularizers import absum_ratio
from experiments.absum.run import Classifier, ClassifierRun, variables
from experiments.absum.task import predict_fn
from experiments.data.images import to_float
from experiments.harness.evaluation import Cell, Evaluation
from experiments.harness.settings import require_at_least
from experiments.harness.stored import Measured, Partial


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Settings of the evaluation on clean images."""

    batch_size: int = 500
    """Images of one forward pass."""


def _check(subject: Classifier, settings: Accuracy) -> None:
    del subject
    require_at_least(settings, 1, ("batch_size",), prefix="accuracy.")


def predicted_classes(trained: ClassifierRun, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Predicted classes [N] of float images [N, H, W, C], in batches of at most ``batch_size``."""
    classes, inputs = _compiled_classes(trained.subject.model), variables(trained)
    starts = range(0, len(images), batch_size)
    return np.concatenate([np.asarray(classes(inputs, images[i : i + batch_size])) for i in starts])


@functools.cache
def _compiled_classes(model: nn.Module) -> Callable[[Any, Any], Array]:
    return jax.jit(lambda variables, images: predict_fn(model)(variables, images).argmax(axis=-1))


def _measure(trained: ClassifierRun, settings: Accuracy, partial: Partial) -> Measured:
    del partial
    images, labels = trained.subject.images("test")
    correct = int(np.sum(predicted_classes(trained, to_float(images), settings.batch_size) == labels))
    numbers = {
        "correct": correct,
        "total": len(labels),
        "accuracy": correct / len(labels),
        "absum_ratio": round(float(absum_ratio(trained.params)), 6),
    }
    return Measured(numbers)


def _cells(numbers: dict[str, Any]) -> dict[str, Cell]:
    return {"test": Cell(numbers["accuracy"]), "filter-sum ratio": Cell(numbers["absum_ratio"])}


ACCURACY = Evaluation(
    measure=_measure,
    settings=Accuracy(),
    data=lambda trained, settings: trained.subject.dataset.checksum("test"),
    check=_check,
    cells=_cells,
)
