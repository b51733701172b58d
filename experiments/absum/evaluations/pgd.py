"""Accuracy under projected gradient descent in L-infinity, over epsilons until chance and over steps.

Beside it stand what it has to beat, random noise of the same norm, and the worst case of each image over PGD and
the single Fourier attack at every frequency.
"""

import dataclasses
import functools
import itertools
import math
import statistics
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from absum_jax import (
    accuracy_interval,
    attack_predictions,
    epsilon_at_chance,
    fourier_perturbation,
    frequency_grid,
    random_perturbation,
)
from experiments.absum.evaluations.accuracy import predicted_classes
from experiments.absum.evaluations.adversarial_images import (
    LOSSES,
    adversarial_images,
    default_epsilons,
)
from experiments.absum.evaluations.findings import finding
from experiments.absum.evaluations.first_images import (
    FirstImages,
    check_first_images,
    first_images,
    first_images_checksum,
    require_epsilons,
)
from experiments.absum.evaluations.paired import Pairing, paired_comparison
from experiments.absum.figures.pgd import accuracy_panels
from experiments.absum.figures.words import display_epsilon
from experiments.absum.run import Classifier, ClassifierRun, variables
from experiments.data.images import to_float
from experiments.harness.evaluation import Cell, Evaluation, Group
from experiments.harness.settings import choices, require_at_least, require_different, require_seeds
from experiments.harness.stored import Measured, Partial
from experiments.training.progress import ProgressReport


@dataclasses.dataclass(frozen=True)
class PGD(FirstImages):
    """Settings of projected gradient descent."""

    epsilons: tuple[float, ...] | None = None
    """L-infinity norms; by default 0.02, 0.05, 0.1, 0.2 and 0.3 for grey images, 2/255 to 16/255 for colour."""
    num_steps: int = 20
    """Steps of length 2.5 epsilon / steps, or epsilon if that is less."""
    num_restarts: int = 1
    """Random starts for each loss."""
    losses: tuple[str, ...] = ("cross_entropy", "margin")
    """Each is an attack; the worst of them counts for each image. Also logits_ratio."""
    steps: tuple[int, ...] = (1, 5, 20, 50)
    """Numbers of steps that are compared at one epsilon."""
    steps_epsilon: float | None = None
    """That epsilon; by default the first one."""
    noise_draws: int = 10
    """Random perturbations of the same norm for each image, of which the worst counts."""
    seed: int = 0
    """Of random starts and noise; each image has its own key."""


class _Attack(NamedTuple):
    """A loss with its steps, or "noise" or "fourier" with none."""

    kind: str
    epsilon: float
    num_steps: int = 0


def _epsilons(settings: PGD, channels: int) -> tuple[float, ...]:
    return settings.epsilons or default_epsilons(channels)


def _attacks(settings: PGD, channels: int) -> list[_Attack]:
    """Every one that is made, once."""
    epsilons = _epsilons(settings, channels)
    over_epsilon = [
        _Attack(kind, epsilon, 0 if kind in ("noise", "fourier") else settings.num_steps)
        for epsilon in epsilons
        for kind in (*settings.losses, "noise", "fourier")
    ]
    at = _steps_epsilon(settings, channels)
    over_steps = [_Attack(loss, at, num_steps) for num_steps in settings.steps for loss in settings.losses]
    return list(dict.fromkeys([*over_epsilon, *over_steps]))


def _steps_epsilon(settings: PGD, channels: int) -> float:
    return _epsilons(settings, channels)[0] if settings.steps_epsilon is None else settings.steps_epsilon


def _check(subject: Classifier, settings: PGD) -> None:
    check_first_images(subject, settings, "pgd")
    require_at_least(settings, 1, ("num_steps", "num_restarts", "noise_draws"), prefix="pgd.")
    require_seeds(settings.seed, name="--pgd.seed")
    require_epsilons("pgd.epsilons", settings.epsilons, 1)
    require_epsilons("pgd.steps-epsilon", (settings.steps_epsilon or 0.0,), 1)
    require_different("--pgd.losses", settings.losses)
    if unknown := [loss for loss in settings.losses if loss not in LOSSES]:
        raise ValueError(f"--pgd.losses must be of {choices(LOSSES)}, got {unknown[0]!r}")
    if not settings.steps or min(settings.steps) < 1:
        raise ValueError(f"--pgd.steps must be numbers of at least 1, got {settings.steps}")


def _measure(trained: ClassifierRun, settings: PGD, partial: Partial) -> Measured:
    images, labels = first_images(trained.subject, settings)
    pixels = to_float(images)
    clean = predicted_classes(trained, pixels, settings.batch_size) == labels
    attacks = _attacks(settings, pixels.shape[-1])
    is_right = list(partial.read().get("is_right", ()))  # for each attack [N]
    label = f"PGD {trained.subject.label}"
    with ProgressReport(label, len(attacks), "attacks", done=len(is_right)) as progress:
        for attack in attacks[len(is_right) :]:
            is_right.append(_is_right(trained, settings, pixels, labels, attack))
            partial.write(is_right=np.stack(is_right))
            progress.advance(1)
    found = dict(zip(attacks, is_right, strict=True))
    numbers = _numbers(trained, settings, found, clean)
    return Measured(numbers, {"is_right": np.stack(is_right), "clean": clean})


def _is_right(
    trained: ClassifierRun, settings: PGD, pixels: np.ndarray, labels: np.ndarray, attack: _Attack
) -> np.ndarray:
    """Which images stay right [N]: under one attack of each, all draws of noise, or all frequencies."""
    if attack.kind == "fourier":
        patterns = _patterns(jnp.asarray(attack.epsilon), shape=pixels.shape[1:])
        classes = attack_predictions(
            trained.subject.predict_fn, variables(trained), pixels, patterns, batch_size=settings.batch_size
        )
        return np.all(np.asarray(classes) == labels, axis=0)
    if attack.kind == "noise":
        draws = (_noisy(pixels, attack.epsilon, settings.seed, draw) for draw in range(settings.noise_draws))
        return np.all([predicted_classes(trained, each, settings.batch_size) == labels for each in draws], axis=0)
    attacked = adversarial_images(
        trained, pixels, labels, epsilon=attack.epsilon, loss=attack.kind, num_steps=attack.num_steps,
        num_restarts=settings.num_restarts, seed=settings.seed, batch_size=settings.batch_size,
    )  # fmt: skip
    return predicted_classes(trained, attacked, settings.batch_size) == labels


@functools.partial(jax.jit, static_argnames="shape")
def _patterns(epsilon: jax.Array, *, shape: tuple[int, int, int]) -> jax.Array:
    """The single Fourier attack at every distinct frequency [F, H, W, C]."""
    return jax.vmap(lambda frequency: fourier_perturbation(frequency, shape, epsilon))(
        jnp.asarray(frequency_grid(*shape[:2], half=True))
    )


def _noisy(pixels: np.ndarray, epsilon: float, seed: int, draw: int) -> np.ndarray:
    """+epsilon or -epsilon at every pixel, by a key for each image."""
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), len(LOSSES) + draw)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(pixels)))
    noise = jax.vmap(lambda key: random_perturbation(key, pixels.shape[1:], epsilon))(keys)
    return np.clip(pixels + np.asarray(noise), 0, 1)


def _numbers(
    trained: ClassifierRun, settings: PGD, found: dict[_Attack, np.ndarray], clean: np.ndarray
) -> dict[str, Any]:
    channels = trained.subject.dataset.image_shape[-1]
    epsilons, at = _epsilons(settings, channels), _steps_epsilon(settings, channels)

    def of_pgd(epsilon: float, num_steps: int) -> np.ndarray:
        return np.all([found[_Attack(loss, epsilon, num_steps)] for loss in settings.losses], axis=0)

    right = {
        "pgd": [of_pgd(epsilon, settings.num_steps) for epsilon in epsilons],
        "noise": [found[_Attack("noise", epsilon)] for epsilon in epsilons],
        "fourier": [found[_Attack("fourier", epsilon)] for epsilon in epsilons],
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
            loss: [_share(found[_Attack(loss, epsilon, settings.num_steps)]) for epsilon in epsilons]
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


def _cells(numbers: dict[str, Any]) -> dict[str, Cell]:
    return {
        f"PGD at {display_epsilon(epsilon)}": Cell(accuracy, f"[{low:.2f}, {high:.2f}]")
        for epsilon, accuracy, (low, high) in zip(
            numbers["epsilons"], numbers["accuracy"]["pgd"], numbers["interval"], strict=True
        )
    }


def _accuracies(numbers: dict[str, Any]) -> dict[str, float]:
    """Those under PGD, and the worst case with the single Fourier attack at the largest epsilon."""
    by_epsilon = zip(numbers["epsilons"], numbers["accuracy"]["pgd"], strict=True)
    largest = int(np.argmax(numbers["epsilons"]))
    worst_case = f"worst case at {display_epsilon(numbers['epsilons'][largest])}"
    return {
        "clean": numbers["clean_accuracy"],
        **{f"PGD at {display_epsilon(epsilon)}": accuracy for epsilon, accuracy in by_epsilon},
        worst_case: numbers["accuracy"]["worst_case"][largest],
    }


def _findings(numbers: dict[str, Any]) -> list[dict[str, Any]]:
    passes = numbers["passes"]["pgd"]
    words = f"PGD, white box, {passes['forward']} forward and {passes['backward']} backward passes an image"
    kinds = {"pgd": words, "worst_case": f"{words}, or any frequency of the single Fourier attack"}
    return [
        finding(words, "linf", epsilon, accuracy, numbers["images"])
        for kind, words in kinds.items()
        for epsilon, accuracy in zip(numbers["epsilons"], numbers["accuracy"][kind], strict=True)
    ]


def _products(group: Group) -> dict[str, Any]:
    return {"pgd.png": accuracy_panels({name: [each.numbers for each in group[name]] for name in group})}


PROJECTED_GRADIENT_DESCENT = Evaluation(
    measure=_measure,
    settings=PGD(),
    data=first_images_checksum,
    version=2,
    check=_check,
    cells=_cells,
    products=_products,
    comparison=paired_comparison(
        Pairing(_accuracies, lambda measured: None), lambda numbers: f"PGD on {numbers['images']} images"
    ),
    findings=_findings,
    score=lambda numbers: statistics.mean(numbers["accuracy"]["pgd"]),
    by_default=False,
)
