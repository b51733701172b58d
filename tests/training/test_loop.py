"""The loop: it learns, it writes what it says, and an interrupted run goes on as if it had not been."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.training.loop import train
from experiments.training.metrics import MetricsFile, compute, read_metrics, write_atomically
from experiments.training.plan import Plan, TrainingData
from experiments.training.progress import ProgressReport
from experiments.training.task import Mean, Task, merge

SCHEDULE = optax.constant_schedule(0.05)
STEPS, BATCH = 5, 8


def rows(seed, count):
    images = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    return {"images": images, "targets": images @ np.array([1.0, -2.0, 0.5], np.float32)}


def epoch(number, start):
    data = rows(number, STEPS * BATCH)
    return ({k: v[i : i + BATCH] for k, v in data.items()} for i in range(start * BATCH, STEPS * BATCH, BATCH))


DATA = TrainingData(
    epoch=epoch,
    validation=lambda: [rows(99, BATCH) | {"weight": np.ones(BATCH, np.float32)}],
    units_per_epoch=STEPS * BATCH,
    count=lambda batch: BATCH,
)


def squared_errors(params, batch):
    return jnp.square(batch["images"] @ params["w"] - batch["targets"])


def loss(params, model_state, batch, keys, axis_name):
    noise = jax.vmap(jax.random.normal)(keys.per_example)
    errors = squared_errors(params, batch) * (1 + 0.1 * noise)
    return errors.mean(), (model_state, {"loss": Mean(errors.sum(), len(errors))})


def evaluate(params, model_state, batch, axis_name):
    errors = squared_errors(params, batch) * batch["weight"]
    return model_state, {"loss": Mean(errors.sum(), batch["weight"].sum())}


def make_task(width=3, **changes):
    return Task(
        **{
            "init": lambda key: ({"w": jax.random.normal(key, (width,))}, {}),
            "loss": loss,
            "evaluate": evaluate,
        }
        | changes
    )


def run(directory, num_epochs, task=None, data=DATA, **options):
    plan = Plan(num_epochs, seed=1, directory=directory, **options)
    optimizer = optax.sgd(SCHEDULE, momentum=0.5)
    return train(task or make_task(), optimizer, SCHEDULE, data, plan, devices=jax.devices()[:2])


def test_it_learns_and_logs_every_epoch(tmp_path):
    state = run(tmp_path, 4)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["step"] == int(state.step) == 4 * STEPS
    assert lines[-1]["validation_loss"] < 0.1 * lines[0]["validation_loss"]


def test_resumed_is_uninterrupted(tmp_path):
    expected = run(tmp_path / "whole", 3)
    run(tmp_path / "parts", 1)
    resumed = run(tmp_path / "parts", 3)
    for found, wanted in zip(jax.tree.leaves(resumed.params), jax.tree.leaves(expected.params), strict=True):
        np.testing.assert_array_equal(found, wanted)

    def losses(name):
        return [line["train_loss"] for line in read_metrics(tmp_path / name / "metrics.jsonl")]

    assert losses("parts") == losses("whole")


def test_a_finished_run_does_nothing_again(tmp_path):
    first = run(tmp_path, 2)
    before = (tmp_path / "metrics.jsonl").read_text()
    again = run(tmp_path, 2)
    np.testing.assert_array_equal(first.params["w"], again.params["w"])
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_lines_after_the_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 5}\n{"step": 10}\n{"step": 1')  # the last line was cut off
    MetricsFile(path, resume_step=5)
    assert path.read_text() == '{"step": 5}\n'


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path, 1)
    with pytest.raises(ValueError, match=r"another model: .*params/w has shape \(3,\), expected \(4,\)"):
        run(tmp_path, 1, task=make_task(width=4))
    other = make_task(init=lambda key: ({"v": jnp.zeros(3)}, {}))
    with pytest.raises(ValueError, match=r"another model: .*v has shape none"):
        run(tmp_path, 1, task=other)


def test_a_damaged_checkpoint_is_named(tmp_path, monkeypatch):
    run(tmp_path, 1)

    # In place of a damaged file: orbax's readers of the other arrays would outlive the test.
    def restore(*args, **kwargs):
        raise ValueError("OUT_OF_RANGE: truncated\na long dump")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.restore", restore)
    with pytest.raises(ValueError, match=r"checkpoint of step 5 in .* is damaged: OUT_OF_RANGE: truncated$"):
        run(tmp_path, 2)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    def diverging(params, model_state, batch, keys, axis_name):
        value, _aux = loss(params, model_state, batch, keys, axis_name)
        return value * jnp.nan, (model_state, {"loss": Mean(jnp.nan, BATCH)})

    with pytest.raises(FloatingPointError, match="training loss of epoch 1 is nan; lower the learning rate"):
        run(tmp_path, 1, task=make_task(loss=diverging))


def test_metrics_are_divided_once():
    first, second = {"loss": Mean(6.0, 3)}, {"loss": Mean(1.0, 1)}
    assert compute(merge(first, second)) == {"loss": 7 / 4}
    with pytest.raises(ValueError, match="no examples were counted for loss"):
        compute({"loss": Mean(0.0, 0)})


def test_files_are_replaced_whole(tmp_path):
    path = tmp_path / "sub" / "file.json"
    write_atomically(path, json.dumps([1]))
    write_atomically(path, json.dumps([2]))
    assert json.loads(path.read_text()) == [2]
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_progress_is_plain_lines_where_there_is_no_terminal(capsys):
    with ProgressReport("work", 10, "pieces", done=4, every=0.0) as progress:
        progress.advance(3)
        progress.advance(3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("work: 7/10 pieces, ")
    assert lines[0].endswith(" s left")
    assert lines[-1].startswith("work: 10/10 pieces in ")
