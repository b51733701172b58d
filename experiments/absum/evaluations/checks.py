"""What would spoil an attack on the network, such as gradients that vanish; looked for before it is believed."""

import dataclasses
import sys
from typing import Any

from absum_jax import check_predictions
from experiments.absum.evaluations.first_images import (
    FirstImages,
    check_first_images,
    first_images,
    first_images_checksum,
)
from experiments.absum.run import Classifier, ClassifierRun, variables
from experiments.data.images import to_float
from experiments.harness.evaluation import Cell, Evaluation
from experiments.harness.stored import Measured, Partial
from experiments.training.devices import is_main_process


@dataclasses.dataclass(frozen=True)
class Checks:
    """Settings of the checks."""

    images: int = 64
    """The first so many test images are looked at, 2 or more."""


def _as_first_images(settings: Checks) -> FirstImages:
    return FirstImages(images=settings.images, batch_size=settings.images)


def _check(subject: Classifier, settings: Checks) -> None:
    if settings.images < 2:
        raise ValueError(f"--checks.images must be at least 2, got {settings.images}")
    check_first_images(subject, _as_first_images(settings), "checks")


def _measure(trained: ClassifierRun, settings: Checks, partial: Partial) -> Measured:
    del partial
    images, labels = first_images(trained.subject, _as_first_images(settings))
    findings = check_predictions(trained.subject.predict_fn, variables(trained), to_float(images), labels)
    if is_main_process():
        for found in findings:
            line = f"{trained.subject.label}: {found.category} ({found.value:.3g}): {found.advice}"
            print(f"warning: {line}", file=sys.stderr)
    return Measured({"images": len(labels), "findings": [dataclasses.asdict(found) for found in findings]})


def _cells(numbers: dict[str, Any]) -> dict[str, Cell]:
    categories = [found["category"] for found in numbers["findings"]]
    return {"warnings": Cell(len(categories), ", ".join(categories))}


CHECKS = Evaluation(
    measure=_measure,
    settings=Checks(),
    data=lambda trained, settings: first_images_checksum(trained, _as_first_images(settings)),
    check=_check,
    cells=_cells,
)
