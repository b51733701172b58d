"""The single Fourier attack: every distinct frequency at every epsilon, on the first images of a split."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from absum_jax import FourierSweep, accuracy_interval, fourier_perturbation, fourier_sweep_parts, frequency_grid
from experiments.absum import figures
from experiments.absum.evaluations.accuracy import predicted_classes
from experiments.absum.run import Classifier, ClassifierRun, variables
from experiments.absum.task import predict_fn
from experiments.data.images import to_float
from experiments.data.source_files import checksum
from experiments.harness.evaluation import Cell, Evaluation, Group
from experiments.harness.settings import require_at_least
from experiments.harness.stored import Measured, Partial
from experiments.training.progress import ProgressReport

EXAMPLES = 4  # images that the figure shows
BOUNDS, PHASE = (0.0, 1.0), "pi/4"


@dataclasses.dataclass(frozen=True)
class Fourier:
    """Settings of the single Fourier attack."""

    epsilons: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)
    """L-infinity norms of the perturbation; pixels lie in [0, 1], to which attacked images are clipped."""
    images: int = 300
    """The first so many images of the split are attacked."""
    batch_size: int = 300
    """Images of one forward pass."""
    split: str = "test"
    """test, or validation to choose something by."""


def _check(subject: Classifier, settings: Fourier) -> None:
    require_at_least(settings, 1, ("images", "batch_size"), prefix="fourier.")
    if not settings.epsilons or not all(0 <= epsilon <= 1 for epsilon in settings.epsilons):
        raise ValueError(
            f"--fourier.epsilons must lie in [0, 1], the range of the pixels, got {settings.epsilons}"
        )
    if settings.split not in ("test", "validation"):
        raise ValueError(f"--fourier.split must be test or validation, got {settings.split!r}")
    available = len(subject.images(settings.split)[1])
    if settings.images > available:
        raise ValueError(
            f"--fourier.images must be at most the {available} {settings.split} images, got {settings.images}"
        )


def _images(subject: Classifier, settings: Fourier) -> tuple[np.ndarray, np.ndarray]:
    images, labels = subject.images(settings.split)
    return images[: settings.images], labels[: settings.images]


def _measure(trained: ClassifierRun, settings: Fourier, partial: Partial) -> Measured:
    images, labels = _images(trained.subject, settings)
    sweep = _sweep(trained, settings, to_float(images), labels, partial)
    return Measured(_numbers(sweep), _arrays(sweep) | _examples(trained, settings, sweep, images, labels))


def _sweep(
    trained: ClassifierRun, settings: Fourier, images: np.ndarray, labels: np.ndarray, partial: Partial
) -> FourierSweep:
    """The sweep over every distinct frequency, on all devices; goes on from the frequencies that are done."""
    grid = np.asarray(frequency_grid(*images.shape[1:3], half=True))
    done = partial.read()
    parts = [_loaded(done)] if done else []
    known = {tuple(frequency) for part in parts for frequency in np.asarray(part.frequencies).tolist()}
    left = np.asarray([frequency for frequency in grid.tolist() if tuple(frequency) not in known]).reshape(-1, 2)
    devices = jax.devices() if jax.device_count() > 1 else None
    new = fourier_sweep_parts(
        predict_fn(trained.subject.model), variables(trained), images, labels, settings.epsilons,
        frequencies=left, batch_size=settings.batch_size, devices=devices,
    ) if len(left) else ()  # fmt: skip
    label = f"attack {trained.subject.label}"
    with ProgressReport(label, len(grid), "frequencies", done=len(known)) as progress:
        for part in new:
            parts = [FourierSweep.concatenate([*parts, part])]
            partial.write(**_arrays(parts[0]))
            progress.advance(len(part.frequencies))
    return _in_order(parts[0], grid)


def _in_order(sweep: FourierSweep, grid: np.ndarray) -> FourierSweep:
    """The sweep with its frequencies in the order of the grid, whatever the order in which they were done."""
    place = {tuple(frequency): index for index, frequency in enumerate(np.asarray(sweep.frequencies).tolist())}
    order = [place[tuple(frequency)] for frequency in grid.tolist()]
    correct = np.asarray(sweep.correct)[:, order]
    return dataclasses.replace(sweep, frequencies=jnp.asarray(grid), correct=jnp.asarray(correct))


def _numbers(sweep: FourierSweep) -> dict[str, Any]:
    found = jax.device_get(_accuracies(sweep))
    return {
        "norm": "linf",
        "phase": PHASE,
        "bounds": BOUNDS,
        "frequencies": len(sweep.frequencies),
        "images": int(sweep.total),
        "epsilons": _rounded(sweep.epsilons),
        "clean_accuracy": float(found["clean"]),
        "worst_accuracy": _rounded(found["worst"]),
        "worst_accuracy_interval": [list(pair) for pair in zip(*map(_rounded, found["interval"]), strict=True)],
        "worst_frequency": found["frequency"].tolist(),
        "mean_accuracy": _rounded(found["mean"]),
        "average_robust_accuracy": float(found["average"]),
    }


@jax.jit
def _accuracies(sweep: FourierSweep) -> dict[str, Any]:
    """What follows from the counts, as one program: op by op, each of some thirty would be compiled by itself."""
    return {
        "clean": sweep.clean_accuracy,
        "worst": sweep.worst_accuracy,
        "interval": accuracy_interval(sweep.worst_correct, sweep.total),
        "frequency": sweep.worst_frequency,
        "mean": sweep.mean_accuracy,
        "average": sweep.average_robust_accuracy,
    }


def _cells(numbers: dict[str, Any]) -> dict[str, Cell]:
    cells = {"clean": Cell(numbers["clean_accuracy"]), "average robust": Cell(numbers["average_robust_accuracy"])}
    names = ("epsilons", "worst_accuracy", "worst_frequency", "worst_accuracy_interval")
    for epsilon, accuracy, (l, m), (low, high) in zip(*(numbers[name] for name in names), strict=True):
        cells[f"worst at {epsilon:g}"] = Cell(accuracy, f"({l},{m}) [{low:.2f}, {high:.2f}]")
    cells[f"mean at {numbers['epsilons'][-1]:g}"] = Cell(numbers["mean_accuracy"][-1])
    return cells


def _examples(
    trained: ClassifierRun, settings: Fourier, sweep: FourierSweep, images: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """A few images with what is predicted for them: clean, and under the worst frequency of each epsilon.

    Taken are the first that are right when clean and wrong under the largest epsilon; then any others.
    """

    def predicted(images: np.ndarray) -> np.ndarray:
        return predicted_classes(trained, images, settings.batch_size)

    largest = int(np.argmax(sweep.epsilons))
    clean = predicted(to_float(images))
    is_fooled = (clean == labels) & (predicted(_attacked(to_float(images), sweep, largest)) != labels)
    rows = np.argsort(~is_fooled, stable=True)[:EXAMPLES]
    few = to_float(images[rows])
    shown = np.stack([few, *(_attacked(few, sweep, index) for index in range(len(sweep.epsilons)))])
    classes = predicted(shown.reshape(-1, *few.shape[1:])).reshape(len(shown), -1)
    return {"example_images": shown, "example_labels": labels[rows], "example_classes": classes}


def _attacked(images: np.ndarray, sweep: FourierSweep, index: int) -> np.ndarray:
    """The images under the worst frequency of one epsilon."""
    height, width, channels = images.shape[1:]
    frequency = np.asarray(sweep.worst_frequency)[index]
    pattern = _compiled_perturbation(frequency, (height, width, channels), sweep.epsilons[index])
    lowest, highest = BOUNDS
    return np.clip(images + np.asarray(pattern)[None], lowest, highest)


_compiled_perturbation = jax.jit(fourier_perturbation, static_argnums=1)


def _products(group: Group) -> dict[str, Any]:
    sweeps = {name: [_loaded(each.arrays) for each in measured] for name, measured in group.items()}
    examples = {name: measured[0].arrays for name, measured in group.items()}
    return {
        "accuracy.png": figures.accuracy_curves(sweeps),
        "heatmaps.png": figures.heatmaps(sweeps, next(iter(examples.values()))["example_images"].shape[2:4]),
        "attacked_images.png": figures.attacked_images(examples, sweeps),
    }


def _arrays(sweep: FourierSweep) -> dict[str, np.ndarray]:
    return {field.name: np.asarray(getattr(sweep, field.name)) for field in dataclasses.fields(sweep)}


def _loaded(arrays: Mapping[str, np.ndarray]) -> FourierSweep:
    # What was stored before a sweep named its phases is in the usual one.
    known = {"phases": np.float32(np.pi / 4), **arrays}
    return FourierSweep(
        **{field.name: jnp.asarray(known[field.name]) for field in dataclasses.fields(FourierSweep)}
    )


def _rounded(values: ArrayLike) -> list[float]:
    return [round(float(value), 6) for value in np.asarray(values)]


FOURIER = Evaluation(
    measure=_measure,
    settings=Fourier(),
    data=lambda trained, settings: checksum(*_images(trained.subject, settings)),
    check=_check,
    cells=_cells,
    products=_products,
)
