"""Attacks that are made on one network, the substitute, and shown to another, the target.

For each network: the Fourier frequency that is worst on its validation images, and adversarial images by PGD and
FGSM, of the test images. For several together: how many of those each other network has right. PGD goes on raising
the loss of images that fool the substitute already: barely over its boundary they would fool nobody else.
"""

import dataclasses
from typing import Any

import numpy as np

from absum_jax import fgsm, fourier_perturbation
from experiments.absum.evaluations.accuracy import predicted_classes
from experiments.absum.evaluations.adversarial_images import adversarial_images
from experiments.absum.evaluations.first_images import (
    FirstImages,
    check_first_images,
    first_images,
    first_images_checksum,
    require_epsilons,
)
from experiments.absum.evaluations.fourier_sweeps import Attack, KeptSweeps, equal_phases
from experiments.absum.evaluations.paired import Pairing, compare_pairs
from experiments.absum.evaluations.transfer_tables import ATTACKS, transfer_tables
from experiments.absum.figures.transfer import matrices
from experiments.absum.figures.words import display_epsilon
from experiments.absum.run import Classifier, ClassifierRun, Finished, variables
from experiments.data.images import to_float
from experiments.harness.evaluation import Cell, Comparison, Evaluation
from experiments.harness.settings import check_all, require_at_least, require_seeds
from experiments.harness.stored import Measured, Partial
from experiments.training.progress import ProgressReport


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Settings of transferred attacks."""

    images: int = 300
    """The first so many test images are attacked."""
    validation_images: int = 300
    """The first so many validation images, on which a substitute's worst frequency is found."""
    batch_size: int = 300
    """Images of one forward pass."""
    fourier_epsilon: float | None = None
    """L-infinity norm of the Fourier attack; by default 0.2 for grey images and 16/255 for colour."""
    gradient_epsilon: float | None = None
    """L-infinity norm of PGD and FGSM; by default 0.1 for grey images and 8/255 for colour."""
    num_steps: int = 20
    """Of PGD on the margin."""
    seed: int = 0
    """Of the random starts."""

    @property
    def test(self) -> FirstImages:
        """What is attacked."""
        return FirstImages(self.images, self.batch_size, "test")

    @property
    def validation(self) -> FirstImages:
        """What a frequency is chosen by."""
        return FirstImages(self.validation_images, self.batch_size, "validation")

    def epsilon(self, attack: str, channels: int) -> float:
        """The one given, or the default for that many channels."""
        grey, colour = (0.2, 16 / 255) if attack == "fourier" else (0.1, 8 / 255)
        given = self.fourier_epsilon if attack == "fourier" else self.gradient_epsilon
        return (grey if channels == 1 else colour) if given is None else given


def _check(subject: Classifier, settings: Transfer) -> None:
    require_at_least(settings, 1, ("num_steps",), prefix="transfer.")
    require_seeds(settings.seed, name="--transfer.seed")
    check_all([
        lambda: check_first_images(subject, settings.test, "transfer"),
        lambda: check_first_images(subject, settings.validation, "transfer", count="validation_images"),
    ])  # fmt: skip
    for name in ("fourier_epsilon", "gradient_epsilon"):
        require_epsilons(f"transfer.{name}", (getattr(settings, name) or 0.0,), 1)


def _data(trained: ClassifierRun, settings: Transfer) -> list[str]:
    return [first_images_checksum(trained, each) for each in (settings.test, settings.validation)]


def _measure(trained: ClassifierRun, settings: Transfer, partial: Partial) -> Measured:
    images, labels = first_images(trained.subject, settings.test)
    pixels, channels = to_float(images), images.shape[-1]
    attack = Attack("linf", [settings.epsilon("fourier", channels)], equal_phases(1), settings.batch_size)
    chosen_by = first_images(trained.subject, settings.validation)
    sweep = KeptSweeps(trained, partial).sweep("validation", attack, *chosen_by)
    frequency = np.asarray(sweep.worst_frequency)[0]
    pattern = fourier_perturbation(frequency, images.shape[1:], settings.epsilon("fourier", channels))
    attacked = {
        "fourier": np.clip(pixels + np.asarray(pattern)[None], 0, 1),
        "pgd": _pgd_images(trained, settings, pixels, labels),
        "fgsm": _fgsm_images(trained, settings, pixels, labels),
    }
    clean = predicted_classes(trained, pixels, settings.batch_size)
    direct = {name: predicted_classes(trained, each, settings.batch_size) for name, each in attacked.items()}
    numbers = {
        "images": len(labels),
        "validation_images": settings.validation_images,
        "clean_accuracy": _share(clean == labels),
        "frequency": frequency.tolist(),
        "epsilon": {name: round(settings.epsilon(name, channels), 6) for name in ATTACKS},
        "accuracy": {name: _share(classes == labels) for name, classes in direct.items()},
    }
    return Measured(numbers, {"labels": labels, **{f"images_{name}": each for name, each in attacked.items()}})


def _pgd_images(trained: ClassifierRun, settings: Transfer, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return adversarial_images(
        trained, pixels, labels, epsilon=settings.epsilon("pgd", pixels.shape[-1]), loss="margin",
        num_steps=settings.num_steps, seed=settings.seed, stop_at_success=False, batch_size=settings.batch_size,
    )  # fmt: skip


def _fgsm_images(trained: ClassifierRun, settings: Transfer, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    epsilon, size = settings.epsilon("fgsm", pixels.shape[-1]), settings.batch_size
    batches = (slice(start, start + size) for start in range(0, len(pixels), size))
    model, inputs = trained.subject.predict_fn, variables(trained)
    return np.concatenate(
        [np.asarray(fgsm(model, inputs, pixels[rows], labels[rows], epsilon=epsilon)) for rows in batches]
    )


def _compare(finished: Finished, settings: Transfer, partial: Partial) -> Measured:
    """Accuracy of every target on what was made on every substitute, in memory one attack at a time."""
    (first, measured), *others = finished
    labels = measured.arrays["labels"]
    for trained, other in others:
        if not np.array_equal(other.arrays["labels"], labels):
            raise ValueError(
                "transferred attacks must be of runs with the same test images, got others for"
                f" {trained.subject.label} than for {first.subject.label}"
            )
    rows = list(partial.read().get("correct", ()))  # for each substitute [attacks, targets]
    with ProgressReport("transfer", len(finished), "substitutes", done=len(rows)) as progress:
        for _, substitute in finished[len(rows) :]:
            rows.append(np.asarray([_correct(finished, substitute, name, settings) for name in ATTACKS]))
            partial.write(correct=np.asarray(rows))
            progress.advance(1)
    accuracy = np.asarray(rows).swapaxes(0, 1) / len(labels)  # [attacks, substitutes, targets]
    seeds = np.array([trained.subject.facts["seed"] for trained, _ in finished])
    numbers = {
        "networks": [trained.subject.group for trained, _ in finished],
        "seeds": seeds.tolist(),
        "images": len(labels),
        "clean_accuracy": [each.numbers["clean_accuracy"] for _, each in finished],
        "frequencies": [each.numbers["frequency"] for _, each in finished],
        "epsilon": measured.numbers["epsilon"],
        "accuracy": {name: np.round(each, 6).tolist() for name, each in zip(ATTACKS, accuracy, strict=True)},
    }
    return Measured(numbers | _paired(finished, accuracy, seeds))


def _correct(finished: Finished, substitute: Measured, attack: str, settings: Transfer) -> list[int]:
    """How many images of one attack on the substitute each target has right [targets]."""
    shown, labels = substitute.arrays[f"images_{attack}"], substitute.arrays["labels"]
    return [int(np.sum(predicted_classes(each, shown, settings.batch_size) == labels)) for each, _ in finished]


def _paired(finished: Finished, accuracy: np.ndarray, seeds: np.ndarray) -> dict[str, Any]:
    """Targets in pairs, each by its mean over all substitutes of other seeds, which are the same for both."""
    if len(set(seeds.tolist())) < 2:
        return {}
    by_target = []
    for index, (trained, _) in enumerate(finished):
        of_others = accuracy[:, seeds != seeds[index], index].mean(axis=1)  # [attacks]
        columns = {ATTACKS[name]: float(each) for name, each in zip(ATTACKS, of_others, strict=True)}
        by_target.append((trained, Measured(columns)))
    return compare_pairs(by_target, Pairing(lambda numbers: numbers, lambda measured: None))


def _share(mask: np.ndarray) -> float:
    return round(float(np.mean(mask)), 6)


def _cells(numbers: dict[str, Any]) -> dict[str, Cell]:
    l, m = numbers["frequency"]
    epsilon = display_epsilon(numbers["epsilon"]["fourier"])
    return {f"worst validation frequency at {epsilon}": Cell(numbers["accuracy"]["fourier"], f"({l},{m})")}


TRANSFER = Evaluation(
    measure=_measure,
    settings=Transfer(),
    data=_data,
    check=_check,
    cells=_cells,
    comparison=Comparison(
        _compare,
        version=2,
        tables=transfer_tables,
        products=lambda measured: {"transfer.png": matrices(measured.numbers)},
    ),
    by_default=False,
)
