"""The most harmful single Fourier attack on all test images, in both norms, without the whole sweep.

A search leaves out what cannot be the worst after some of the images, so that the rest are seen by a few
frequencies alone. Binary waves, which have twice the energy of the others at equal L-infinity norm, are searched
by themselves, so that the worst with and without them are both known.
"""

import math
from collections.abc import Mapping
from typing import Any

from absum_jax import accuracy_interval
from experiments.absum.evaluations.findings import finding
from experiments.absum.evaluations.first_images import (
    check_first_images,
    first_images,
    first_images_checksum,
    require_epsilons,
)
from experiments.absum.evaluations.fourier_sweeps import BOUNDS, equal_phases
from experiments.absum.evaluations.paired import Pairing, paired_comparison
from experiments.absum.evaluations.worst_frequency_searches import Found, Searches, WorstFrequency, both, waves_of
from experiments.absum.figures.words import display_epsilon
from experiments.absum.run import Classifier, ClassifierRun
from experiments.data.images import to_float
from experiments.harness.evaluation import Cell, Evaluation
from experiments.harness.settings import require_at_least, require_seeds
from experiments.harness.stored import Measured, Partial

COLUMNS = {"linf": "worst of all", "without_binary": "worst of all without binary", "l2": "L2 worst of all"}


def _check(subject: Classifier, settings: WorstFrequency) -> None:
    check_first_images(subject, settings, "worst_frequency")
    require_at_least(settings, 1, ("phases",), prefix="worst_frequency.")
    require_seeds(settings.seed, name="--worst-frequency.seed")
    shape = subject.dataset.image_shape
    for name, largest in {"epsilon": 1.0, "l2_epsilon": math.sqrt(math.prod(shape))}.items():
        require_epsilons(f"worst_frequency.{name}", (getattr(settings, name) or 0.0,), largest)
    if settings.confidence is not None and not 0 < settings.confidence < 1:
        raise ValueError(f"--worst-frequency.confidence must lie in (0, 1) or be None, got {settings.confidence}")


def _measure(trained: ClassifierRun, settings: WorstFrequency, partial: Partial) -> Measured:
    images, labels = first_images(trained.subject, settings)
    shape = images.shape[1:]
    search = Searches(trained, settings, partial, to_float(images), labels)
    binary, others = waves_of(shape[:2], settings.phases)
    found = {}
    for name, waves in {"binary": binary, "without_binary": others}.items():
        if len(waves.phases):
            found[name] = search.worst(name, waves, "linf")
    found["linf"] = min(found.values(), key=lambda each: each.is_right.sum())
    found["l2"] = search.worst("l2", both(binary, others), "l2")
    passes = sum(each.forward_images for name, each in found.items() if name != "linf")
    count, of_a_sweep = len(labels), 2 * len(labels) * (len(binary.phases) + len(others.phases))
    numbers = {
        "images": count,
        "split": settings.split,
        "attacks": {"binary": len(binary.phases), "without_binary": len(others.phases)},
        "phases": [round(phase, 6) for phase in equal_phases(settings.phases)],
        "bounds": BOUNDS,
        "confidence": settings.confidence,
        "epsilons": {norm: round(epsilon, 6) for norm, epsilon in settings.epsilons(shape).items()},
        "forward_share": round(passes / of_a_sweep, 6),
        "worst": {name: _numbers_of(found[name]) for name in COLUMNS if name in found},
    }
    return Measured(numbers, {f"is_right_{name}": each.is_right for name, each in found.items()})


def _numbers_of(found: Found) -> dict[str, Any]:
    correct, total = int(found.is_right.sum()), len(found.is_right)
    return {
        "frequency": found.frequency,
        "phase": round(found.phase, 6),
        "correct": correct,
        "accuracy": round(correct / total, 6),
        "interval": [round(float(bound), 6) for bound in accuracy_interval(correct, total)],
    }


def _cells(numbers: dict[str, Any]) -> dict[str, Cell]:
    return {
        _column(name, numbers): Cell(
            each["accuracy"], "({},{}) [{:.2f}, {:.2f}]".format(*each["frequency"], *each["interval"])
        )
        for name, each in numbers["worst"].items()
    }


def _column(name: str, numbers: Mapping[str, Any]) -> str:
    epsilon = numbers["epsilons"]["l2" if name == "l2" else "linf"]
    return f"{COLUMNS[name]} at {display_epsilon(epsilon)}"


def _findings(numbers: dict[str, Any]) -> list[dict[str, Any]]:
    count, epsilons = sum(numbers["attacks"].values()), numbers["epsilons"]
    by = "certainty" if numbers["confidence"] is None else f"confidence {numbers['confidence']:g}"
    words = f"single Fourier attack, the worst of {count} waves for the attacked images, found with {by}"
    return [
        finding(words, norm, epsilons[norm], numbers["worst"][norm]["accuracy"], numbers["images"])
        for norm in ("linf", "l2")
    ]


WORST_FREQUENCY = Evaluation(
    measure=_measure,
    settings=WorstFrequency(),
    data=first_images_checksum,
    check=_check,
    cells=_cells,
    comparison=paired_comparison(
        Pairing(
            lambda numbers: {_column(name, numbers): each["accuracy"] for name, each in numbers["worst"].items()},
            lambda measured: measured.arrays["is_right_linf"],
        ),
        lambda numbers: f"worst single Fourier attack of all on {numbers['images']} {numbers['split']} images",
    ),
    findings=_findings,
    score=lambda numbers: numbers["worst"]["linf"]["accuracy"],
    by_default=False,
)
