"""A sweep whose arguments were checked, whose steps are planned and whose arrays lie on the devices."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from absum_jax._argument_checks import (
    as_array,
    check_epsilons,
    require_bounds,
    require_devices,
    require_key,
    require_one_of,
    require_positive_int,
)
from absum_jax._attack_loop import Program, Setting, count_all, count_part, on_devices
from absum_jax._attack_plan import Steps, images_per_batch, plan_parts, plan_steps
from absum_jax._classifier_checks import check_classifier
from absum_jax._sweep_result import FourierSweep
from absum_jax._types import ArrayOrNumpy, Bounds, Devices, Frequencies, ImageSize, Phases, PredictFn, PyTree
from absum_jax.fourier import check_frequencies, checked_phases, frequency_grid


class CheckedSweep(NamedTuple):
    """What a sweep needs.

    Args:
        frequencies, phases, epsilons: [F, 2], [] or [P], and [E], as they were given.
        total: number of images.
        arrays: the setting, images and labels, on the devices.
        steps: of the whole sweep.
        program: what is compiled in.
    """

    frequencies: ArrayOrNumpy
    phases: ArrayOrNumpy
    epsilons: ArrayOrNumpy
    total: int
    arrays: tuple[Setting, Array, Array]
    steps: Steps
    program: Program

    def run(self) -> FourierSweep:
        """The whole sweep in one call, which may be traced."""
        clean_correct, correct = count_all(*self.arrays, steps=self.steps, program=self.program)
        return self._result(self.frequencies, correct, clean_correct)

    def run_in_parts(self) -> Iterator[FourierSweep]:
        """The same, a part at a time."""
        frequencies = np.asarray(self.frequencies)
        shape = *self.phases.shape, len(self.epsilons)  # of the attacks of a frequency
        steps, parts = plan_parts(self.steps, math.prod(shape))
        ends = [*(part.first for part in parts[1:]), 1 + len(frequencies) * math.prod(shape)]
        start, clean_correct = 0, None
        counts = np.zeros(0, np.int32)
        for part, end in zip(parts, ends, strict=True):
            here = on_devices(part, self.program.devices)  # all that is sent for a part
            found = np.asarray(count_part(*self.arrays, here, steps=steps, program=self.program))
            # A part ends amid the attacks of a frequency as a rule; these counts wait for the next part.
            counts = np.append(counts, found[: end - part.first])
            if clean_correct is None:
                clean_correct, counts = counts[0], counts[1:]
            stop = start + len(counts) // math.prod(shape)
            complete, counts = np.split(counts, [(stop - start) * math.prod(shape)])
            yield self._result(frequencies[start:stop], complete.reshape(-1, *shape).T, clean_correct)
            start = stop

    def _result(self, frequencies: ArrayLike, correct: ArrayLike, clean_correct: ArrayLike) -> FourierSweep:
        """The counts of some frequencies with what belongs to them."""
        counts = (frequencies, self.epsilons, correct, clean_correct, np.int32(self.total), self.phases)
        return FourierSweep(*on_devices(counts, None))


def check_sweep(
    predict_fn: PredictFn,
    params: PyTree,
    images: ArrayLike,
    labels: ArrayLike,
    epsilons: ArrayLike | Sequence[float],
    *,
    frequencies: Frequencies | None,
    norm: str,
    phase: Phases,
    signs: Array | None,
    bounds: Bounds,
    batch_size: int,
    attacks_per_step: int | None,
    devices: Devices,
) -> CheckedSweep:
    """Check the arguments of :func:`fourier_sweep`, plan its steps, and only then copy to the devices."""
    require_one_of("norm", norm, ("linf", "l2"))
    require_bounds(bounds)
    require_positive_int("batch_size", batch_size)
    if attacks_per_step is None:
        attacks_per_step = 1 if jax.default_backend() == "cpu" else 8
    require_positive_int("attacks_per_step", attacks_per_step)
    if devices is not None:
        require_devices(devices)
    phases = checked_phases(phase).astype(jax.dtypes.canonicalize_dtype(float))
    if signs is not None:
        require_key("signs", signs)
        if norm != "l2":
            raise ValueError(f"norm must be 'l2' for random signs, got {norm!r}")
    images, labels = as_array("images", images), as_array("labels", labels)
    check_classifier(predict_fn, params, images, labels, bounds=bounds, batch_size=batch_size)
    grid = check_frequency_set(frequencies, (images.shape[1], images.shape[2]))
    epsilons = check_epsilons("epsilons", epsilons).reshape(-1)

    chosen = None if devices is None else tuple(devices)
    return CheckedSweep(
        grid,
        phases,
        epsilons,
        total=len(images),
        arrays=on_devices((Setting(params, grid, phases, epsilons, signs), images, labels), chosen),
        steps=plan_steps(
            1 + len(grid) * phases.size * len(epsilons), len(chosen) if chosen else 1, attacks_per_step
        ),
        program=Program(
            predict_fn,
            norm,
            bounds=(float(bounds[0]), float(bounds[1])),
            batch_size=images_per_batch(len(images), batch_size),
            devices=chosen,
        ),
    )


def check_frequency_set(frequencies: Frequencies | None, image_size: ImageSize) -> ArrayOrNumpy:
    """Int array [F, 2]; every distinct frequency for ``None``."""
    grid = as_array("frequencies", frequency_grid(*image_size, half=True) if frequencies is None else frequencies)
    if grid.ndim != 2 or not grid.size:
        raise ValueError(f"frequencies must have shape [F, 2] with F > 0, got {grid.shape}")
    check_frequencies(grid, image_size)
    return grid
