"""The searches for the most harmful wave of some, and their settings."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from absum_jax import (
    SearchState,
    attack_predictions,
    binary_frequencies,
    fourier_perturbation,
    frequency_grid,
    worst_perturbation_search,
)
from experiments.absum.evaluations.adversarial_images import default_epsilons
from experiments.absum.evaluations.first_images import FirstImages
from experiments.absum.evaluations.fourier_sweeps import BOUNDS, equal_phases
from experiments.absum.run import ClassifierRun, variables
from experiments.harness.stored import Partial
from experiments.training.progress import ProgressReport

WAVES = {"binary": "binary waves", "without_binary": "other waves", "l2": "waves of equal L2 norm"}  # searched


@dataclasses.dataclass(frozen=True)
class WorstFrequency(FirstImages):
    """Settings of the search."""

    images: int | None = None
    batch_size: int = 64
    """Images of one forward pass, by which a frequency goes on as well."""
    epsilon: float | None = None
    """L-infinity norm; by default 0.3 for grey and 16/255 for colour images."""
    l2_epsilon: float | None = None
    """L2 norm; by default that of a wave whose amplitude is the L-infinity norm."""
    phases: int = 1
    """Of each frequency, equally spaced over 2 pi from pi/4; an even number has every wave with both signs."""
    confidence: float | None = 0.999
    """Of each of the three searches, that no other wave is worse; None is certainty, which takes longer."""
    seed: int = 0
    """Of the order of the images."""

    def epsilons(self, shape: tuple[int, ...]) -> dict[str, float]:
        """The two norms, with their defaults for images of one shape."""
        amplitude = default_epsilons(shape[-1])[-1] if self.epsilon is None else self.epsilon
        of_wave = round(amplitude * math.sqrt(math.prod(shape) / 2), 2)
        return {"linf": amplitude, "l2": of_wave if self.l2_epsilon is None else self.l2_epsilon}


class Waves(NamedTuple):
    """Attacks: frequencies [A, 2] with a phase each [A]."""

    frequencies: np.ndarray
    phases: np.ndarray


class Found(NamedTuple):
    """The worst of some attacks."""

    frequency: list[int]
    phase: float
    is_right: np.ndarray  # [N]
    forward_images: int


@dataclasses.dataclass(frozen=True)
class _Perturbation:
    """From frequencies, phases, epsilon and the number of an attack to what is added; compiled in once."""

    shape: tuple[int, int, int]
    norm: str

    def __call__(self, frequencies: Array, phases: Array, epsilon: Array, number: Array) -> Array:
        return fourier_perturbation(frequencies[number], self.shape, epsilon, norm=self.norm, phase=phases[number])


def waves_of(image_size: tuple[int, int], phases: int) -> tuple[Waves, Waves]:
    """All attacks: those that are +-epsilon at every pixel, and the others."""
    grid = np.asarray(frequency_grid(*image_size, half=True))
    each = np.asarray(equal_phases(phases), np.float32)
    is_binary = np.asarray(binary_frequencies(grid, image_size, phase=each)).reshape(-1)  # [P F]
    frequencies, phase_of = np.tile(grid, (phases, 1)), np.repeat(each, len(grid))
    return (
        Waves(frequencies[is_binary], phase_of[is_binary]),
        Waves(frequencies[~is_binary], phase_of[~is_binary]),
    )


def both(first: Waves, second: Waves) -> Waves:
    """The waves of the one and of the other."""
    return Waves(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))


class Searches:
    """The searches of one evaluation; the state of each is kept in its partial arrays."""

    def __init__(
        self,
        trained: ClassifierRun,
        settings: WorstFrequency,
        partial: Partial,
        pixels: np.ndarray,
        labels: np.ndarray,
    ) -> None:
        self._trained, self._settings, self._partial = trained, settings, partial
        self._pixels, self._labels = pixels, labels
        self._arrays = partial.read()

    def worst(self, name: str, waves: Waves, norm: str) -> Found:
        """The wave that leaves the fewest images right; ``name`` tells this search from the others."""
        shape: Any = self._pixels.shape[1:]
        epsilon = jnp.asarray(self._settings.epsilons(shape)[norm])
        attack = jax.tree_util.Partial(_Perturbation(shape, norm), *map(jnp.asarray, waves), epsilon)
        key = jax.random.key(self._settings.seed, impl="threefry2x32")
        model, inputs = self._trained.subject.predict_fn, variables(self._trained)
        search = worst_perturbation_search(
            model, inputs, self._pixels, self._labels, attack, num_perturbations=len(waves.phases),
            confidence=self._settings.confidence, key=None if self._settings.confidence is None else key,
            bounds=BOUNDS, batch_size=self._settings.batch_size,
        )  # fmt: skip
        state = self._state(name) or search.start()
        label = f"worst of {len(waves.phases)} {WAVES[name]}, {self._trained.subject.label}"
        with ProgressReport(label, len(waves.phases), "attacks", done=_out(state)) as progress:
            while not search.is_finished(state):
                before, state = state, search.advance(state)
                self._keep(name, state)
                progress.advance(_out(state) - _out(before))
            progress.advance(len(waves.phases) - _out(state))
        result = search.result(state)
        index = int(result.index)
        classes = attack_predictions(
            model, inputs, self._pixels, np.asarray(attack(index))[None], bounds=BOUNDS,
            batch_size=self._settings.batch_size,
        )  # fmt: skip
        is_right = np.asarray(classes)[0] == self._labels
        return Found(
            waves.frequencies[index].tolist(), float(waves.phases[index]), is_right, int(result.forward_images)
        )

    def _state(self, name: str) -> SearchState | None:
        fields = [f"{name}_{field}" for field in SearchState._fields]
        return SearchState(*map(self._arrays.__getitem__, fields)) if fields[0] in self._arrays else None

    def _keep(self, name: str, state: SearchState) -> None:
        self._arrays |= {f"{name}_{field}": each for field, each in state._asdict().items()}
        self._partial.write(**self._arrays)


def _out(state: SearchState) -> int:
    """How many attacks cannot be the worst any more."""
    return int(state.out.sum())
