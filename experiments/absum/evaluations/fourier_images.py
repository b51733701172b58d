"""Which images the single Fourier attack fools, and some of them to look at."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import Array

from absum_jax import FourierSweep, attack_predictions, fourier_perturbation
from experiments.absum.evaluations.fourier_sweeps import BOUNDS, Attack
from experiments.absum.run import ClassifierRun, variables
from experiments.data.images import to_float

EXAMPLES = 4  # images that the figure shows


def predictions(
    trained: ClassifierRun, attack: Attack, split: str, sweeps: Mapping[str, FourierSweep]
) -> dict[str, np.ndarray]:
    """What is predicted for every image of a split, so that networks can be compared image by image.

    Returns:
        ``labels`` and ``classes_clean`` [N]; ``classes_worst`` [E, N], for each epsilon under the wave that the
        sweep of this split found worst; and ``classes_chosen`` [E, N], under the one that the sweep of validation
        images did, unless they are the split.
    """
    images, labels = trained.subject.images(split)
    chosen_by = {"worst": sweeps[split]} | ({"chosen": sweeps["validation"]} if split != "validation" else {})
    waves = [worst_waves(attack, sweep, images.shape[1:]) for sweep in chosen_by.values()]  # [E, H, W, C] each
    none = np.zeros((1, *images.shape[1:]), np.float32)
    found = attack_predictions(
        trained.subject.predict_fn, variables(trained), to_float(images), np.concatenate([none, *waves]),
        bounds=BOUNDS, batch_size=attack.batch_size,
    )  # fmt: skip
    clean, *attacked = np.split(np.asarray(found), 1 + len(attack.epsilons) * np.arange(len(waves)))
    classes = {f"classes_{name}": each for name, each in zip(chosen_by, attacked, strict=True)}
    return {"labels": labels, "classes_clean": clean[0], **classes}


def examples(
    trained: ClassifierRun, attack: Attack, sweep: FourierSweep, split: str, predicted: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """A few of the images of a sweep with their classes: clean, and under the worst wave of each epsilon.

    Taken are the first that are right when clean and wrong under the largest epsilon; then any others.
    """
    images, labels = (each[: int(sweep.total)] for each in trained.subject.images(split))
    classes = np.concatenate([predicted["classes_clean"][None], predicted["classes_worst"]])[:, : len(images)]
    largest = 1 + int(np.argmax(attack.epsilons))
    is_fooled = (classes[0] == labels) & (classes[largest] != labels)
    rows = np.argsort(~is_fooled, stable=True)[:EXAMPLES]
    few = to_float(images[rows])
    attacked = np.clip(few + worst_waves(attack, sweep, images.shape[1:])[:, None], *BOUNDS)  # [E, N, H, W, C]
    shown = np.concatenate([few[None], attacked])
    return {"example_images": shown, "example_labels": labels[rows], "example_classes": classes[:, rows]}


def worst_waves(attack: Attack, sweep: FourierSweep, shape: tuple[int, ...]) -> np.ndarray:
    """The most harmful perturbation of each epsilon [E, H, W, C]."""
    return np.asarray(_worst_waves(sweep, shape=shape, norm=attack.norm))


@functools.partial(jax.jit, static_argnames=("shape", "norm"))
def _worst_waves(sweep: FourierSweep, *, shape: tuple[int, int, int], norm: str) -> Array:
    def wave(frequency: Any, epsilon: Any, phase: Any) -> Array:
        return fourier_perturbation(frequency, shape, epsilon, norm=norm, phase=phase)

    return jax.vmap(wave)(sweep.worst_frequency, sweep.epsilons, sweep.worst_phase)
