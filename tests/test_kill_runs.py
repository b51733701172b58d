"""A command that was killed ends as one that was not, and what compares them finds what differs."""

import shutil

import jax
import pytest

from experiments.training.checkpoint import Checkpoints
from experiments.training.position import Position
from experiments.training.step import create_state
from tests.kill_runs import Place, run_all, write_data
from tests.same_files import differences
from tests.training import toy


def test_a_killed_command_ends_as_one_that_was_not(tmp_path):
    write_data(tmp_path)
    place = Place(tmp_path, tmp_path / "runs", tmp_path / "logs")
    (row,) = run_all(place, kills=1, names=["absum train"], processes=[1])
    assert (row.signals, row.differences) == (["SIGKILL"], [])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("written") / "run"
    with Checkpoints(directory / "checkpoints") as checkpoints:
        checkpoints.save(create_state(toy.TASK, 0, jax.devices()[:1]), Position(seconds=1.5))
    (directory / "evaluations" / "fourier").mkdir(parents=True)
    (directory / "metrics.jsonl").write_text(
        '{"epoch": 1, "loss": 0.5, "seconds": 1.0, "images_per_second": 2.0}\n'
    )
    (directory / "evaluations" / "fourier" / "numbers.json").write_text('{"numbers": [1.0], "seconds": 3.0}')
    (directory / "result.json").write_text("{}\n")
    (directory / "provenance.json").write_text('{"finished": "yesterday"}')
    return directory


def change(path, old, new):
    path.write_text(path.read_text().replace(old, new))


def test_only_times_may_differ(written, tmp_path):
    shutil.copytree(written, tmp_path / "run")
    change(tmp_path / "run" / "metrics.jsonl", "1.0", "7.0")
    change(tmp_path / "run" / "evaluations" / "fourier" / "numbers.json", "3.0", "4.0")
    change(tmp_path / "run" / "provenance.json", "yesterday", "today")
    assert differences(tmp_path / "run", written) == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("metrics.jsonl", '"loss": 0.5', '"loss": 0.25'),
        ("evaluations/fourier/numbers.json", "[1.0]", "[2.0]"),
        ("result.json", "{}\n", "{} \n"),
    ],
)
def test_a_file_that_differs_is_named(written, tmp_path, name, old, new):
    shutil.copytree(written, tmp_path / "run")
    change(tmp_path / "run" / name, old, new)
    assert differences(tmp_path / "run", written) == [f"{name} differs"]


def test_a_file_that_is_missing_or_too_much_is_named(written, tmp_path):
    shutil.copytree(written, tmp_path / "run")
    (tmp_path / "run" / "result.json").rename(tmp_path / "run" / "result.json.tmp")
    assert differences(tmp_path / "run", written) == ["result.json is missing", "result.json.tmp is too much"]


@pytest.mark.parametrize("what", ["state", "position", "step"])
def test_a_checkpoint_that_differs_is_named(written, tmp_path, what):
    shutil.copytree(written, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    state, position = create_state(toy.TASK, int(what == "state"), jax.devices()[:1]), Position(seconds=2.5)
    if what == "position":
        position.step_in_epoch = 1
    if what == "step":
        state = state.replace(step=state.step + 1)
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        checkpoints.save(state, position)
    assert differences(tmp_path / "run", written) == ["checkpoints differs"]
