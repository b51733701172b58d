"""Checkpoints: whole or not at all, and named with a way out when they are damaged."""

import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.training.checkpoint import Checkpoints, Position
from experiments.training.step import create_state
from experiments.training.task import Mean
from tests.training import toy

ROOT = Path(__file__).parents[2]
POSITION = Position([{"epoch": 1, "validation_loss": 2.0}], 3, 24, 0.5, {"loss": Mean(6.0, 24.0)})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved") / "newest"
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(create_state(toy.TASK, 0, jax.devices()[:2]), POSITION)
    return directory


def restore(directory):
    with Checkpoints(directory, read_only=True) as checkpoints:
        return checkpoints.restore(create_state(toy.TASK, 1, jax.devices()[:2]))


def test_what_is_restored_is_what_was_saved(saved):
    state, position = restore(saved)
    expected = create_state(toy.TASK, 0, jax.devices()[:2])
    for found, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert position == POSITION
    assert position.epoch == 1


def test_the_position_is_read_without_the_state(saved, monkeypatch):
    monkeypatch.setattr("orbax.checkpoint.StandardCheckpointHandler.restore", None)
    with Checkpoints(saved, read_only=True) as checkpoints:
        assert checkpoints.position() == POSITION


def test_nothing_is_there_before_anything_is_saved(tmp_path):
    with Checkpoints(tmp_path / "newest") as checkpoints:
        assert checkpoints.position() is None
        assert checkpoints.restore(create_state(toy.TASK, 0, jax.devices()[:1])) is None


def test_reading_writes_nothing(saved):
    before = {path: path.stat().st_mtime_ns for path in saved.rglob("*")}
    restore(saved)
    assert {path: path.stat().st_mtime_ns for path in saved.rglob("*")} == before


RESTORE = """
import pathlib, sys, jax
from experiments.training.checkpoint import Checkpoints
from experiments.training.step import create_state
from tests.training import toy
for directory in map(pathlib.Path, sys.argv[1:]):
    with Checkpoints(directory, read_only=True) as checkpoints:
        try:
            checkpoints.restore(create_state(toy.TASK, 0, jax.devices()[:1]))
        except ValueError as error:
            print(error)
"""


def test_damage_is_named_with_a_way_out(saved, tmp_path):
    """In a process of its own: threads of orbax that read the other arrays would outlive the test."""
    damaged = []
    for number, pattern in enumerate(("state/_METADATA", "state/manifest.ocdbt", "position/metadata")):
        for cuts in (True, False):
            damaged.append(shutil.copytree(saved, tmp_path / f"{number}-{cuts}" / "newest"))
            (path,) = damaged[-1].glob(f"*/{pattern}")
            if cuts:
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            else:
                path.unlink()
    found = subprocess.run(
        [sys.executable, "-c", RESTORE, *damaged], capture_output=True, text=True, check=True, cwd=ROOT
    )
    lines = found.stdout.splitlines()
    assert len(lines) == len(damaged), found.stdout
    for line, directory in zip(lines, damaged, strict=True):
        assert line.startswith(f"the checkpoint of step 0 in {directory} is damaged: ")
        assert line.endswith("to train this network anew, or start over with --force")
    assert "Traceback" not in found.stderr


def test_the_best_epoch_is_the_first_with_the_smallest_loss():
    position = Position()
    is_best = []
    for loss in (3.0, 2.0, 2.0, 4.0, 1.0):
        position = position.next_epoch({"validation_loss": loss})
        is_best.append(position.is_best)
    assert is_best == [True, True, False, False, True]
    assert position.validation_losses == [3.0, 2.0, 2.0, 4.0, 1.0]
