"""Training that is asked to stop, or to save by the clock: what goes on is as if it had not been."""

import dataclasses
import os
import signal

import jax
import numpy as np
import pytest

from experiments.training import requests
from experiments.training.checkpoint import Checkpoints
from experiments.training.loop import train
from experiments.training.phase import Outputs, Phase
from experiments.training.requests import Requests, stop_if_asked
from experiments.training.signals import Interrupted, listening
from experiments.training.step import REQUESTS
from experiments.training.task import Mean
from tests.training import toy

EPOCHS = 3


def run(directory, data=toy.DATA, **options):
    phase = Phase(toy.TASK, data, EPOCHS, seed=1, label="train a toy", **options)
    outputs = Outputs(directory / "newest", directory / "best")
    return train(phase, outputs, devices=jax.devices()[:2])


def signalling(number, moments):
    """The data of the toy; of the batches that are asked for, those of some moments send a signal."""

    asked = 0

    def counted(batches):
        nonlocal asked
        for batch in batches:
            if asked in moments:
                os.kill(os.getpid(), number)
            asked += 1
            yield batch

    return dataclasses.replace(
        toy.DATA,
        epoch=lambda epoch, start: counted(toy.epoch(epoch, start)),
        validation=lambda: counted(toy.DATA.validation()),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"))


def assert_same(found, wanted):
    for one, other in zip(*(jax.tree.leaves(each.state) for each in (found, wanted)), strict=True):
        np.testing.assert_array_equal(one, other)
    lines = [
        [{k: v for k, v in line.items() if "second" not in k} for line in each.lines] for each in (found, wanted)
    ]
    assert lines[0] == lines[1]


# Among them the first batch of all, the first and the last of an epoch, and a batch of the validation.
@pytest.mark.parametrize("moments", [(0,), (2, 3), (4, 5, 6), (9,), (1, 8, 11)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_anywhere_it_ends_with_the_same_bits(tmp_path, whole, number, moments):
    data, interruptions = signalling(number, moments), []
    while True:
        try:
            found = run(tmp_path, data)
            break
        except Interrupted as error:
            interruptions.append(error)
    assert {error.status for error in interruptions} == {128 + number}
    assert len(interruptions) == len(moments)
    assert_same(found, whole)


def test_the_step_that_is_named_is_saved(tmp_path):
    with pytest.raises(Interrupted, match="SIGTERM: step 2 of train a toy is saved; the same command goes on"):
        run(tmp_path, signalling(signal.SIGTERM, [2]))
    with Checkpoints(tmp_path / "newest", read_only=True) as checkpoints:
        assert checkpoints.position().step_in_epoch == 2


def test_an_interrupted_validation_keeps_the_epoch(tmp_path, whole):
    with pytest.raises(Interrupted, match=f"step {toy.STEPS} of train a toy is saved"):
        run(tmp_path, signalling(signal.SIGTERM, [toy.STEPS]))
    steps = []

    def epoch(number, start):
        steps.append((number, start))
        return toy.epoch(number, start)

    assert_same(run(tmp_path, dataclasses.replace(toy.DATA, epoch=epoch)), whole)
    assert steps == [(0, toy.STEPS), (1, 0), (2, 0)]


def test_a_checkpoint_is_due_by_the_clock(tmp_path, monkeypatch, whole):
    saved = []
    save = Checkpoints.save
    monkeypatch.setattr(
        Checkpoints, "save", lambda self, state, at: (saved.append(int(state.step)), save(self, state, at))
    )
    assert_same(run(tmp_path / "often", checkpoint_minutes=1e-9), whole)
    assert saved == list(range(1, EPOCHS * toy.STEPS + 1))
    saved.clear()
    run(tmp_path / "seldom", checkpoint_minutes=10.0)
    assert saved == [toy.STEPS, 2 * toy.STEPS, 3 * toy.STEPS]


def test_what_one_process_asks_is_read_with_the_metrics_by_all(monkeypatch):
    """Of two processes with two devices each, the second is asked to stop by SIGTERM."""
    monkeypatch.setattr(requests, "is_alone", lambda: False)
    batch = {"images": np.zeros((2, 4, 3), np.float32)}
    first, second = Requests(None), Requests(None)
    calm = first.attach(batch)[REQUESTS]
    with listening():
        os.kill(os.getpid(), signal.SIGTERM)
        stopping = second.attach(batch)[REQUESTS]
    assert not first.asked  # it is not yet known
    total = np.concatenate([calm, stopping]).sum(0)
    for each in (first, second):
        metrics = each.take({"loss": Mean(1.0, 2.0), REQUESTS: Mean(total, 4.0)})
        assert metrics == {"loss": Mean(1.0, 2.0)}
        assert each.asked
        assert each.stopping == signal.SIGTERM
        each.answer()
        assert not each.asked


def test_other_work_stops_where_it_looks(monkeypatch):
    stop_if_asked()
    with listening():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted, match="SIGINT: what was done before it is kept; the same command goes on"):
            stop_if_asked()
        monkeypatch.setattr(requests, "is_alone", lambda: False)
        stop_if_asked(together=False)
