"""What is told of projected gradient descent: numbers with their doubts, columns, findings and the picture."""

import itertools
import math
from typing import Any

import numpy as np

from absum_jax import (
    accuracy_interval,
    epsilon_at_chance,
    frequency_grid,
)
from experiments.absum.evaluations.findings import finding
from experiments.absum.evaluations.pgd_attacks import PGD, Attack, epsilons_of, steps_epsilon_of
from experiments.absum.figures.pgd import accuracy_panels
from experiments.absum.figures.words import display_epsilon
from experiments.absum.run import ClassifierRun
from experiments.harness.evaluation import Cell, Group


def numbers_of(
    trained: ClassifierRun, settings: PGD, found: dict[Attack, np.ndarray], clean: np.ndarray
) -> dict[str, Any]:
    """Plain numbers, from which images each attack leaves right [N] and which are right without one [N]."""
    channels = trained.subject.dataset.image_shape[-1]
    epsilons, at = epsilons_of(settings, channels), steps_epsilon_of(settings, channels)

    def of_pgd(epsilon: float, num_steps: int) -> np.ndarray:
        return np.all([found[Attack(loss, epsilon, num_steps)] for loss in settings.losses], axis=0)

    right = {
        "pgd": [of_pgd(epsilon, settings.num_steps) for epsilon in epsilons],
        "noise": [found[Attack("noise", epsilon)] for epsilon in epsilons],
        "fourier": [found[Attack("fourier", epsilon)] for epsilon in epsilons],
    }
    right["worst_case"] = [pgd & fourier for pgd, fourier in zip(right["pgd"], right["fourier"], strict=True)]
    correct = np.array([each.sum() for each in right["pgd"]])
    num_classes = trained.subject.dataset.num_classes
    chance = float(epsilon_at_chance(epsilons, correct, len(clean), num_classes=num_classes))
    bounds = accuracy_interval(correct, len(clean))
    return {
        "norm": "linf",
        "images": len(clean),
        "clean_accuracy": _share(clean),
        "epsilons": [round(epsilon, 6) for epsilon in epsilons],
        "accuracy": {kind: [_share(each) for each in masks] for kind, masks in right.items()},
        "interval": [[round(float(bound), 6) for bound in pair] for pair in zip(*bounds, strict=True)],
        "by_loss": {
            loss: [_share(found[Attack(loss, epsilon, settings.num_steps)]) for epsilon in epsilons]
            for loss in settings.losses
        },
        "epsilon_at_chance": round(chance, 6) if math.isfinite(chance) else None,
        "over_steps": {
            "epsilon": round(at, 6),
            "steps": settings.steps,
            "accuracy": [_share(of_pgd(at, num_steps)) for num_steps in settings.steps],
        },
        "passes": _passes(settings, trained.subject.dataset.image_shape),
        "doubts": _doubts(settings, epsilons, right),
    }


def _share(mask: np.ndarray) -> float:
    return round(float(mask.mean()), 6)


def _passes(settings: PGD, shape: tuple[int, int, int]) -> dict[str, dict[str, int]]:
    """Forward and backward passes for one image at one epsilon."""
    climbs = len(settings.losses) * settings.num_restarts
    # For each loss the clean image and the prediction; restarts are compared by a pass each.
    others = 2 * len(settings.losses) + (climbs if settings.num_restarts > 1 else 0)
    steps = climbs * settings.num_steps
    return {
        "pgd": {"forward": steps + others, "backward": steps},
        "noise": {"forward": settings.noise_draws, "backward": 0},
        "fourier": {"forward": len(frequency_grid(*shape[:2], half=True)), "backward": 0},
    }


def _doubts(settings: PGD, epsilons: tuple[float, ...], right: dict[str, list[np.ndarray]]) -> list[str]:
    """What speaks against the attack: an attack without gradients that beats it, or a larger ball that helps."""
    doubts = []
    for index, epsilon in enumerate(epsilons):
        for kind, words in (("noise", "random noise"), ("fourier", "a Fourier frequency")):
            missed = int(np.sum(right["pgd"][index] & ~right[kind][index]))
            if missed:
                doubts.append(f"at epsilon {epsilon:g} {words} fools {missed} images that PGD leaves right")
    order = np.argsort(epsilons)
    correct = [int(right["pgd"][index].sum()) for index in order]
    if any(more > less for less, more in itertools.pairwise(correct)):
        doubts.append(f"a larger epsilon leaves more images right: {correct}; try more than {settings.num_steps}"
                        " steps")  # fmt: skip
    return doubts


def cells(numbers: dict[str, Any]) -> dict[str, Cell]:
    """A column for each epsilon, with the interval."""
    return {
        f"PGD at {display_epsilon(epsilon)}": Cell(accuracy, f"[{low:.2f}, {high:.2f}]")
        for epsilon, accuracy, (low, high) in zip(
            numbers["epsilons"], numbers["accuracy"]["pgd"], numbers["interval"], strict=True
        )
    }


def accuracies(numbers: dict[str, Any]) -> dict[str, float]:
    """Those under PGD, and the worst case with the single Fourier attack at the largest epsilon."""
    by_epsilon = zip(numbers["epsilons"], numbers["accuracy"]["pgd"], strict=True)
    largest = int(np.argmax(numbers["epsilons"]))
    worst_case = f"worst case at {display_epsilon(numbers['epsilons'][largest])}"
    return {
        "clean": numbers["clean_accuracy"],
        **{f"PGD at {display_epsilon(epsilon)}": accuracy for epsilon, accuracy in by_epsilon},
        worst_case: numbers["accuracy"]["worst_case"][largest],
    }


def findings(numbers: dict[str, Any]) -> list[dict[str, Any]]:
    """The accuracies under PGD and in the worst case, at each epsilon."""
    passes = numbers["passes"]["pgd"]
    words = f"PGD, white box, {passes['forward']} forward and {passes['backward']} backward passes an image"
    kinds = {"pgd": words, "worst_case": f"{words}, or any frequency of the single Fourier attack"}
    return [
        finding(words, "linf", epsilon, accuracy, numbers["images"])
        for kind, words in kinds.items()
        for epsilon, accuracy in zip(numbers["epsilons"], numbers["accuracy"][kind], strict=True)
    ]


def products(group: Group) -> dict[str, Any]:
    """The picture."""
    return {"pgd.png": accuracy_panels({name: [each.numbers for each in group[name]] for name in group})}
