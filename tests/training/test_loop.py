"""The loop: it learns, it says what it did, and an interrupted run goes on as if it had not been."""

import dataclasses
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments.training.checkpoint import Checkpoints, saved_steps
from experiments.training.kept import epochs_done, is_finished, load
from experiments.training.loop import train
from experiments.training.phase import Outputs, Phase
from experiments.training.task import Mean
from tests.training import toy

ROOT = Path(__file__).parents[2]


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
    with pytest.raises(
        ValueError, match="has 3 epochs of training, more than the 2 asked for; ask for at least 3, choose"
    ):
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

    with pytest.raises(FloatingPointError) as error:
        run(tmp_path, 1, task=toy.make_task(loss=diverging))
    assert str(error.value) == (
        "training: after step 1 the training loss is nan; no checkpoint was saved before; lower the learning rate"
        " and start over with --force"
    )


def test_a_parameter_that_is_not_finite_stops_the_run_though_the_loss_is(tmp_path):
    def spoil(params, model_state, learning_rate, step):
        return {"w": params["w"] * jnp.where(step == 4, jnp.nan, 1)}

    with pytest.raises(
        FloatingPointError, match="after step 5 a parameter is not finite; no checkpoint was saved"
    ):
        run(tmp_path, 1, task=toy.make_task(after_update=spoil))


@pytest.mark.devices(8)
def test_a_batch_that_not_all_devices_can_share_is_trained_by_fewer(tmp_path, capsys):
    def cut(batches):
        return ({name: values[:6] for name, values in batch.items()} for batch in batches)

    data = dataclasses.replace(
        toy.DATA, epoch=lambda number, start: cut(toy.epoch(number, start)),
        validation=lambda: cut(toy.DATA.validation()), units_per_epoch=6 * toy.STEPS,
        count=lambda batch: 6, rows=6,
    )  # fmt: skip
    phase = Phase(toy.TASK, data, 2, seed=0, label="line")
    found = train(phase, outputs(tmp_path / "some"))
    assert "line: 6 of 8 devices, which share the 6 rows of a batch equally" in capsys.readouterr().err
    alone = train(phase, outputs(tmp_path / "one"), devices=jax.devices()[:1])
    # Sums over the batch are taken in another order.
    np.testing.assert_allclose(found.state.params["w"], alone.state.params["w"], rtol=1e-5)
    assert load(phase, outputs(tmp_path / "some")).lines == found.lines


def test_progress_names_what_is_trained(tmp_path, capsys):
    run(tmp_path, 1, label="train a toy")
    assert capsys.readouterr().err.startswith("train a toy: 40/40 examples in ")


def test_the_last_good_checkpoint_is_named_and_left(tmp_path):
    def diverging(params, model_state, batch, keys, axis_name):
        value, (model_state, metrics) = toy.loss(params, model_state, batch, keys, axis_name)
        return value, (model_state, {"loss": metrics["loss"]._replace(total=jnp.inf)})

    run(tmp_path, 1)
    with pytest.raises(
        FloatingPointError, match=r"after step 6 the .* is inf; the last good checkpoint is of step 5;"
    ):
        run(tmp_path, 2, task=toy.make_task(loss=diverging))
    assert epochs_done(outputs(tmp_path)).epoch == 1


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before_it(tmp_path, whole, capsys):
    newest = shutil.copytree(whole[0], tmp_path / "run") / "newest"
    assert saved_steps(newest) == [10, 15]
    (newest / "15" / "position" / "metadata").write_text("{}")
    with pytest.raises(ValueError, match="has finished 2 of 3 epochs; repeat the command that trained it first"):
        load(Phase(toy.TASK, toy.DATA, 3, seed=1), outputs(newest.parent))
    capsys.readouterr()
    again = run(newest.parent, 3)
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith(f"the checkpoint of step 15 in {newest} is damaged: ")
    assert first.endswith("; the one before it, of step 10, is taken")
    np.testing.assert_array_equal(again.state.params["w"], whole[1].state.params["w"])
    assert [line["train_loss"] for line in again.lines] == [line["train_loss"] for line in whole[1].lines]
    assert saved_steps(newest) == [10, 15]


def test_the_newest_checkpoint_that_cannot_be_read_for_a_moment_stays_and_is_gone_on_from(
    tmp_path, whole, monkeypatch, capsys
):
    newest = shutil.copytree(whole[0], tmp_path / "run") / "newest"
    files = {path: path.stat().st_mtime_ns for path in newest.rglob("*")}
    trained = []
    data = dataclasses.replace(toy.DATA, epoch=lambda *place: trained.append(place) or toy.epoch(*place))
    phase = Phase(toy.TASK, data, 3, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "restore", raising(ConnectionResetError(104, "reset by peer")))
        with pytest.raises(OSError, match=r"step 15 in .* could not be read: .*reset by peer; repeat the same"):
            train(phase, outputs(newest.parent), devices=jax.devices()[:2])
    assert {path: path.stat().st_mtime_ns for path in newest.rglob("*")} == files
    capsys.readouterr()
    again = train(phase, outputs(newest.parent), devices=jax.devices()[:2])
    assert capsys.readouterr().err == ""
    assert trained == []
    np.testing.assert_array_equal(again.state.params["w"], whole[1].state.params["w"])


def raising(error):
    def fail(*given, **named):
        raise error

    return fail


def test_the_best_epoch_is_on_disk_before_the_newest_is_saved(tmp_path, monkeypatch):
    """Else a run that is killed between the two would go on, and end, with an older best."""
    found = []
    save, finalize = Checkpoints.save, ocp.CheckpointManager._finalize_checkpoint

    def watched(self, state, position):
        if self.directory.name == "newest":
            assert position.best_epoch == position.epoch  # the toy gains in each
            found.append((int(state.step), saved_steps(tmp_path / "best")))
        save(self, state, position)

    def slow(self, step):
        if self.directory.name == "best":
            time.sleep(0.5)
        return finalize(self, step)

    monkeypatch.setattr(Checkpoints, "save", watched)
    monkeypatch.setattr(ocp.CheckpointManager, "_finalize_checkpoint", slow)
    run(tmp_path, 3, keep_best=True)
    assert found == [(5, [5]), (10, [10]), (15, [15])]


def test_a_best_checkpoint_of_another_epoch_than_the_log_calls_the_best_is_refused(tmp_path):
    run(tmp_path, 1, keep_best=True)
    shutil.copytree(tmp_path / "best", tmp_path / "older")
    run(tmp_path, 3, keep_best=True)
    shutil.rmtree(tmp_path / "best")
    (tmp_path / "older").rename(tmp_path / "best")
    phase = Phase(toy.TASK, toy.DATA, 3, seed=1, keep_best=True)
    message = rf"{tmp_path / 'best'} has the checkpoint of epoch 1, but the best of the 3 epochs is 3; remove"
    with pytest.raises(ValueError, match=message):
        load(phase, outputs(tmp_path))
    with pytest.raises(ValueError, match=message):
        run(tmp_path, 3, keep_best=True)
    assert saved_steps(tmp_path / "newest") == [10, 15]


def test_a_disk_without_room_for_the_checkpoints_is_found_before_training(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    trained = []
    data = dataclasses.replace(toy.DATA, epoch=lambda epoch, start: trained.append(epoch) or [])
    with pytest.raises(OSError, match=r"the checkpoints take \d+ bytes, and its disk has 100 bytes left; make"):
        train(Phase(toy.TASK, data, 1, seed=1), outputs(tmp_path), devices=jax.devices()[:2])
    assert trained == []


FULL = """
import pathlib, resource, sys
from tests.training import test_loop
outputs = test_loop.outputs

def fill(lines):
    if len(lines) == 2:  # from now on no file can be larger, as on a disk that is full
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))

test_loop.outputs = lambda directory: outputs(directory, fill)
try:
    test_loop.run(pathlib.Path(sys.argv[1]), 3)
except OSError as error:
    print(error)
"""


def test_a_disk_that_is_full_later_is_one_line_and_leaves_the_checkpoint_before(tmp_path, whole):
    found = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=True, cwd=ROOT
    )
    (line,) = found.stdout.splitlines()
    assert line.startswith(
        f"a checkpoint could not be written to {tmp_path / 'newest'}: File too large; once that"
    )
    assert "Traceback" not in found.stderr
    assert saved_steps(tmp_path / "newest") in ([5], [5, 10])  # the second is on its way when the disk is full
    again = run(tmp_path, 3)
    np.testing.assert_array_equal(again.state.params["w"], whole[1].state.params["w"])
    assert {path.name for path in (tmp_path / "newest").iterdir()} == {"10", "15"}


KILLED = """
import pathlib, sys
from tests.training.test_loop import run
run(pathlib.Path(sys.argv[1]), 3, checkpoint_every=1)
"""


# At random moments of whole commands: tests/test_kill_runs.py.
def test_what_was_killed_goes_on_as_if_it_had_not_been(tmp_path, whole):
    process = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not (tmp_path / "newest").exists() or not saved_steps(tmp_path / "newest"):
        assert time.monotonic() < end, "no checkpoint was saved"
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert saved_steps(tmp_path / "newest")[0] < 15
    again = run(tmp_path, 3)
    for found, wanted in zip(jax.tree.leaves(again.state), jax.tree.leaves(whole[1].state), strict=True):
        np.testing.assert_array_equal(found, wanted)
