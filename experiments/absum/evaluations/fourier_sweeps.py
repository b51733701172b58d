"""Sweeps of a trained network over all frequencies and phases: kept while they grow, and gone on with."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from absum_jax import FourierSweep, fourier_sweep_parts, frequency_grid
from experiments.absum.run import ClassifierRun, variables
from experiments.data.images import to_float
from experiments.harness.stored import Partial
from experiments.training.progress import ProgressReport

BOUNDS = (0.0, 1.0)


class Attack(NamedTuple):
    """What a network is attacked with: every distinct frequency, in each of these phases, at each epsilon.

    With ``signs`` each image and channel has one of its own, and epsilon is the L2 norm of a channel.
    """

    norm: str
    epsilons: Sequence[float]
    phases: Sequence[float]
    batch_size: int
    signs: Array | None = None


def equal_phases(count: int) -> tuple[float, ...]:
    """So many phases, equally spaced over 2 pi from pi/4: for an even number each comes with both signs.

    Example:
        >>> [round(phase / math.pi, 2) for phase in equal_phases(4)]
        [0.25, 0.75, 1.25, 1.75]
    """
    return tuple((math.pi / 4 + 2 * math.pi * k / count) % (2 * math.pi) for k in range(count))


class KeptSweeps:
    """The sweeps of one evaluation, by the split that is attacked, kept in its partial arrays as they grow.

    Args:
        trained: the network.
        partial: of the evaluation.
    """

    def __init__(self, trained: ClassifierRun, partial: Partial) -> None:
        self._trained, self._partial = trained, partial
        self._arrays = partial.read()

    def sweep(self, split: str, attack: Attack, images: np.ndarray, labels: np.ndarray) -> FourierSweep:
        """Attack images, uint8 [N, H, W, C], on all devices, at the frequencies that are not done yet."""
        grid = np.asarray(frequency_grid(*images.shape[1:3], half=True))
        found = loaded(self._arrays, split) if f"{split}_correct" in self._arrays else None
        known = set() if found is None else set(map(tuple, np.asarray(found.frequencies).tolist()))
        left = [frequency for frequency in grid.tolist() if tuple(frequency) not in known]
        label = f"{attack.norm} attack on {len(labels)} {split} images, {self._trained.subject.label}"
        with ProgressReport(label, len(grid), "frequencies", done=len(known)) as progress:
            for part in self._parts(attack, left, images, labels):
                found = part if found is None else FourierSweep.concatenate([found, part])
                self._arrays |= as_arrays(found, split)
                self._partial.write(**self._arrays)
                progress.advance(len(part.frequencies))
        # Of what is kept, which are arrays of this process alone, with which it can compute by itself.
        return _in_order(loaded(self._arrays, split), grid)

    def _parts(
        self, attack: Attack, frequencies: list, images: np.ndarray, labels: np.ndarray
    ) -> Iterator[FourierSweep]:
        if not frequencies:
            return iter(())
        return fourier_sweep_parts(
            self._trained.subject.predict_fn, variables(self._trained), to_float(images), labels,
            attack.epsilons, frequencies=np.asarray(frequencies), norm=attack.norm,
            phase=np.asarray(attack.phases, np.float32), signs=attack.signs, bounds=BOUNDS,
            batch_size=attack.batch_size,
            devices=jax.devices() if jax.device_count() > 1 else None,
        )  # fmt: skip


def _in_order(sweep: FourierSweep, grid: np.ndarray) -> FourierSweep:
    """The sweep with its frequencies in the order of the grid, whatever the order in which they were done."""
    place = {tuple(frequency): index for index, frequency in enumerate(np.asarray(sweep.frequencies).tolist())}
    order = [place[tuple(frequency)] for frequency in grid.tolist()]
    correct = np.asarray(sweep.correct)[..., order]
    return dataclasses.replace(sweep, frequencies=jnp.asarray(grid), correct=jnp.asarray(correct))


def as_arrays(sweep: FourierSweep, split: str) -> dict[str, np.ndarray]:
    """A sweep as arrays to be stored, ``SPLIT_frequencies`` and so on; :func:`loaded` is the inverse."""
    return {f"{split}_{each.name}": np.asarray(getattr(sweep, each.name)) for each in dataclasses.fields(sweep)}


def loaded(arrays: Mapping[str, np.ndarray], split: str) -> FourierSweep:
    """The sweep of a split, from what was stored."""
    names = [each.name for each in dataclasses.fields(FourierSweep)]
    return FourierSweep(**{name: jnp.asarray(arrays[f"{split}_{name}"]) for name in names})
