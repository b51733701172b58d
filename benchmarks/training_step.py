"""What the proximal step of Absum, and an attack, cost in a training step."""

from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from benchmarks.measure import Row, bar, paired_times
from experiments.absum.adversary import Adversary, find_adversary
from experiments.absum.models import LeNet, ResNet
from experiments.absum.regularizers import find_regularizer
from experiments.absum.task import make_task, predict_fn
from experiments.training.step import compile_step, create_state


def absum_step(tiny: bool = False) -> Iterator[Row]:
    """A ResNet-18 step with the Absum prox against the same step with the weight-decay prox."""
    batch_size = 8 if tiny else 32 if jax.default_backend() == "cpu" else 512
    model = (LeNet if tiny else ResNet)(10, (0.5,) * 3, (0.25,) * 3)
    steps = [_repeated_step(model, (32, 32, 3), name, batch_size) for name in ("absum", "weight_decay")]
    times = paired_times(*steps, pairs=2 if tiny else 10)
    name = f"absum step / weight-decay step, ResNet-18, {batch_size}"
    yield Row(name, times.ratio, bar(cpu=1.03, accelerator=1.01), details=str(times))


def adversarial_step(tiny: bool = False) -> Iterator[Row]:
    """A LeNet step with 7 steps of PGD against a plain step and the 7 gradients of its images by themselves."""
    batch_size = 8 if tiny else 64 if jax.default_backend() == "cpu" else 1024
    model, shape = LeNet(10, (0.3,), (0.35,)), (28, 28, 1)
    attacked = _repeated_step(model, shape, "absum", batch_size, adversary=find_adversary("pgd", 0.1, 7))
    plain = _repeated_step(model, shape, "absum", batch_size)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *shape)))
    images, labels = jnp.full((batch_size, *shape), 0.5), jnp.zeros(batch_size, jnp.int32)

    @jax.jit
    def gradient(variables: Any, images: Array) -> Array:
        def loss(images: Array) -> Array:
            logits = predict_fn(model)(variables, images)
            return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

        return jax.grad(loss)(images)

    def counted() -> Any:
        return [gradient(variables, images) for _ in range(7)], plain()

    times = paired_times(attacked, counted, pairs=2 if tiny else 15)
    yield Row(f"adversarial step / its passes alone, LeNet, {batch_size}", times.ratio, 1.15, details=str(times))


def _repeated_step(
    model: nn.Module, shape: tuple[int, int, int], name: str, batch_size: int, adversary: Adversary | None = None
) -> Callable[[], Any]:
    """A function that goes one step further in training each time it is called."""
    devices = jax.devices()[:1]
    task = make_task(
        model, find_regularizer(name), shape,
        augment=shape[-1] == 3, learning_rate=1e-3, momentum=0.9, num_steps=1_000, adversary=adversary,
    )  # fmt: skip
    step = compile_step(task, devices=devices)
    state = create_state(task, 0, devices, numbers=np.float32(1e-3))
    rng = np.random.default_rng(0)
    batch: dict[str, np.ndarray] = {
        "images": rng.integers(0, 256, (1, batch_size, *shape), dtype=np.uint8),
        "labels": rng.integers(0, 10, (1, batch_size), dtype=np.int32),
    }

    def once() -> Any:
        nonlocal state
        state, metrics = step(state, batch)
        return metrics

    return once
