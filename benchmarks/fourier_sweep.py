"""The Fourier sweep against its floor: the same forward passes on clean images."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from absum_jax import fourier_sweep, frequency_grid
from absum_jax.attack_counts import Setting, count_correct
from benchmarks.measure import Row, paired_times
from experiments.absum.models import build_model

# model, image shape, images in a batch, frequencies: about a second of work on two cores.
SETTINGS = {
    "lenet": ((28, 28, 1), 250, 8),
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
    """Temporary memory of the compiled sweep with 394 frequencies / with 8."""
    predict, variables, images, labels, _ = _problem("lenet")
    sizes = []
    for count in (394, 8):
        frequencies = frequency_grid(28, 28, half=True)[:count]
        attacks = (jnp.tile(frequencies, (4, 1)), jnp.repeat(jnp.asarray(EPSILONS), count))
        lowered = count_correct.lower(
            Setting(variables, 0.0, (0.0, 1.0)), images, labels, attacks,
            predict_fn=predict, norm="linf", batch_size=250, attacks_per_step=1, devices=None,
        )  # fmt: skip
        analysis = lowered.compile().memory_analysis()
        assert analysis is not None, "this backend does not report the memory of a program"
        sizes.append(analysis.temp_size_in_bytes)
    details = f"{sizes[0] / 2**20:.1f} MiB against {sizes[1] / 2**20:.1f} MiB"
    yield Row("sweep memory, 394 / 8 frequencies", sizes[0] / sizes[1], 1.01, details=details)


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
