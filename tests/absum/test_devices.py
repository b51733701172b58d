"""The task of the experiment in the compiled step: the same on any number of devices, the prox fused into it."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from absum_jax import absum_penalty
from experiments.absum.models import ResidualBlock
from experiments.absum.regularizers import REGULARIZERS
from experiments.absum.task import make_task
from experiments.training.devices import split
from experiments.training.step import compile_evaluation, compile_step, create_state

BATCH, STEPS = 24, 20


class Net(nn.Module):
    """Batch normalisation, a strided block with its projection, and little to compile."""

    @nn.compact
    def __call__(self, images, *, train=False, axis_name=None):
        x = ResidualBlock(4, 2, train, axis_name)(images - 0.5)
        return nn.Dense(4)(x.mean(axis=(1, 2)))


@pytest.fixture(autouse=True)
def in_its_own_directory():
    """Nothing of what the tests of runs are given: the usual random numbers and initial weights."""


TASK = make_task(
    Net(), REGULARIZERS["absum"], (8, 8, 3), augment=True, learning_rate=0.05, momentum=0.9, num_steps=STEPS
)


def batches(count):
    rng = np.random.default_rng(0)
    return [
        {
            "images": rng.integers(0, 256, (BATCH, 8, 8, 3), dtype=np.uint8),
            "labels": rng.integers(0, 4, BATCH, dtype=np.int32),
        }
        for _ in range(count)
    ]


def run(count, *, mapped=True, steps=STEPS, strength=0.05):
    devices = jax.devices()[:count]
    state = create_state(TASK, 0, devices, numbers=np.float32(strength))
    step = compile_step(TASK, devices=devices, mapped=mapped)
    for batch in batches(steps):
        state, metrics = step(state, split(batch, devices) if mapped else batch)
    return jax.device_get((state, metrics))


@pytest.fixture(scope="module")
def unmapped():
    return run(1, mapped=False)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_devices_do_not_matter(unmapped, count):
    state, metrics = run(count)
    expected, expected_metrics = unmapped
    for found, wanted in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected.params), strict=True):
        # Sums over the batch are taken in another order: float32 rounding, grown over twenty steps.
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    for found, wanted in zip(
        jax.tree.leaves(state.model_state), jax.tree.leaves(expected.model_state), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert metrics["accuracy"].count == expected_metrics["accuracy"].count == BATCH
    np.testing.assert_allclose(metrics["loss"].total, expected_metrics["loss"].total, rtol=1e-5)
    assert state.step == STEPS


def test_the_steps_move_the_parameters_more_than_the_tolerance(unmapped):
    start = jax.device_get(create_state(TASK, 0, jax.devices()[:1], numbers=np.float32(0.05)))
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), start.params, unmapped[0].params)
    assert max(jax.tree.leaves(moved)) > 1e-2


def test_a_large_strength_makes_every_filter_sum_zero_and_compiles_nothing(unmapped, count_compilations):
    run(2, steps=2)
    with count_compilations() as compiled:
        state, _ = run(2, steps=2, strength=1e6)
    assert compiled.count == 0
    for path, kernel in jax.tree_util.tree_leaves_with_path(state.params):
        if kernel.ndim == 4:
            sums = np.asarray(kernel, np.float64).sum(axis=(0, 1))
            assert np.abs(sums).max() < 1e-6, jax.tree_util.keystr(path)
    assert float(absum_penalty(state.params)) > 0  # rounding is left; the network is there


def test_evaluation_counts_each_example_once_on_any_number_of_devices():
    batch = batches(1)[0] | {"weight": np.r_[np.ones(11, np.float32), np.zeros(BATCH - 11, np.float32)]}

    def count(devices):
        state = create_state(TASK, 0, devices, numbers=np.float32(0))
        evaluate = compile_evaluation(TASK, devices=devices)
        return jax.device_get(evaluate(state.params, state.model_state, split(batch, devices))[1])

    alone, *others = (count(jax.devices()[:devices])["accuracy"] for devices in (1, 3, 8))
    assert others == [alone, alone]
    assert alone.count == 11
