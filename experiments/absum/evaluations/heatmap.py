"""The Fourier heat map of Yin et al.: error at every frequency, with a random sign for each image and channel."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from absum_jax import FourierSweep
from experiments.absum.evaluations.first_images import (
    FirstImages,
    check_first_images,
    first_images,
    first_images_checksum,
    require_epsilons,
)
from experiments.absum.evaluations.fourier_sweeps import Attack, KeptSweeps, as_arrays, loaded
from experiments.absum.figures.fourier import heatmaps
from experiments.absum.run import Classifier, ClassifierRun
from experiments.harness.evaluation import Cell, Evaluation, Group
from experiments.harness.settings import require_seeds
from experiments.harness.stored import Measured, Partial


@dataclasses.dataclass(frozen=True)
class Heatmap(FirstImages):
    """Settings of the heat map."""

    epsilon: float | None = None
    """L2 norm of the perturbation of each channel; by default 4 for 32x32 pixels, and as much for each pixel
    elsewhere."""
    seed: int = 0
    """Of the signs, which are the same for all networks."""


def _epsilon(settings: Heatmap, height: int, width: int) -> float:
    return round(4 * math.sqrt(height * width) / 32, 3) if settings.epsilon is None else settings.epsilon


def _check(subject: Classifier, settings: Heatmap) -> None:
    check_first_images(subject, settings, "heatmap")
    require_seeds(settings.seed, name="--heatmap.seed")
    height, width, _ = subject.dataset.image_shape
    # No change within [0, 1] has a larger norm than that of a channel of ones.
    require_epsilons("heatmap.epsilon", (settings.epsilon or 0.0,), math.sqrt(height * width))


def _measure(trained: ClassifierRun, settings: Heatmap, partial: Partial) -> Measured:
    images, labels = first_images(trained.subject, settings)
    height, width = images.shape[1:3]
    # Of a named implementation, so that the signs are the same whatever the default.
    signs = jax.random.key(settings.seed, impl="threefry2x32")
    attack = Attack("l2", [_epsilon(settings, height, width)], (0.0,), settings.batch_size, signs)
    sweep = KeptSweeps(trained, partial).sweep(settings.split, attack, images, labels)
    arrays = as_arrays(sweep, settings.split) | {"image_size": np.array([height, width])}
    return Measured(_numbers(sweep, settings), arrays)


def _numbers(sweep: FourierSweep, settings: Heatmap) -> dict[str, Any]:
    errors = 1 - np.asarray(sweep.correct)[0, 0] / int(sweep.total)  # of one epsilon and phase
    worst = int(errors.argmax())
    return {
        "norm": "l2 of each channel",
        "phase": 0,
        "split": settings.split,
        "signs": f"random for each image and channel, seed {settings.seed}",
        "epsilon": round(float(sweep.epsilons[0]), 6),
        "images": int(sweep.total),
        "frequencies": len(errors),
        "clean_error": round(1 - int(sweep.clean_correct) / int(sweep.total), 6),
        "mean_error": round(float(errors.mean()), 6),
        "worst_error": round(float(errors[worst]), 6),
        "worst_frequency": np.asarray(sweep.frequencies)[worst].tolist(),
    }


def _cells(numbers: dict[str, Any]) -> dict[str, Cell]:
    l, m = numbers["worst_frequency"]
    return {
        "mean error of heat map": Cell(numbers["mean_error"]),
        "largest error of heat map": Cell(numbers["worst_error"], f"({l},{m})"),
    }


def _products(group: Group) -> dict[str, Any]:
    first = next(iter(group.values()))[0]
    split = first.numbers["split"]
    sweeps = {name: [loaded(each.arrays, split) for each in measured] for name, measured in group.items()}
    height, width = first.arrays["image_size"].tolist()
    figure = heatmaps(sweeps, (height, width), "l2")
    seeds = len(next(iter(sweeps.values())))
    figure.suptitle(
        f"Error with a Fourier image of L2 norm {first.numbers['epsilon']:g} on each channel, of random sign\n"
        f"{first.numbers['images']} images, {f'mean of {seeds} seeds' if seeds > 1 else '1 seed'}",
        fontsize=10,
        y=1.06,
    )
    return {"fourier_heatmap.png": figure}


HEATMAP = Evaluation(
    measure=_measure,
    settings=Heatmap(),
    data=first_images_checksum,
    check=_check,
    cells=_cells,
    products=_products,
    by_default=False,
)
