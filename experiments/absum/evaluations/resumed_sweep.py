"""A sweep over every distinct frequency that goes on where it stopped."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from absum_jax import FourierSweep, fourier_sweep_parts, frequency_grid
from experiments.absum.run import ClassifierRun, variables
from experiments.data.images import to_float
from experiments.harness.stored import Partial
from experiments.training.progress import ProgressReport


def resumed_sweep(
    trained: ClassifierRun,
    images: np.ndarray,
    labels: np.ndarray,
    epsilons: list[float],
    partial: Partial,
    *,
    label: str,
    **options: Any,
) -> FourierSweep:
    """Sweep on all devices; what is done is kept in ``partial``, whose arrays are those of the sweep alone.

    Args:
        trained: the network.
        images: uint8 [N, H, W, C].
        labels: [N].
        epsilons: [E].
        partial: of the evaluation.
        label: of the progress.
        options: further ones of ``fourier_sweep_parts``.
    """
    grid = np.asarray(frequency_grid(*images.shape[1:3], half=True))
    done = partial.read()
    found = sweep_of(done) if done else None
    count = len(found.frequencies) if found else 0  # the first ones, as all are taken in order
    new = fourier_sweep_parts(
        trained.subject.predict_fn, variables(trained), to_float(images), labels, epsilons,
        frequencies=grid[count:], devices=jax.devices() if jax.device_count() > 1 else None, **options,
    ) if count < len(grid) else ()  # fmt: skip
    with ProgressReport(label, len(grid), "frequencies", done=count) as progress:
        for part in new:
            found = FourierSweep.concatenate([found, part]) if found else part
            partial.write(**arrays_of(found))
            progress.advance(len(part.frequencies))
    assert found is not None  # an image has at least one frequency
    return found


def arrays_of(sweep: FourierSweep) -> dict[str, np.ndarray]:
    """A sweep as arrays to be stored; :func:`sweep_of` is the inverse."""
    return {field.name: np.asarray(getattr(sweep, field.name)) for field in dataclasses.fields(sweep)}


def sweep_of(arrays: Mapping[str, np.ndarray]) -> FourierSweep:
    """The sweep that was stored as these arrays, among others."""
    names = (field.name for field in dataclasses.fields(FourierSweep))
    return FourierSweep(**{name: jnp.asarray(arrays[name]) for name in names})
