"""A state carried from batch to batch, one part for each row: the same on any number of devices, and resumed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.training.devices import all_rows, local_rows
from experiments.training.loop import train
from experiments.training.phase import Outputs, Phase, TrainingData
from experiments.training.task import Mean, Task

ROWS, STEPS = 8, 6
SCHEDULE = optax.constant_schedule(0.1)
NUMBERS = np.random.default_rng(0).normal(size=(3, STEPS, ROWS)).astype(np.float32)


def loss(params, model_state, batch, keys, axis_name):
    carry = local_rows(model_state, len(batch["x"]), axis_name)
    carry = jnp.where(batch["reset"], 0.0, carry)
    carry = 0.9 * carry + params["w"] * batch["x"]
    errors = jnp.square(carry - 1)
    metrics = {"loss": Mean(errors.sum(), len(errors))}
    return errors.mean(), (all_rows(jax.lax.stop_gradient(carry), axis_name), metrics)


def evaluate(params, model_state, batch, axis_name):
    carry = local_rows(model_state, len(batch["x"]), axis_name) + batch["x"]
    return all_rows(carry, axis_name), {"loss": Mean(carry.sum(), len(carry))}


def make_task(scale=1.0):
    return Task(
        init=lambda key, numbers: ({"w": jnp.ones(())}, jnp.zeros(ROWS)),
        loss=loss,
        evaluate=evaluate,
        optimizer=optax.sgd(SCHEDULE),
        schedule=SCHEDULE,
        start_evaluation=lambda state, rows: jnp.zeros(rows),
        update_scale=lambda batch: scale,
    )


def batches(epoch, start):
    return [{"x": NUMBERS[epoch, index], "reset": np.full(ROWS, index == 0)} for index in range(start, STEPS)]


def validation():
    return [{"x": np.arange(16, dtype=np.float32)}, {"x": np.ones(16, np.float32)}]


def data(epoch=batches):
    return TrainingData(epoch=epoch, validation=validation, units_per_epoch=STEPS * ROWS, count=lambda batch: ROWS)


def run(directory, *, count=2, num_epochs=2, task=None, epoch=batches, **options):
    phase = Phase(task or make_task(), data(epoch), num_epochs, 0, **options)
    return train(phase, Outputs(directory / "newest", directory / "best"), devices=jax.devices()[:count])


def reference(num_epochs, scale=1.0):
    """The carried state, and the parameter with its gradient by hand, in double precision."""
    w = 1.0
    for epoch in range(num_epochs):
        carry = np.zeros(ROWS)
        for x in NUMBERS[epoch].astype(np.float64):
            carry = 0.9 * carry + w * x
            w -= scale * 0.1 * np.mean(2 * (carry - 1) * x)  # no gradient through the carried state
    return w, carry


@pytest.mark.parametrize("count", [1, 2, 8])
def test_every_row_carries_its_own_state_on_any_number_of_devices(tmp_path, count):
    state, _ = run(tmp_path, count=count)
    w, carry = reference(2)
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-5)  # float32 over 12 steps
    np.testing.assert_allclose(state.model_state, carry, rtol=1e-5, atol=1e-6)


def test_evaluation_carries_a_state_of_its_own_size(tmp_path):
    _, (line,) = run(tmp_path, num_epochs=1)
    rows = np.arange(16)
    assert line["validation_loss"] == (rows.sum() + (rows + 1).sum()) / 32


def test_updates_are_scaled(tmp_path):
    state, _ = run(tmp_path, task=make_task(scale=0.3))
    np.testing.assert_allclose(state.params["w"], reference(2, scale=0.3)[0], rtol=1e-5)


class _Interrupted(Exception):  # not an error
    pass


@pytest.mark.parametrize(("stop", "resumed_at"), [(1, 0), (3, 2), (4, 2), (5, 4)])
def test_a_run_interrupted_within_an_epoch_goes_on_as_if_it_had_not_been(tmp_path, stop, resumed_at):
    whole = run(tmp_path / "whole", checkpoint_every=2)

    def broken(epoch, start):
        for index, batch in enumerate(batches(epoch, start), start=start):
            if (epoch, index) == (1, stop):
                raise _Interrupted
            yield batch

    with pytest.raises(_Interrupted):
        run(tmp_path / "parts", epoch=broken, checkpoint_every=2)
    starts = []

    def watched(epoch, start):
        starts.append((epoch, start))
        return batches(epoch, start)

    parts = run(tmp_path / "parts", epoch=watched, checkpoint_every=2)
    assert starts == [(1, resumed_at)]
    np.testing.assert_array_equal(parts.state.params["w"], whole.state.params["w"])
    np.testing.assert_array_equal(parts.state.model_state, whole.state.model_state)
    assert [line["train_loss"] for line in parts.lines] == [line["train_loss"] for line in whole.lines]
