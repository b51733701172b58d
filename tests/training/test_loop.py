"""The loop: it learns, it says what it did, and an interrupted run goes on as if it had not been."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training.loop import epochs_done, is_finished, load, train
from experiments.training.phase import Outputs, Phase
from experiments.training.task import Mean
from tests.training import toy


def outputs(directory, log=lambda lines: None):
    return Outputs(directory / "newest", directory / "best", log)


def run(directory, num_epochs, task=toy.TASK, **options):
    phase = Phase(task, toy.DATA, num_epochs, seed=1, **options)
    return train(phase, outputs(directory), devices=jax.devices()[:2])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Three epochs without an interruption."""
    directory = tmp_path_factory.mktemp("whole")
    return directory, run(directory, 3)


def test_it_learns_and_gives_a_line_for_every_epoch(whole):
    _, (state, lines) = whole
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[-1]["step"] == int(state.step) == 3 * toy.STEPS
    assert lines[-1]["validation_loss"] < 0.2 * lines[0]["validation_loss"]
    assert {"train_loss", "learning_rate", "seconds", "examples_per_second"} <= set(lines[0])


def test_resumed_is_uninterrupted(tmp_path, whole):
    _, (state, lines) = whole
    run(tmp_path, 1)
    resumed, resumed_lines = run(tmp_path, 3)
    for found, wanted in zip(jax.tree.leaves(resumed), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert [line["train_loss"] for line in resumed_lines] == [line["train_loss"] for line in lines]


def test_the_log_gets_all_lines_of_the_checkpoint_whenever_there_is_a_new_one(tmp_path):
    logged = []

    def log(lines):
        logged.append([line["epoch"] for line in lines])

    phase = Phase(toy.TASK, toy.DATA, 2, seed=1)
    for _ in range(2):
        train(phase, outputs(tmp_path, log), devices=jax.devices()[:2])
    assert logged == [[], [1], [1, 2], [1, 2]]


def test_a_finished_run_is_only_read(whole, capsys):
    directory, (state, lines) = whole
    again = run(directory, 3)
    np.testing.assert_array_equal(state.params["w"], again.state.params["w"])
    assert again.lines == lines
    assert capsys.readouterr().err == ""


def test_what_was_trained_can_be_loaded_and_nothing_else(tmp_path, whole):
    directory, (state, lines) = whole
    phase = Phase(toy.TASK, toy.DATA, 3, seed=1)
    loaded = load(phase, outputs(directory))
    np.testing.assert_array_equal(loaded.state.params["w"], state.params["w"])
    assert loaded.lines == lines
    position = epochs_done(outputs(directory))
    assert position.epoch == 3
    assert is_finished(phase, position)
    with pytest.raises(ValueError, match="has finished 3 of 4 epochs; repeat the command"):
        load(Phase(toy.TASK, toy.DATA, 4, seed=1), outputs(directory))
    assert epochs_done(outputs(tmp_path)) is None
    with pytest.raises(ValueError, match="has finished 0 of 3 epochs"):
        load(phase, outputs(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_fewer_epochs_than_are_done_are_refused(whole):
    directory, _ = whole
    with pytest.raises(ValueError, match="3 epochs are done, more than the 2 asked for"):
        run(directory, 2)


def test_a_checkpoint_of_another_model_is_refused(whole):
    directory, _ = whole
    with pytest.raises(ValueError, match=r"another model: .*params/w has shape \(3,\), expected \(4,\)"):
        run(directory, 3, task=toy.make_task(width=4))
    other = toy.make_task(init=lambda key, numbers: ({"v": jnp.zeros(3)}, {"mean": jnp.zeros(3)}))
    with pytest.raises(ValueError, match=r"another model: .*v has shape none"):
        run(directory, 3, task=other)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    def diverging(params, model_state, batch, keys, axis_name):
        value, (model_state, _) = toy.loss(params, model_state, batch, keys, axis_name)
        return value * jnp.nan, (model_state, {"loss": Mean(jnp.nan, toy.BATCH)})

    with pytest.raises(FloatingPointError, match="after epoch 1 the training loss is nan; lower the"):
        run(tmp_path, 1, task=toy.make_task(loss=diverging))


def test_a_parameter_that_is_not_finite_stops_the_run_though_the_loss_is(tmp_path):
    def spoil(params, model_state, learning_rate, step):
        return {"w": params["w"] * jnp.where(step == 4, jnp.nan, 1)}

    with pytest.raises(FloatingPointError, match="after epoch 1 a parameter is not finite"):
        run(tmp_path, 1, task=toy.make_task(after_update=spoil))


def test_progress_names_what_is_trained(tmp_path, capsys):
    run(tmp_path, 1, label="train a toy")
    assert capsys.readouterr().err.startswith("train a toy: 40/40 examples in ")
