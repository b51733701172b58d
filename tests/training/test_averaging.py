"""Averages of the parameters: what they are, when they begin, and when they end training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.training.averaging import Averaging
from experiments.training.loop import train
from experiments.training.phase import Outputs, Phase, TrainingData
from experiments.training.task import Mean, Task

SCHEDULE = optax.constant_schedule(0.5)
STEPS = 3
# The loss of each epoch's validation, whatever the parameters: the trigger is what is tested.
LOSSES = [5.0, 4.0, 3.0, 3.5, 3.4, 3.3, 3.2]


def loss(params, model_state, batch, keys, axis_name):
    value = jnp.mean(batch["slope"]) * params["w"]
    return value, (model_state, {"loss": Mean(value, 1)})


def evaluate(params, model_state, batch, axis_name):
    return model_state, {"loss": Mean(batch["loss"].sum(), len(batch["loss"]))}


TASK = Task(
    init=lambda key, numbers: ({"w": jnp.zeros(())}, {}), loss=loss, evaluate=evaluate,
    optimizer=optax.sgd(SCHEDULE), schedule=SCHEDULE,
)  # fmt: skip


def outputs(directory):
    return Outputs(directory / "newest", directory / "best")


def slopes(epoch, start):
    return [{"slope": np.full(2, epoch + index, np.float32)} for index in range(start, STEPS)]


def run(directory, averaging, num_epochs=7, **options):
    given = iter(LOSSES)
    data = TrainingData(
        epoch=slopes,
        validation=lambda: [{"loss": np.full(2, next(given), np.float32)}],
        units_per_epoch=STEPS,
        count=lambda batch: 1,
    )
    phase = Phase(TASK, data, num_epochs, 0, averaging=averaging, **options)
    return train(phase, outputs(directory), devices=jax.devices()[:2])


def iterates(epochs):
    """The parameter after every step: plain gradient descent on a linear loss."""
    w, found = 0.0, []
    for epoch in range(epochs):
        for index in range(STEPS):
            w -= 0.5 * (epoch + index)
            found.append(w)
    return np.array(found)


@pytest.mark.parametrize(
    ("losses", "triggered"),
    [
        ([], False),
        ([3.0], False),
        ([5.0, 4.0, 3.0], False),  # improving
        ([3.0, 4.0, 4.0], False),  # worse than the best, but only two before it: not more than the patience
        ([3.0, 4.0, 4.0, 4.0], True),  # 4 > min(3)
        ([3.0, 4.0, 4.0, 3.0], False),  # equal is not worse
        ([5.0, 3.0, 3.0, 4.0], False),  # the 3s are within the patience; before them only 5
        ([5.0, 3.0, 3.0, 4.0, 3.5], True),  # 3.5 > min(5, 3)
    ],
)
def test_the_trigger_on_sequences_made_by_hand(losses, triggered):
    assert Averaging(patience=2).is_triggered(losses) == triggered


def test_before_the_trigger_the_average_is_the_parameters(tmp_path):
    state, _ = run(tmp_path, Averaging(patience=2), num_epochs=4)
    assert float(state.average.params["w"]) == float(state.params["w"])
    assert not bool(state.average.is_active)


def test_from_the_trigger_on_the_average_is_the_mean_of_the_iterates(tmp_path):
    # With patience 2, LOSSES trigger after the sixth validation: 3.3 > min(5, 4, 3). The fifth compares with 4.
    state, lines = run(tmp_path, Averaging(patience=2))
    averaged = iterates(7)[6 * STEPS :]
    np.testing.assert_allclose(state.average.params["w"], averaged.mean(), rtol=1e-6)
    np.testing.assert_allclose(state.params["w"], averaged[-1], rtol=1e-6)
    assert [line["averaged_steps"] for line in lines] == [0, 0, 0, 0, 0, 0, STEPS]


def test_from_the_start_it_averages_everything_and_ends_at_the_trigger(tmp_path, capsys):
    state, lines = run(tmp_path, Averaging(patience=2, from_start=True))
    assert "training: ended after 6 of 7 epochs, as the validation loss fell no more" in capsys.readouterr().err
    np.testing.assert_allclose(state.average.params["w"], iterates(6).mean(), rtol=1e-6)
    assert len(lines) == 6
    again, again_lines = run(
        tmp_path, Averaging(patience=2, from_start=True)
    )  # finished: nothing is trained any more
    assert float(again.average.params["w"]) == float(state.average.params["w"])
    assert capsys.readouterr().err == ""
    assert again_lines == lines


def test_the_best_epoch_is_given_back(tmp_path):
    state, _ = run(tmp_path, Averaging(patience=2), keep_best=True)
    np.testing.assert_allclose(state.params["w"], iterates(3)[-1], rtol=1e-6)  # LOSSES are smallest at the third
    again, _ = run(tmp_path, Averaging(patience=2), keep_best=True)
    assert float(again.params["w"]) == float(state.params["w"])


def test_a_resumed_run_triggers_where_the_whole_one_does(tmp_path):
    whole, _ = run(tmp_path / "whole", Averaging(patience=2))
    for epochs in range(1, len(LOSSES) + 1):
        given = LOSSES[epochs - 1 :]
        data = TrainingData(
            epoch=slopes,
            validation=lambda given=given: [{"loss": np.full(2, given[0], np.float32)}],
            units_per_epoch=STEPS,
            count=lambda batch: 1,
        )
        phase = Phase(TASK, data, epochs, 0, averaging=Averaging(patience=2))
        parts, _ = train(phase, outputs(tmp_path / "parts"), devices=jax.devices()[:2])
    np.testing.assert_array_equal(parts.average.params["w"], whole.average.params["w"])


def test_a_phase_can_start_from_given_parameters(tmp_path):
    state, _ = run(tmp_path, None, num_epochs=1, initial_params={"w": np.float32(10)})
    np.testing.assert_allclose(state.params["w"], 10 + iterates(1)[-1], rtol=1e-6)


def test_a_patience_of_nothing_is_refused():
    with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
        Averaging(patience=0)
