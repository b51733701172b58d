"""The Fourier sweep against what it cannot be faster than: the same forward passes on clean images.

``python -m benchmarks.fourier_sweep FREQUENCIES [tiny]`` prints the extra memory of a sweep as JSON.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from absum_jax import fourier_perturbation, fourier_sweep, frequency_grid
from benchmarks.measure import Row, compiled_extra_bytes, in_fresh_process, paired_times, seconds
from experiments.absum.models import find_model

EPSILONS = (0.05, 0.1, 0.2, 0.3)
MOST_FREQUENCIES = 394  # every distinct one of 28 x 28


class Problem(NamedTuple):
    """A model with its variables, and images to attack at some frequencies."""

    predict: Any
    variables: Any
    images: Array
    labels: Array
    frequencies: Array


def throughput(tiny: bool = False) -> Iterator[Row]:
    """Images per second of the sweep / of forward passes and argmax on clean batches of the same size."""
    # Model, images in a batch, frequencies: about a second of work on two cores, or on a GPU.
    settings = [("lenet", 250, 16), ("resnet18", 16, 1)]
    if jax.default_backend() != "cpu":
        settings = [("lenet", 2_000, 394), ("resnet18", 250, 8)]
    for name, count, num_frequencies in [("lenet", 8, 2)] if tiny else settings:
        problem = _problem(name, count, num_frequencies)
        yield _throughput(name, problem, pairs=2 if tiny else 15)


def _throughput(name: str, problem: Problem, pairs: int) -> Row:
    predict, variables, images, labels, frequencies = problem
    forward = jax.jit(lambda variables, images: predict(variables, images).argmax(axis=-1))
    attacks = len(frequencies) * len(EPSILONS) + 1  # the sweep counts the clean images too

    def bare() -> list[Array]:
        return [forward(variables, images) for _ in range(attacks)]

    def sweep() -> Any:
        return fourier_sweep(
            predict, variables, images, labels, EPSILONS, frequencies=frequencies, batch_size=len(images)
        )

    times = paired_times(bare, sweep, pairs=pairs)
    label = f"sweep / forward, {name}, batch {len(images)}"
    return Row(label, times.ratio, 0.95, higher_is_better=True, details=str(times))


def loop(tiny: bool = False) -> Iterator[Row]:
    """Time of the sweep / of a Python loop over its attacks, each a call of one jitted function, LeNet."""
    count, num_frequencies, pairs = (8, 2, 2) if tiny else (300, 16, 15)
    predict, variables, images, labels, frequencies = _problem("lenet", count, num_frequencies)
    make = jax.jit(fourier_perturbation, static_argnums=1)
    attacks = [(frequencies[0], 0.0), *((frequency, epsilon) for frequency in frequencies for epsilon in EPSILONS)]
    # Made beforehand, and not timed; the sweep makes its own. The first is the clean pass.
    patterns = [make(frequency, images.shape[1:], epsilon) for frequency, epsilon in attacks]

    @jax.jit
    def attack(variables: Any, images: Array, labels: Array, pattern: Array) -> Array:
        logits = predict(variables, jnp.clip(images + pattern[None], 0.0, 1.0))
        return jnp.sum(logits.argmax(axis=-1) == labels)

    def looped() -> list[Array]:
        return [attack(variables, images, labels, pattern) for pattern in patterns]

    def sweep() -> Any:
        return fourier_sweep(
            predict, variables, images, labels, EPSILONS, frequencies=frequencies, batch_size=count
        )

    first = seconds(looped), seconds(sweep)
    times = paired_times(sweep, looped, pairs=pairs)
    details = f"{times}; first call {first[1]:.2f} s against {first[0]:.2f} s"
    yield Row(f"sweep / jitted loop, lenet, batch {count}", times.ratio, 1.03, details=details)


def memory(tiny: bool = False) -> Iterator[Row]:
    """Peak memory of the sweep beyond its arguments with 394 frequencies / with 8, each in a fresh process."""
    sizes = ["tiny"] if tiny else []
    counts = MOST_FREQUENCIES, 8
    many, few = (in_fresh_process("benchmarks.fourier_sweep", str(n), *sizes)["bytes"] for n in counts)
    details = f"{many / 2**20:.1f} MiB against {few / 2**20:.1f} MiB"
    yield Row("sweep memory, 394 / 8 frequencies", many / max(few, 1), 1.05, details=details)


def compiles(tiny: bool = False) -> Iterator[Row]:
    """Programs compiled by a second sweep with other epsilons."""
    predict, variables, images, labels, frequencies = _problem("lenet", 8 if tiny else 250, 2)
    counts: list[int] = []

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        del duration_secs, details
        counts.extend([1] if "backend_compile" in event else [])

    jax.monitoring.register_event_duration_secs_listener(listen)
    for epsilons in (EPSILONS, (0.01, 0.15, 0.25, 0.35)):
        before = len(counts)
        jax.block_until_ready(fourier_sweep(predict, variables, images, labels, epsilons, frequencies=frequencies))
    jax.monitoring.unregister_event_duration_listener(listen)
    first, second = before, len(counts) - before
    yield Row("programs compiled by the second sweep", second, 0, unit="", details=f"{first} by the first")


def _problem(name: str, count: int, num_frequencies: int) -> Problem:
    shape = (32, 32, 3) if name == "resnet18" else (28, 28, 1)
    channels = shape[-1]
    model = find_model(name).build(10, (0.5,) * channels, (0.25,) * channels)
    images = jax.random.uniform(jax.random.key(0), (count, *shape))
    variables = jax.jit(model.init)(jax.random.key(1), images[:1])
    labels = jnp.zeros(count, jnp.int32)
    frequencies = frequency_grid(*shape[:2], half=True)[:num_frequencies]
    return Problem(model.apply, variables, images, labels, frequencies)


def main() -> None:
    """Sweep so many frequencies, the compiler not included."""
    num_frequencies, tiny = int(sys.argv[1]), "tiny" in sys.argv[2:]
    predict, *arguments = _problem("lenet", 8 if tiny else 250, num_frequencies)

    def sweep(variables: Any, images: Array, labels: Array, frequencies: Array) -> Any:
        return fourier_sweep(predict, variables, images, labels, EPSILONS, frequencies=frequencies)

    # Compiled ahead of time: a first call would leave freed memory behind, which the measured one would use.
    compiled = jax.jit(sweep).lower(*arguments).compile()
    # As many forward passes whatever the number of frequencies.
    calls = 1 if tiny else -(-MOST_FREQUENCIES // num_frequencies)
    print(json.dumps({"bytes": compiled_extra_bytes(compiled, *arguments, calls=calls)}))


if __name__ == "__main__":
    main()
