"""What the proximal step of Absum costs in a training step."""

from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from benchmarks.measure import Row, bar, paired_times
from experiments.absum.models import LeNet, ResNet
from experiments.absum.regularizers import find_regularizer
from experiments.absum.task import make_task
from experiments.training.step import compile_step, create_state


def absum_step(tiny: bool = False) -> Iterator[Row]:
    """A ResNet-18 step with the Absum prox against the same step with the weight-decay prox."""
    batch_size = 8 if tiny else 32 if jax.default_backend() == "cpu" else 512
    model = (LeNet if tiny else ResNet)(10, (0.5,) * 3, (0.25,) * 3)
    steps = [_repeated_step(model, name, batch_size) for name in ("absum", "weight_decay")]
    times = paired_times(*steps, pairs=2 if tiny else 10)
    name = f"absum step / weight-decay step, ResNet-18, {batch_size}"
    yield Row(name, times.ratio, bar(cpu=1.03, accelerator=1.01), details=str(times))


def _repeated_step(model: nn.Module, name: str, batch_size: int) -> Callable[[], Any]:
    """A function that goes one step further in training each time it is called."""
    devices = jax.devices()[:1]
    task = make_task(
        model, find_regularizer(name), (32, 32, 3), augment=True, learning_rate=1e-3, momentum=0.9, num_steps=1_000
    )
    step = compile_step(task, devices=devices)
    state = create_state(task, 0, devices, numbers=np.float32(1e-3))
    rng = np.random.default_rng(0)
    batch: dict[str, np.ndarray] = {
        "images": rng.integers(0, 256, (1, batch_size, 32, 32, 3), dtype=np.uint8),
        "labels": rng.integers(0, 10, (1, batch_size), dtype=np.int32),
    }

    def once() -> Any:
        nonlocal state
        state, metrics = step(state, batch)
        return metrics

    return once
