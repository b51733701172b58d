"""The compiled step: the same on any number of devices, with everything fused into it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from absum_jax import absum_penalty
from experiments.absum.models import ResidualBlock
from experiments.absum.regularizers import REGULARIZERS
from experiments.absum.task import make_optimizer, make_task
from experiments.training import devices as device_room
from experiments.training.step import compile_evaluation, compile_step, create_state


class Net(nn.Module):
    """Batch normalisation, a strided block with its projection, and little to compile."""

    @nn.compact
    def __call__(self, images, *, train=False, axis_name=None):
        x = ResidualBlock(4, 2, train, axis_name)(images - 0.5)
        return nn.Dense(4)(x.mean(axis=(1, 2)))


SCHEDULE = optax.linear_schedule(0.05, 0.01, 4)
BATCH = 16


def batches(count):
    rng = np.random.default_rng(0)
    return [
        {
            "images": rng.integers(0, 256, (BATCH, 8, 8, 3), dtype=np.uint8),
            "labels": rng.integers(0, 4, BATCH, dtype=np.int32),
        }
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def setting():
    """Batch normalisation, augmentation and the proximal step."""
    regularizer = REGULARIZERS["absum"](0.05)
    task = make_task(Net(), regularizer, (8, 8, 3), augment=True)
    return task, make_optimizer(SCHEDULE, 0.9, regularizer)


def run(setting, count, *, mapped=True, steps=3):
    task, optimizer = setting
    devices = jax.devices()[:count]
    state = create_state(task, optimizer, 0, devices)
    step = compile_step(task, optimizer, SCHEDULE, devices=devices, mapped=mapped)
    for batch in batches(steps):
        state, metrics = step(state, device_room.split(batch, devices) if mapped else batch)
    return jax.device_get((state, metrics))


@pytest.fixture(scope="module")
def unmapped(setting):
    return run(setting, 1, mapped=False)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_devices_do_not_matter(setting, unmapped, count):
    state, metrics = run(setting, count)
    expected, expected_metrics = unmapped
    for found, wanted in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected.params), strict=True):
        # Sums over the batch are taken in another order: float32 rounding, grown over three steps.
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    for found, wanted in zip(
        jax.tree.leaves(state.model_state), jax.tree.leaves(expected.model_state), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert metrics["accuracy"].count == expected_metrics["accuracy"].count == BATCH
    np.testing.assert_allclose(metrics["loss"].total, expected_metrics["loss"].total, rtol=1e-5)
    assert state.step == 3


def test_a_step_moves_the_parameters_more_than_the_tolerance(setting, unmapped):
    task, optimizer = setting
    start = jax.device_get(create_state(task, optimizer, 0, jax.devices()[:1]))
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), start.params, unmapped[0].params)
    assert max(jax.tree.leaves(moved)) > 1e-2


def test_state_is_not_stacked_and_is_donated(setting):
    task, optimizer = setting
    devices = jax.devices()[:2]
    state = create_state(task, optimizer, 0, devices)
    shapes = jax.tree.map(jnp.shape, state.params)
    kernel = jax.tree.leaves(state.params)[0]
    new_state, _ = compile_step(task, optimizer, SCHEDULE, devices=devices)(
        state, device_room.split(batches(1)[0], devices)
    )
    assert jax.tree.map(jnp.shape, new_state.params) == shapes
    assert kernel.is_deleted()


def test_the_second_call_compiles_nothing(setting, count_compilations):
    task, optimizer = setting
    devices = jax.devices()[:2]
    state = create_state(task, optimizer, 0, devices)
    step = compile_step(task, optimizer, SCHEDULE, devices=devices)
    batch = device_room.split(batches(1)[0], devices)
    state, _ = step(state, batch)
    with count_compilations() as compiled:
        step(state, batch)
    assert compiled.count == 0


def test_a_large_strength_makes_every_filter_sum_zero():
    regularizer = REGULARIZERS["absum"](1e6)
    task = make_task(Net(), regularizer, (8, 8, 3), augment=False)
    optimizer = make_optimizer(SCHEDULE, 0.9, regularizer)
    state, _ = run((task, optimizer), 2, steps=1)
    for path, kernel in jax.tree_util.tree_leaves_with_path(state.params):
        if kernel.ndim == 4:
            sums = np.asarray(kernel, np.float64).sum(axis=(0, 1))
            assert np.abs(sums).max() < 1e-6, jax.tree_util.keystr(path)
    assert float(absum_penalty(state.params)) > 0  # rounding is left; the network is there


def test_evaluation_counts_each_example_once_on_any_number_of_devices(setting):
    task, optimizer = setting
    batch = batches(1)[0] | {"weight": np.r_[np.ones(11, np.float32), np.zeros(5, np.float32)]}

    def count(devices):
        state = create_state(task, optimizer, 0, devices)
        evaluate = compile_evaluation(task, devices=devices)
        return jax.device_get(evaluate(state.params, state.model_state, device_room.split(batch, devices))[1])

    found = [count(jax.devices()[:1]), count(jax.devices()[:8])]
    assert found[0]["accuracy"] == found[1]["accuracy"]
    assert found[0]["accuracy"].count == 11


def test_a_batch_that_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match="10 rows cannot be split over 4 devices"):
        device_room.split({"labels": np.zeros(10)}, jax.devices()[:4])
