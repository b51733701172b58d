"""What the proximal step of Absum costs in a training step."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax

from benchmarks.measure import Row, paired_times
from experiments.absum.models import build_model
from experiments.absum.regularizers import REGULARIZERS
from experiments.absum.task import make_optimizer, make_task
from experiments.training.step import compile_step, create_state

BATCH_SIZE = 32 if jax.default_backend() == "cpu" else 512


def absum_step() -> Iterator[Row]:
    """A ResNet-18 step with the Absum prox against the same step with the weight-decay prox."""
    steps = {name: _repeated_step(name) for name in ("absum", "weight_decay")}
    times = paired_times(steps["absum"], steps["weight_decay"], pairs=10)
    yield Row("absum step / weight-decay step, ResNet-18", times.ratio, 1.03, details=str(times))


def _repeated_step(name: str) -> Callable[[], Any]:
    """A function that goes one step further in training each time it is called."""
    devices = jax.devices()[:1]
    regularizer = REGULARIZERS[name](1e-3)
    task = make_task(build_model("resnet18", 10, (0.5,) * 3, (0.25,) * 3), regularizer, (32, 32, 3), augment=True)
    schedule = optax.constant_schedule(1e-3)
    optimizer = make_optimizer(schedule, 0.9, regularizer)
    step = compile_step(task, optimizer, schedule, devices=devices)
    state = create_state(task, optimizer, 0, devices)
    rng = np.random.default_rng(0)
    batch: dict[str, np.ndarray] = {
        "images": rng.integers(0, 256, (1, BATCH_SIZE, 32, 32, 3), dtype=np.uint8),
        "labels": rng.integers(0, 10, (1, BATCH_SIZE), dtype=np.int32),
    }

    def once() -> Any:
        nonlocal state
        state, metrics = step(state, batch)
        return metrics

    return once
