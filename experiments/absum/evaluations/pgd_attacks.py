"""The attacks that projected gradient descent is made of and measured against, and their settings."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from absum_jax import (
    attack_predictions,
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
from experiments.absum.evaluations.first_images import (
    FirstImages,
)
from experiments.absum.run import ClassifierRun, variables


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


class Attack(NamedTuple):
    """A loss with its steps, or "noise" or "fourier" with none."""

    kind: str
    epsilon: float
    num_steps: int = 0


def epsilons_of(settings: PGD, channels: int) -> tuple[float, ...]:
    """Those given, or the defaults for images of so many channels."""
    return settings.epsilons or default_epsilons(channels)


def attacks_of(settings: PGD, channels: int) -> list[Attack]:
    """Every one that is made, once."""
    epsilons = epsilons_of(settings, channels)
    over_epsilon = [
        Attack(kind, epsilon, 0 if kind in ("noise", "fourier") else settings.num_steps)
        for epsilon in epsilons
        for kind in (*settings.losses, "noise", "fourier")
    ]
    at = steps_epsilon_of(settings, channels)
    over_steps = [Attack(loss, at, num_steps) for num_steps in settings.steps for loss in settings.losses]
    return list(dict.fromkeys([*over_epsilon, *over_steps]))


def steps_epsilon_of(settings: PGD, channels: int) -> float:
    """The one at which numbers of steps are compared."""
    return epsilons_of(settings, channels)[0] if settings.steps_epsilon is None else settings.steps_epsilon


def is_right_under(
    trained: ClassifierRun, settings: PGD, pixels: np.ndarray, labels: np.ndarray, attack: Attack
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
