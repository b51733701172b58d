"""The compiled step: one program on any number of devices, its state neither stacked nor copied."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training.devices import split
from experiments.training.step import compile_evaluation, compile_step, create_state
from tests.training import toy


def batches(count):
    return [batch for _, batch in zip(range(count), toy.epoch(0, 0), strict=False)]


def run(count, *, mapped=True, steps=3, task=toy.TASK, **options):
    devices = jax.devices()[:count]
    state = create_state(task, 0, devices, **options)
    step = compile_step(task, devices=devices, mapped=mapped)
    for batch in batches(steps):
        state, metrics = step(state, split(batch, devices) if mapped else batch)
    return jax.device_get((state, metrics))


@pytest.mark.parametrize("count", [1, 2, 8])
def test_devices_do_not_matter(count):
    state, metrics = run(count)
    expected, expected_metrics = run(1, mapped=False)
    for found, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)  # float32 sums in another order
    assert metrics["loss"].count == expected_metrics["loss"].count == toy.BATCH
    np.testing.assert_allclose(metrics["loss"].total, expected_metrics["loss"].total, rtol=1e-5)
    assert state.step == 3


def test_state_is_not_stacked_and_is_donated():
    devices = jax.devices()[:2]
    state = create_state(toy.TASK, 0, devices)
    weights = state.params["w"]
    new_state, _ = compile_step(toy.TASK, devices=devices)(state, split(batches(1)[0], devices))
    assert new_state.params["w"].shape == (3,)
    assert weights.is_deleted()


def test_another_seed_number_or_call_compiles_nothing(count_compilations):
    def init(key, numbers):
        return {"w": numbers * jax.random.normal(key, (3,))}, {"mean": jnp.zeros(3)}

    task = toy.make_task(init=init)
    run(2, task=task, numbers=np.float32(1))
    with count_compilations() as compiled:
        devices = jax.devices()[:2]
        other = create_state(task, 1, devices, numbers=np.float32(2))
        compile_step(task, devices=devices)(other, split(batches(1)[0], devices))
    assert compiled.count == 0
    doubled, same = (create_state(task, 0, devices, numbers=np.float32(number)) for number in (2, 1))
    np.testing.assert_allclose(doubled.params["w"], 2 * same.params["w"])


def test_tasks_that_share_their_evaluation_share_its_program(count_compilations):
    devices = jax.devices()[:2]
    state = create_state(toy.TASK, 0, devices)
    batch = split(toy.DATA.validation()[0], devices)
    compile_evaluation(toy.TASK, devices=devices)(state.params, state.model_state, batch)
    with count_compilations() as compiled:
        compile_evaluation(toy.make_task(rate=0.2), devices=devices)(state.params, state.model_state, batch)
    assert compiled.count == 0


def test_what_follows_the_update_sees_state_rate_and_step():
    def after_update(params, model_state, learning_rate, step):
        return {"w": jnp.stack([learning_rate, step.astype(float), model_state["mean"][0]])}

    task = toy.make_task(after_update=after_update, update_scale=lambda batch: 3.0)
    state, _ = run(2, steps=2, task=task)
    mean = batches(2)[1]["images"][:, 0].mean()
    np.testing.assert_allclose(state.params["w"], [3 * 0.05, 1, mean], rtol=1e-5)


def test_a_batch_that_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match="10 rows cannot be split over 4 devices"):
        split({"labels": np.zeros(10)}, jax.devices()[:4])
