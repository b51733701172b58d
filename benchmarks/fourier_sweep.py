"""The Fourier sweep against its floor: the same forward passes on clean images."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from absum_jax import fourier_sweep, frequency_grid
from benchmarks.measure import Row, in_fresh_process, paired_times, peak_extra_bytes
from experiments.absum.models import build_model

# model, image shape, images in a batch, frequencies: about a second of work on two cores.
SETTINGS = {
    "lenet": ((28, 28, 1), 250, 16),
    "resnet18": ((32, 32, 3), 16, 1),
}
EPSILONS = (0.05, 0.1, 0.2, 0.3)


def throughput() -> Iterator[Row]:
    """Images per second of the sweep / of forward passes and argmax on clean batches of the same size."""
    for name in SETTINGS:
        predict, variables, images, labels, frequencies = _problem(name)
        forward = jax.jit(lambda variables, images, predict=predict: predict(variables, images).argmax(axis=-1))
        attacks = len(frequencies) * len(EPSILONS) + 1  # the sweep counts the clean images too

        def bare(forward: Any = forward, variables: Any = variables, images: Array = images) -> list[Array]:
            return [forward(variables, images) for _ in range(attacks)]  # noqa: B023

        def sweep() -> Any:
            return fourier_sweep(predict, variables, images, labels, EPSILONS, frequencies=frequencies)  # noqa: B023

        times = paired_times(bare, sweep)
        yield Row(
            f"sweep / forward, {name}, batch {len(images)}",
            times.ratio,
            0.95,
            higher_is_better=True,
            details=str(times),
        )


def memory() -> Iterator[Row]:
    """Peak memory of the sweep beyond its arguments with 394 frequencies / with 8, each in a fresh process."""
    many, few = (in_fresh_process("benchmarks.fourier_sweep", str(count))["bytes"] for count in (394, 8))
    details = f"{many / 2**20:.1f} MiB against {few / 2**20:.1f} MiB"
    yield Row("sweep memory, 394 / 8 frequencies", many / few, 1.05, details=details)


def _peak_of_sweep(num_frequencies: int) -> int:
    predict, variables, images, labels, _ = _problem("lenet")
    frequencies = frequency_grid(28, 28, half=True)[:num_frequencies]

    def sweep(variables: Any, images: Array, labels: Array, frequencies: Array) -> Any:
        return fourier_sweep(predict, variables, images, labels, EPSILONS, frequencies=frequencies)

    # Compiled ahead of time: a first call would leave freed memory behind, which the measured one would use.
    compiled = jax.jit(sweep).lower(variables, images, labels, frequencies).compile()
    return peak_extra_bytes(lambda: compiled(variables, images, labels, frequencies))[0]


def compiles() -> Iterator[Row]:
    """Programs compiled by a second sweep with other epsilons."""
    predict, variables, images, labels, frequencies = _problem("lenet")
    counts: list[int] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: counts.append(1) if "backend_compile" in event else None
    )
    for epsilons in (EPSILONS, (0.01, 0.15, 0.25, 0.35)):
        before = len(counts)
        jax.block_until_ready(fourier_sweep(predict, variables, images, labels, epsilons, frequencies=frequencies))
    first, second = before, len(counts) - before
    yield Row("programs compiled by the second sweep", second, 0, unit="", details=f"{first} by the first")


def _problem(name: str) -> tuple[Any, Any, Array, Array, Array]:
    shape, count, num_frequencies = SETTINGS[name]
    channels = shape[-1]
    model = build_model(name, 10, (0.5,) * channels, (0.25,) * channels)
    images = jax.random.uniform(jax.random.key(0), (count, *shape))
    variables = jax.jit(model.init)(jax.random.key(1), images[:1])
    labels = jnp.zeros(count, jnp.int32)
    return model.apply, variables, images, labels, frequency_grid(*shape[:2], half=True)[:num_frequencies]


if __name__ == "__main__":
    print(json.dumps({"bytes": _peak_of_sweep(int(sys.argv[1]))}))
