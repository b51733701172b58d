"""The most harmful single Fourier attack on all test images, in both norms, without the whole sweep.

A search leaves out what cannot be the worst after some of the images, so that the rest are seen by a few
frequencies alone. Binary waves, which have twice the energy of the others at equal L-infinity norm, are searched
by themselves, so that the worst with and without them are both known.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from absum_jax import (
    SearchState,
    accuracy_interval,
    attack_predictions,
    binary_frequencies,
    fourier_perturbation,
    frequency_grid,
    worst_perturbation_search,
)
from experiments.absum.evaluations.adversarial_images import default_epsilons
from experiments.absum.evaluations.findings import finding
from experiments.absum.evaluations.first_images import (
    FirstImages,
    check_first_images,
    first_images,
    first_images_checksum,
    require_epsilons,
)
from experiments.absum.evaluations.fourier_sweeps import BOUNDS, equal_phases
from experiments.absum.evaluations.paired import Pairing, paired_comparison
from experiments.absum.figures.words import display_epsilon
from experiments.absum.run import Classifier, ClassifierRun, variables
from experiments.data.images import to_float
from experiments.harness.evaluation import Cell, Evaluation
from experiments.harness.settings import require_at_least, require_seeds
from experiments.harness.stored import Measured, Partial
from experiments.training.progress import ProgressReport

WAVES = {"binary": "binary waves", "without_binary": "other waves", "l2": "waves of equal L2 norm"}  # searched
COLUMNS = {"linf": "worst of all", "without_binary": "worst of all without binary", "l2": "L2 worst of all"}


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


class _Waves(NamedTuple):
    """Attacks: frequencies [A, 2] with a phase each [A]."""

    frequencies: np.ndarray
    phases: np.ndarray


class _Found(NamedTuple):
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


def _check(subject: Classifier, settings: WorstFrequency) -> None:
    check_first_images(subject, settings, "worst_frequency")
    require_at_least(settings, 1, ("phases",), prefix="worst_frequency.")
    require_seeds(settings.seed, name="--worst-frequency.seed")
    shape = subject.dataset.image_shape
    for name, largest in {"epsilon": 1.0, "l2_epsilon": math.sqrt(math.prod(shape))}.items():
        require_epsilons(f"worst_frequency.{name}", (getattr(settings, name) or 0.0,), largest)
    if settings.confidence is not None and not 0 < settings.confidence < 1:
        raise ValueError(f"--worst-frequency.confidence must lie in (0, 1) or be None, got {settings.confidence}")


def _measure(trained: ClassifierRun, settings: WorstFrequency, partial: Partial) -> Measured:
    images, labels = first_images(trained.subject, settings)
    shape = images.shape[1:]
    search = _Searches(trained, settings, partial, to_float(images), labels)
    binary, others = _waves(shape[:2], settings.phases)
    found = {}
    for name, waves in {"binary": binary, "without_binary": others}.items():
        if len(waves.phases):
            found[name] = search.worst(name, waves, "linf")
    found["linf"] = min(found.values(), key=lambda each: each.is_right.sum())
    found["l2"] = search.worst("l2", _both(binary, others), "l2")
    passes = sum(each.forward_images for name, each in found.items() if name != "linf")
    count, of_a_sweep = len(labels), 2 * len(labels) * (len(binary.phases) + len(others.phases))
    numbers = {
        "images": count,
        "split": settings.split,
        "attacks": {"binary": len(binary.phases), "without_binary": len(others.phases)},
        "phases": [round(phase, 6) for phase in equal_phases(settings.phases)],
        "bounds": BOUNDS,
        "confidence": settings.confidence,
        "epsilons": {norm: round(epsilon, 6) for norm, epsilon in settings.epsilons(shape).items()},
        "forward_share": round(passes / of_a_sweep, 6),
        "worst": {name: _numbers_of(found[name]) for name in COLUMNS if name in found},
    }
    return Measured(numbers, {f"is_right_{name}": each.is_right for name, each in found.items()})


def _waves(image_size: tuple[int, int], phases: int) -> tuple[_Waves, _Waves]:
    """All attacks: those that are +-epsilon at every pixel, and the others."""
    grid = np.asarray(frequency_grid(*image_size, half=True))
    each = np.asarray(equal_phases(phases), np.float32)
    is_binary = np.asarray(binary_frequencies(grid, image_size, phase=each)).reshape(-1)  # [P F]
    frequencies, phase_of = np.tile(grid, (phases, 1)), np.repeat(each, len(grid))
    return (
        _Waves(frequencies[is_binary], phase_of[is_binary]),
        _Waves(frequencies[~is_binary], phase_of[~is_binary]),
    )


def _both(first: _Waves, second: _Waves) -> _Waves:
    return _Waves(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))


class _Searches:
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

    def worst(self, name: str, waves: _Waves, norm: str) -> _Found:
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
        return _Found(
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


def _numbers_of(found: _Found) -> dict[str, Any]:
    correct, total = int(found.is_right.sum()), len(found.is_right)
    return {
        "frequency": found.frequency,
        "phase": round(found.phase, 6),
        "correct": correct,
        "accuracy": round(correct / total, 6),
        "interval": [round(float(bound), 6) for bound in accuracy_interval(correct, total)],
    }


def _cells(numbers: dict[str, Any]) -> dict[str, Cell]:
    return {
        _column(name, numbers): Cell(
            each["accuracy"], "({},{}) [{:.2f}, {:.2f}]".format(*each["frequency"], *each["interval"])
        )
        for name, each in numbers["worst"].items()
    }


def _column(name: str, numbers: Mapping[str, Any]) -> str:
    epsilon = numbers["epsilons"]["l2" if name == "l2" else "linf"]
    return f"{COLUMNS[name]} at {display_epsilon(epsilon)}"


def _findings(numbers: dict[str, Any]) -> list[dict[str, Any]]:
    count, epsilons = sum(numbers["attacks"].values()), numbers["epsilons"]
    by = "certainty" if numbers["confidence"] is None else f"confidence {numbers['confidence']:g}"
    words = f"single Fourier attack, the worst of {count} waves for the attacked images, found with {by}"
    return [
        finding(words, norm, epsilons[norm], numbers["worst"][norm]["accuracy"], numbers["images"])
        for norm in ("linf", "l2")
    ]


WORST_FREQUENCY = Evaluation(
    measure=_measure,
    settings=WorstFrequency(),
    data=first_images_checksum,
    check=_check,
    cells=_cells,
    comparison=paired_comparison(
        Pairing(
            lambda numbers: {_column(name, numbers): each["accuracy"] for name, each in numbers["worst"].items()},
            lambda measured: measured.arrays["is_right_linf"],
        ),
        lambda numbers: f"worst single Fourier attack of all on {numbers['images']} {numbers['split']} images",
    ),
    findings=_findings,
    score=lambda numbers: numbers["worst"]["linf"]["accuracy"],
    by_default=False,
)
