"""Accuracy under noise of low and of high frequencies, and under white noise of the same norm."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from absum_jax import accuracy_interval, band_limited_noise
from experiments.absum.evaluations.accuracy import predicted_classes
from experiments.absum.evaluations.findings import finding
from experiments.absum.evaluations.first_images import (
    FirstImages,
    check_first_images,
    first_images,
    first_images_checksum,
    require_epsilons,
)
from experiments.absum.evaluations.paired import Pairing, paired_comparison
from experiments.absum.figures.noise import noise_panels
from experiments.absum.run import Classifier, ClassifierRun
from experiments.data.images import to_float
from experiments.harness.evaluation import Cell, Evaluation, Group
from experiments.harness.settings import require_at_least, require_seeds
from experiments.harness.stored import Measured, Partial
from experiments.training.progress import ProgressReport

KINDS = ("low", "high", "white")


@dataclasses.dataclass(frozen=True)
class Noise(FirstImages):
    """Settings of the evaluation under noise."""

    epsilon: float | None = None
    """L2 norm of the noise, over all pixels and channels, against the bandwidth. By default 8 for 32x32 pixels in
    colour, as in Yin et al., and as much for each pixel elsewhere: a standard deviation of 0.144."""
    bandwidths: tuple[int, ...] | None = None
    """Sides of the square of the spectrum that the noise fills; by default eighths of the image's side."""
    bandwidth: int | None = None
    """The bandwidth of the curves against the norm, and of the table; by default half the image's side."""
    epsilons: tuple[float, ...] | None = None
    """L2 norms of those curves; by default 1, 2, 3 and 4 times the one above."""
    draws: int = 2
    """Independent noises for each image; accuracies are means over them."""
    seed: int = 0
    """Of the noise, which is the same for all networks."""


class _Setting(NamedTuple):
    """One sort of noise."""

    band: str
    bandwidth: int
    epsilon: float


class _Plan(NamedTuple):
    """The settings with their defaults for images of one shape."""

    shape: tuple[int, int, int]
    epsilon: float
    bandwidths: tuple[int, ...]
    bandwidth: int
    epsilons: tuple[float, ...]

    def setting(self, kind: str, bandwidth: int, epsilon: float) -> _Setting:
        """White noise fills the spectrum; there, as at bandwidth 0, both bands are the same noise."""
        side = max(self.shape[:2])
        filled = side if kind == "white" else bandwidth
        return _Setting("high" if kind == "high" and 0 < filled < side else "low", filled, epsilon)

    @property
    def settings(self) -> list[_Setting]:
        """Every one that is measured, once."""
        over_bandwidth = [self.setting(kind, each, self.epsilon) for kind in KINDS[:2] for each in self.bandwidths]
        over_norm = [
            self.setting(kind, self.bandwidth, each) for kind in KINDS for each in (self.epsilon, *self.epsilons)
        ]
        return list(dict.fromkeys([*over_bandwidth, *over_norm]))


def _plan(settings: Noise, shape: Sequence[int]) -> _Plan:
    height, width, channels = shape
    side = max(height, width)
    epsilon = settings.epsilon
    if epsilon is None:
        epsilon = round(8 * math.sqrt(height * width * channels / (32 * 32 * 3)), 3)
    bandwidths = settings.bandwidths or tuple(sorted({round(eighth * side / 8) for eighth in range(9)}))
    bandwidth = side // 2 if settings.bandwidth is None else settings.bandwidth
    epsilons = settings.epsilons or tuple(round(factor * epsilon, 3) for factor in (1, 2, 3, 4))
    return _Plan((height, width, channels), epsilon, bandwidths, bandwidth, epsilons)


def _check(subject: Classifier, settings: Noise) -> None:
    check_first_images(subject, settings, "noise")
    require_at_least(settings, 1, ("draws",), prefix="noise.")
    require_seeds(settings.seed, name="--noise.seed")
    shape = subject.dataset.image_shape
    # No noise within [0, 1] has a larger norm than that of an image of ones.
    for name, epsilons in {"epsilon": (settings.epsilon or 0.0,), "epsilons": settings.epsilons}.items():
        require_epsilons(f"noise.{name}", epsilons, math.sqrt(math.prod(shape)))
    if settings.bandwidths == ():
        raise ValueError("--noise.bandwidths must be at least one number, got ()")
    plan, side = _plan(settings, shape), max(shape[:2])
    if not all(0 <= bandwidth <= side for bandwidth in (*plan.bandwidths, plan.bandwidth)):
        given = plan.bandwidths if 0 <= plan.bandwidth <= side else plan.bandwidth
        raise ValueError(f"--noise.bandwidths and --noise.bandwidth must lie in 0 to {side}, got {given}")


def _measure(trained: ClassifierRun, settings: Noise, partial: Partial) -> Measured:
    images, labels = first_images(trained.subject, settings)
    plan = _plan(settings, images.shape[1:])
    pixels = to_float(images)
    clean = int(np.sum(predicted_classes(trained, pixels, settings.batch_size) == labels))
    is_right = list(partial.read().get("is_right", ()))  # for each sort of noise [draws, N]
    with ProgressReport(
        f"noise {trained.subject.label}", len(plan.settings), "sorts of noise", done=len(is_right)
    ) as progress:
        for setting in plan.settings[len(is_right) :]:
            is_right.append(_classes(trained, settings, pixels, setting) == labels)
            partial.write(is_right=np.stack(is_right))
            progress.advance(1)
    return Measured(_numbers(settings, plan, clean, np.stack(is_right)), {"is_right": np.stack(is_right)})


def _classes(trained: ClassifierRun, settings: Noise, pixels: np.ndarray, setting: _Setting) -> np.ndarray:
    """Predicted classes [draws, N] under one sort of noise."""
    # Of a named implementation, as others draw other numbers in batches of another size.
    key = jax.random.key(settings.seed, impl="threefry2x32")
    found = []
    for draw in range(settings.draws):
        of_draw, classes = jax.random.fold_in(key, draw), []
        for start in range(0, len(pixels), settings.batch_size):
            batch = pixels[start : start + settings.batch_size]
            rows = np.arange(start, start + len(batch))
            noisy = np.clip(batch + _noise(of_draw, rows, setting, batch.shape[1:]), 0, 1)
            classes.append(predicted_classes(trained, noisy, settings.batch_size))
        found.append(np.concatenate(classes))
    return np.stack(found)


def _noise(key: Array, rows: np.ndarray, setting: _Setting, shape: tuple[int, int, int]) -> np.ndarray:
    """Noise [n, H, W, C] for the images of these numbers, whichever batch they are in."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(rows))
    make = functools.partial(
        band_limited_noise,
        image_shape=shape, bandwidth=setting.bandwidth, band=setting.band, epsilon=setting.epsilon,
    )  # fmt: skip
    # Op by op: what is compiled is the same for all bandwidths, where a program of each would take a second.
    return np.asarray(jax.vmap(make)(keys))


def _numbers(settings: Noise, plan: _Plan, clean: int, is_right: np.ndarray) -> dict[str, Any]:
    accuracy = dict(zip(plan.settings, is_right.mean(axis=(1, 2)).tolist(), strict=True))
    total = is_right.shape[-1]

    def found(kind: str, bandwidth: int, epsilon: float) -> float:
        return round(accuracy[plan.setting(kind, bandwidth, epsilon)], 6)

    def interval(kind: str) -> list[float]:
        # Of so many images: further draws of the same ones are no further images.
        correct = accuracy[plan.setting(kind, plan.bandwidth, plan.epsilon)] * total
        return [round(float(bound), 6) for bound in accuracy_interval(correct, total)]

    return {
        "norm": "l2",
        "images": total,
        "draws": settings.draws,
        "clean_accuracy": round(clean / total, 6),
        "epsilon": plan.epsilon,
        "bandwidth": plan.bandwidth,
        "accuracy": {kind: found(kind, plan.bandwidth, plan.epsilon) for kind in KINDS},
        "interval": {kind: interval(kind) for kind in KINDS},
        "bandwidths": plan.bandwidths,
        "over_bandwidth": {kind: [found(kind, b, plan.epsilon) for b in plan.bandwidths] for kind in KINDS[:2]},
        "epsilons": plan.epsilons,
        "over_norm": {kind: [found(kind, plan.bandwidth, e) for e in plan.epsilons] for kind in KINDS},
    }


NAMES = {"low": "low-frequency noise", "high": "high-frequency noise", "white": "white noise"}


def _accuracies(numbers: dict[str, Any]) -> dict[str, float]:
    return {NAMES[kind]: accuracy for kind, accuracy in numbers["accuracy"].items()}


def _about(numbers: dict[str, Any]) -> str:
    return f"noise of L2 norm {numbers['epsilon']:g} and bandwidth {numbers['bandwidth']}"


def _cells(numbers: dict[str, Any]) -> dict[str, Cell]:
    return {
        NAMES[kind]: Cell(accuracy, "[{:.2f}, {:.2f}]".format(*numbers["interval"][kind]))
        for kind, accuracy in numbers["accuracy"].items()
    }


def _findings(numbers: dict[str, Any]) -> list[dict[str, Any]]:
    draws = f"mean of {numbers['draws']} draws for each image, bandwidth {numbers['bandwidth']}"
    # Of so many images, as in the table: further draws of the same ones are no further images.
    examples = numbers["images"]
    return [
        finding(
            f"{NAMES[kind]}, {draws}", "l2", numbers["epsilon"], accuracy, examples, threat_model="corruptions"
        )
        for kind, accuracy in numbers["accuracy"].items()
    ]


def _products(group: Group) -> dict[str, Any]:
    return {
        "noise_over_bandwidth.png": noise_panels(group, "bandwidths", "over_bandwidth"),
        "noise_over_norm.png": noise_panels(group, "epsilons", "over_norm"),
    }


NOISE = Evaluation(
    measure=_measure,
    settings=Noise(),
    data=first_images_checksum,
    check=_check,
    cells=_cells,
    products=_products,
    findings=_findings,
    score=lambda numbers: numbers["accuracy"]["high"],
    # Not image by image: an image is right under some draws and wrong under others.
    comparison=paired_comparison(Pairing(_accuracies, lambda measured: None), _about),
)
