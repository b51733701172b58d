"""Accuracy on all clean test images, and how large the filter sums are."""

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array

from absum_jax import conv_kernel_mask
from experiments.absum.evaluations.findings import finding
from experiments.absum.regularizers import absum_ratio
from experiments.absum.run import Classifier, ClassifierRun, variables
from experiments.data.images import to_float
from experiments.harness.evaluation import Cell, Evaluation
from experiments.harness.settings import require_at_least
from experiments.harness.stored import Measured, Partial
from experiments.training.devices import is_main_process


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
    classes, inputs = _compiled_classes(trained.subject.predict_fn), variables(trained)
    starts = range(0, len(images), batch_size)
    return np.concatenate([np.asarray(classes(inputs, images[i : i + batch_size])) for i in starts])


@functools.cache
def _compiled_classes(predict_fn: Callable[[Any, Array], Array]) -> Callable[[Any, Any], Array]:
    return jax.jit(lambda variables, images: predict_fn(variables, images).argmax(axis=-1))


def _measure(trained: ClassifierRun, settings: Accuracy, partial: Partial) -> Measured:
    del partial
    images, labels = trained.subject.images("test")
    correct = int(np.sum(predicted_classes(trained, to_float(images), settings.batch_size) == labels))
    numbers = {
        "correct": correct,
        "total": len(labels),
        "accuracy": round(correct / len(labels), 6),
        "absum_ratio": _ratio(trained),
    }
    return Measured(numbers)


def _ratio(trained: ClassifierRun) -> float | None:
    """The filter-sum ratio; ``None`` where no convolution is found, or it is not known over which axes to sum."""
    params = trained.params
    try:
        if not any(jax.tree.leaves(conv_kernel_mask(params))):
            return None
        return round(float(absum_ratio(params)), 6)
    except ValueError as error:  # of a network of one's own, such as one with [out, in, height, width]
        if is_main_process():
            print(f"{trained.subject.label}: no filter-sum ratio: {error}", file=sys.stderr)
        return None


def _cells(numbers: dict[str, Any]) -> dict[str, Cell]:
    ratio = numbers["absum_ratio"]
    return {"test": Cell(numbers["accuracy"])} | ({} if ratio is None else {"filter-sum ratio": Cell(ratio)})


ACCURACY = Evaluation(
    measure=_measure,
    settings=Accuracy(),
    data=lambda trained, settings: trained.subject.dataset.checksum("test"),
    check=_check,
    cells=_cells,
    findings=lambda numbers: [finding("none", "linf", 0.0, numbers["accuracy"], numbers["total"])],
)
