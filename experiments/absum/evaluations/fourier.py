"""The single Fourier attack: every distinct frequency at every epsilon, in the L-infinity and the L2 norm.

Two accuracies belong to the most harmful frequency. Of the images that all frequencies are tried on it is the
lowest that there is, and too low by having been looked for. The other frequency is chosen on validation images and
only then shown to all test images.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import numpy as np

from absum_jax import FourierSweep
from experiments.absum.evaluations.adversarial_images import COLOUR
from experiments.absum.evaluations.first_images import FirstImages, check_first_images, require_epsilons
from experiments.absum.evaluations.fourier_comparison import COMPARISON
from experiments.absum.evaluations.fourier_images import examples, predictions
from experiments.absum.evaluations.fourier_results import cells, findings, fourier_numbers
from experiments.absum.evaluations.fourier_sweeps import Attack, KeptSweeps, as_arrays, equal_phases, loaded
from experiments.absum.figures import fourier as figures
from experiments.absum.run import Classifier, ClassifierRun
from experiments.data.source_files import checksum
from experiments.harness.evaluation import Evaluation, Group
from experiments.harness.settings import require_at_least
from experiments.harness.stored import Measured, Partial

GREY = (0.05, 0.1, 0.2, 0.3)


@dataclasses.dataclass(frozen=True)
class Fourier(FirstImages):
    """Settings of the single Fourier attack in one norm."""

    images: int = 100
    """The first so many images of the split are attacked at every frequency."""
    epsilons: tuple[float, ...] | None = None
    """Norms of the perturbation; pixels lie in [0, 1], to which attacked images are clipped. By default L-infinity
    norms of 0.05 to 0.3 for grey and of 2/255 to 16/255 for colour images, and the L2 norms that a wave of the
    two largest of these has."""
    validation_images: int = 50
    """At most so many validation images choose the frequency that all test images are shown then."""
    phases: int = 1
    """Of each frequency, equally spaced over 2 pi from pi/4; an even number has every wave with both signs."""


class Norm(NamedTuple):
    """What tells an entry of the table, that is one norm, from another."""

    entry: str
    norm: str
    files: str  # before the names of its figures

    def default_epsilons(self, image_shape: tuple[int, int, int]) -> tuple[float, ...]:
        """Those of the L-infinity norm, or the L2 norms of waves with the two largest as amplitudes."""
        of_pixels = GREY if image_shape[-1] == 1 else COLOUR
        if self.norm == "linf":
            return of_pixels
        # A sampled wave has half the square of its amplitude in the mean, unless it is +-epsilon everywhere.
        return tuple(round(epsilon * math.sqrt(math.prod(image_shape) / 2), 2) for epsilon in of_pixels[-2:])

    def largest_epsilon(self, image_shape: tuple[int, int, int]) -> float:
        """The norm of a change from black to white, beyond which nothing is added."""
        return 1.0 if self.norm == "linf" else math.sqrt(math.prod(image_shape))


def _check(subject: Classifier, settings: Fourier, norm: Norm) -> None:
    require_at_least(settings, 1, ("validation_images", "phases"), prefix=f"{norm.entry}.")
    largest = norm.largest_epsilon(subject.dataset.image_shape)
    require_epsilons(f"{norm.entry}.epsilons", settings.epsilons, largest)
    check_first_images(subject, settings, norm.entry)


def _attacked(subject: Classifier, settings: Fourier) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Which images all frequencies are tried on, by split, and their labels: those that choose one come first."""
    counts = {"validation": settings.validation_images} if settings.split == "test" else {}
    counts[settings.split] = settings.images
    splits = {split: subject.images(split) for split in counts}
    return {
        split: (images[: counts[split]], labels[: counts[split]]) for split, (images, labels) in splits.items()
    }


def _data(trained: ClassifierRun, settings: Fourier) -> list[str]:
    chosen_by = [checksum(*each) for each in _attacked(trained.subject, settings).values()]
    return [*chosen_by, checksum(*trained.subject.images(settings.split))]


def _measure(trained: ClassifierRun, settings: Fourier, partial: Partial, norm: Norm) -> Measured:
    shape, split = trained.subject.dataset.image_shape, settings.split
    epsilons = settings.epsilons or norm.default_epsilons(shape)
    attack = Attack(norm.norm, epsilons, equal_phases(settings.phases), settings.batch_size)
    kept, sweeps = KeptSweeps(trained, partial), dict[str, FourierSweep]()
    for name, (images, labels) in _attacked(trained.subject, settings).items():
        sweeps[name] = kept.sweep(name, attack, images, labels)
    predicted = predictions(trained, attack, split, sweeps)
    numbers = fourier_numbers(attack, split, sweeps, predicted, shape[:2])
    arrays = [as_arrays(sweep, name) for name, sweep in sweeps.items()]
    arrays += [predicted, examples(trained, attack, sweeps[split], split, predicted)]
    return Measured(numbers, {name: array for each in arrays for name, array in each.items()})


def _products(group: Group, norm: Norm) -> dict[str, Any]:
    numbers = {name: [each.numbers for each in measured] for name, measured in group.items()}
    arrays = {name: [each.arrays for each in measured] for name, measured in group.items()}
    split = next(iter(numbers.values()))[0]["split"]
    sweeps = {name: [loaded(each, split) for each in found] for name, found in arrays.items()}
    shown = {name: found[0] for name, found in arrays.items()}
    size = next(iter(shown.values()))["example_images"].shape[2:4]
    return {
        f"{norm.files}accuracy.png": figures.accuracy_curves(numbers),
        f"{norm.files}heatmaps.png": figures.heatmaps(sweeps, size, norm.norm),
        f"{norm.files}attacked_images.png": figures.attacked_images(shown, sweeps, norm.norm),
    }


def _entry(norm: Norm, *, by_default: bool) -> Evaluation:
    return Evaluation(
        measure=functools.partial(_measure, norm=norm),
        settings=Fourier(),
        data=_data,
        version=2,
        check=functools.partial(_check, norm=norm),
        cells=cells,
        products=functools.partial(_products, norm=norm),
        comparison=COMPARISON,
        findings=findings,
        score=lambda numbers: numbers["average_robust_accuracy"],
        by_default=by_default,
    )


FOURIER = _entry(Norm("fourier", "linf", ""), by_default=True)
FOURIER_L2 = _entry(Norm("fourier_l2", "l2", "l2_"), by_default=False)
