"""The log within epochs: which steps a line is of, and the same bytes however often the run was interrupted."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.storage import read_json_lines, write_json_lines
from experiments.training import step_log
from experiments.training.checkpoint import saved_steps
from experiments.training.devices import split
from experiments.training.loop import train
from experiments.training.phase import Outputs, Phase
from experiments.training.step import compile_step, create_state
from tests.training import toy

EPOCHS = 3


class KilledError(Exception):
    """What ends a run without a warning."""


def killed_at(moments):
    """The data of the toy; some of the batches that are asked for end the run."""
    asked = 0

    def epoch(number, start):
        nonlocal asked
        for batch in toy.epoch(number, start):
            asked += 1
            if asked in moments:
                raise KilledError
            yield batch

    return dataclasses.replace(toy.DATA, epoch=epoch)


def run(directory, data=toy.DATA, log_every=2, **options):
    path = directory / "steps.jsonl"
    outputs = Outputs(
        directory / "newest", directory / "best", log_steps=lambda lines: write_json_lines(path, lines),
        logged_steps=lambda: read_json_lines(path),
    )  # fmt: skip
    phase = Phase(toy.TASK, data, EPOCHS, seed=1, log_every=log_every, **options)
    return train(phase, outputs, devices=jax.devices()[:2])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    return directory, run(directory)


def test_every_step_is_in_one_line(whole):
    directory, trained = whole
    lines = read_json_lines(directory / "steps.jsonl")
    places = [(line["epoch"], line["step"]) for line in lines]
    assert places == [(1, 2), (1, 4), (1, 5), (2, 7), (2, 9), (2, 10), (3, 12), (3, 14), (3, 15)]
    # The mean over an epoch is that of its lines, of two, two and one of its steps.
    for epoch, of_epoch in enumerate(np.split(np.array([line["loss"] for line in lines]), EPOCHS)):
        np.testing.assert_allclose(of_epoch @ [0.4, 0.4, 0.2], trained.lines[epoch]["train_loss"], rtol=1e-12)


def test_the_norm_is_that_of_the_mean_gradient_over_all_devices():
    # Without noise in the loss the gradient of mean((x w - y)^2) is 2 x^T (x w - y) / n.
    task = toy.make_task(loss=toy.plain_loss)
    batch = next(toy.epoch(0, 0))
    for count in (1, 2, 8):
        devices = jax.devices()[:count]
        state = create_state(task, 0, devices)
        w = np.asarray(state.params["w"], np.float64)
        x, y = (np.asarray(batch[name], np.float64) for name in ("images", "targets"))
        _, metrics = compile_step(task, devices=devices)(state, split(batch, devices))
        expected = np.linalg.norm(2 * x.T @ (x @ w - y) / len(x))
        norm = metrics["gradient_norm"]
        np.testing.assert_allclose(norm.total / norm.count, expected, rtol=1e-5)  # float32


@pytest.mark.parametrize("log_every", [2, 3, 100])
@pytest.mark.parametrize("moments", [{4}, {6, 9}, {8, 11, 13}], ids=str)
def test_a_run_that_is_killed_leaves_the_same_bytes(tmp_path, whole, monkeypatch, moments, log_every):
    # Written whenever there is a line, so that the file is ahead of the checkpoint, or at a checkpoint alone.
    monkeypatch.setattr(step_log, "_SECONDS", -1 if 4 in moments else 1e9)
    if log_every == 2:
        expected = (whole[0] / "steps.jsonl").read_bytes()
    else:
        run(tmp_path / "other", log_every=log_every)
        expected = (tmp_path / "other" / "steps.jsonl").read_bytes()
    data, kills = killed_at(moments), 0
    while True:
        try:
            trained = run(tmp_path, data, log_every, checkpoint_every=3)
            break
        except KilledError:
            kills += 1
    assert kills == len(moments)
    assert (tmp_path / "steps.jsonl").read_bytes() == expected
    assert trained.lines[-1]["train_loss"] == whole[1].lines[-1]["train_loss"]


def test_the_file_is_never_behind_the_checkpoint(tmp_path):
    with pytest.raises(KilledError):
        run(tmp_path, killed_at({5}), checkpoint_every=2)
    assert max(saved_steps(tmp_path / "newest")) == 2
    assert [line["step"] for line in read_json_lines(tmp_path / "steps.jsonl")] == [2]


def test_a_damaged_file_is_begun_anew_with_a_line(tmp_path, whole, capsys):
    with pytest.raises(KilledError):
        run(tmp_path, killed_at({7}))  # in the second epoch, with a checkpoint of the first
    path = tmp_path / "steps.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    trained = run(tmp_path)
    assert "steps.jsonl is damaged" in capsys.readouterr().err
    assert [line["step"] for line in read_json_lines(path)] == [7, 9, 10, 12, 14, 15]
    assert trained.lines[-1]["train_loss"] == whole[1].lines[-1]["train_loss"]
