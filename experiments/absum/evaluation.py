"""The single Fourier attack on a trained network, and the row of results that it gives."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from absum_jax import FourierSweep, accuracy_interval, fourier_sweep, frequency_grid
from experiments.training.progress import ProgressReport

_FREQUENCIES_PER_PART = 16  # of one compiled call: often enough to show progress, rare enough to cost nothing


@functools.cache
def predict_fn(model: nn.Module) -> Callable[[Any, Array], Array]:
    """``(variables, images) -> logits``; one function per model, so that equal sweeps are compiled once."""

    def predict(variables: Any, images: Array) -> Array:
        logits: Any = model.apply(variables, images)
        return logits

    return predict


def sweep_with_progress(
    model: nn.Module,
    variables: Any,
    images: np.ndarray,
    labels: np.ndarray,
    epsilons: tuple[float, ...],
    *,
    batch_size: int,
    label: str,
) -> FourierSweep:
    """``fourier_sweep`` over every distinct frequency, on all devices, a few frequencies at a time.

    Args:
        model, variables: a trained network.
        images: float [N, H, W, C] in [0, 1].
        labels: int [N].
        epsilons: L-infinity norms.
        batch_size: images of one forward pass.
        label: shown with the progress.
    """
    frequencies = np.asarray(frequency_grid(*images.shape[1:3], half=True))
    devices = jax.devices() if jax.device_count() > 1 else None
    parts = []
    with ProgressReport(label, len(frequencies), "frequencies") as progress:
        for start in range(0, len(frequencies), _FREQUENCIES_PER_PART):
            part = frequencies[start : start + _FREQUENCIES_PER_PART]
            # All parts have one shape, or the last would be compiled by itself; what fills it is dropped.
            filled = np.concatenate([part, np.repeat(part[-1:], _FREQUENCIES_PER_PART - len(part), axis=0)])
            sweep = fourier_sweep(
                predict_fn(model), variables, images, labels, epsilons,
                frequencies=filled, batch_size=batch_size, devices=devices,
            )  # fmt: skip
            parts.append(np.asarray(sweep.correct)[:, : len(part)])
            progress.advance(len(part))
    correct = np.concatenate(parts, axis=1)
    return dataclasses.replace(sweep, frequencies=jnp.asarray(frequencies), correct=jnp.asarray(correct))


def predicted_classes(model: nn.Module, variables: Any, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Predicted classes of float images, in batches of at most ``batch_size``."""
    predict = _compiled_classes(model)
    starts = range(0, len(images), batch_size)
    return np.concatenate([np.asarray(predict(variables, images[i : i + batch_size])) for i in starts])


@functools.cache
def _compiled_classes(model: nn.Module) -> Callable[[Any, Any], Array]:
    return jax.jit(lambda variables, images: predict_fn(model)(variables, images).argmax(axis=-1))


def sweep_row(sweep: FourierSweep) -> dict[str, Any]:
    """What ``result.json`` says of a sweep."""
    low, high = accuracy_interval(jnp.min(sweep.correct, axis=1), sweep.total)
    return {
        "clean_accuracy": float(sweep.clean_accuracy),
        "epsilons": [round(float(epsilon), 6) for epsilon in sweep.epsilons],
        "worst_accuracy": _floats(sweep.worst_accuracy),
        "worst_accuracy_interval": [list(pair) for pair in zip(_floats(low), _floats(high), strict=True)],
        "worst_frequency": np.asarray(sweep.worst_frequency).tolist(),
        "mean_accuracy": _floats(sweep.mean_accuracy),
        "average_robust_accuracy": float(sweep.average_robust_accuracy),
        "attack_images": int(sweep.total),
    }


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a call, and the seconds it took."""
    start = time.monotonic()
    return function(), time.monotonic() - start


def _floats(values: ArrayLike) -> list[float]:
    return [round(float(value), 6) for value in np.asarray(values)]
