"""Checkpoints: whole or not at all, and named with a way out when they are damaged or cannot be read."""

import errno
import gc
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments.training.checkpoint import Checkpoints, DamagedError
from experiments.training.position import Position
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


def flip(path, byte, bit):
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


@pytest.fixture(scope="module")
def saved_twice(tmp_path_factory):
    """Checkpoints of the steps 1 and 2, with other values each."""
    directory = tmp_path_factory.mktemp("twice") / "newest"
    state = create_state(toy.TASK, 0, jax.devices()[:2])
    with Checkpoints(directory, keep=2) as checkpoints:
        for step in range(3):  # the first is not kept
            checkpoints.save(state.replace(params={"w": state.params["w"] + step}, step=np.int32(step)), POSITION)
    return directory


@pytest.fixture
def two(saved_twice, tmp_path):
    """This test's own copy of them."""
    return shutil.copytree(saved_twice, tmp_path / "newest")


def test_two_are_kept(saved_twice):
    with Checkpoints(saved_twice, read_only=True) as checkpoints:
        assert checkpoints.steps() == [2, 1]


DAMAGED_READER = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@DAMAGED_READER
def test_a_flipped_bit_is_found_wherever_it_is(saved_twice, tmp_path, capsys):
    """Nothing but what was saved is ever given back: that of step 2, or of step 1 with a line that says so."""
    files = [path for path in sorted((saved_twice / "2").rglob("*")) if path.is_file() and path.stat().st_size]
    random = np.random.default_rng(0)
    first = np.asarray(create_state(toy.TASK, 0, jax.devices()[:2]).params["w"])
    found = set()
    for number in range(2 * len(files)):
        copy = shutil.copytree(saved_twice, tmp_path / str(number) / "newest")
        path = copy / files[number % len(files)].relative_to(saved_twice)
        flip(path, random.integers(path.stat().st_size), random.integers(8))
        state, position = restore(copy)
        step = int(state.step)
        np.testing.assert_array_equal(state.params["w"], first + step)
        assert position == POSITION
        printed = capsys.readouterr().err
        if step == 1:
            found.add(path.relative_to(copy / "2").parts[0])
            assert printed.startswith(f"the checkpoint of step 2 in {copy} is damaged: ")
            assert printed.endswith("; the one before it, of step 1, is taken\n")
        else:  # a byte that nothing depends on
            assert (step, printed) == (2, "")
            assert path.relative_to(copy / "2") != Path("position/metadata")  # of which all is sealed
    assert {"position", "state"} <= found
    gc.collect()


def test_arrays_that_can_be_read_but_are_others_are_found(two, capsys):
    """Those of another checkpoint, whole in themselves."""
    shutil.rmtree(two / "2" / "state")
    shutil.copytree(two / "1" / "state", two / "2" / "state")
    state, _ = restore(two)
    assert int(state.step) == 1
    assert "step 2 in " in (printed := capsys.readouterr().err)
    assert " is damaged: params/w is not what was written; " in printed


def test_what_is_saved_again_takes_the_place_of_what_is_damaged(two):
    (two / "2" / "position" / "metadata").write_text("{}")
    with Checkpoints(two, keep=2) as checkpoints:
        state, position = checkpoints.restore(create_state(toy.TASK, 1, jax.devices()[:2]))
        assert int(state.step) == 1
        checkpoints.save(state.replace(step=state.step + 1), position.next_epoch({"validation_loss": 1.0}))
    with Checkpoints(two, read_only=True) as checkpoints:
        assert checkpoints.steps() == [2, 1]
        assert checkpoints.position().epoch == 2


def test_where_both_are_damaged_the_newest_is_named_with_a_way_out(two):
    for step in ("1", "2"):
        (two / step / "position" / "metadata").write_text("{}")
    with pytest.raises(
        DamagedError, match=r"step 2 in .* is damaged: its position is not what was written; remove"
    ):
        restore(two)


def position(directory):
    with Checkpoints(directory, read_only=True) as checkpoints:
        return checkpoints.position()


def unable(error, *, times):
    """What takes the place of a method that reads: it fails so often, and then reads."""
    read, left = ocp.CheckpointManager.restore, [error] * times

    def restore(*given, **named):
        if left:
            raise left.pop()
        return read(*given, **named)

    return restore


OF_ACCESS = [
    TimeoutError(),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
    PermissionError(errno.EACCES, "Permission denied"),
    OSError(errno.ESTALE, "Stale file handle"),
    OSError("Forbidden: https://storage.googleapis.com/bucket"),
    MemoryError(),
    type("HttpError", (Exception,), {"__module__": "gcsfs.retry"})("Service Unavailable, 503"),
    ValueError("UNAVAILABLE: CURL error 6: Could not resolve host"),
    ValueError("DEADLINE_EXCEEDED: Error reading object"),
    ValueError("PERMISSION_DENIED: Error opening zarr driver"),
    ValueError("UNAUTHENTICATED: Error reading object"),
    jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
    ValueError("UNKNOWN: Error reading local file [os_error_code='116']"),  # ESTALE
]
OF_ACCESS_IDS = [str(error).split(":")[0] or type(error).__name__ for error in OF_ACCESS]


@pytest.mark.parametrize("read", [position, restore])
@pytest.mark.parametrize("error", OF_ACCESS, ids=OF_ACCESS_IDS)
def test_what_cannot_be_read_for_a_moment_is_not_damaged(two, monkeypatch, capsys, read, error):
    before = contents(two)
    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "restore", unable(error, times=1))
        with pytest.raises(OSError, match="could not be read") as caught:
            read(two)
    assert not isinstance(caught.value, ValueError)
    assert str(caught.value).startswith(f"the checkpoint of step 2 in {two} could not be read: ")
    assert str(caught.value).endswith("; repeat the same command once that is mended")
    assert contents(two) == before
    if read is restore:
        assert int(read(two)[0].step) == 2
    else:
        assert read(two) == POSITION
    assert capsys.readouterr().err == ""


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("read", [position, restore])
def test_what_a_disk_has_lost_is_damaged_and_the_one_before_it_is_taken(two, monkeypatch, capsys, read):
    (two / "2" / "position" / "metadata").unlink()
    monkeypatch.setattr(
        ocp.CheckpointManager, "restore", unable(OSError(errno.EIO, os.strerror(errno.EIO)), times=1)
    )
    if read is restore:
        assert int(read(two)[0].step) == 1
        line = capsys.readouterr().err
        assert line.startswith(f"the checkpoint of step 2 in {two} is damaged: Input/output error; the one before")
    else:
        assert read(two) == POSITION


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        ValueError("UNKNOWN: Error reading local file [os_error_code='5']"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        ValueError("DATA_LOSS: Error reading manifest"),
        OSError("not a zarr file"),
    ],
    ids=str,
)
def test_what_is_lost_missing_or_malformed_is_damaged(two, monkeypatch, error):
    monkeypatch.setattr(ocp.CheckpointManager, "restore", unable(error, times=2))
    with pytest.raises(DamagedError, match=r"step 2 in .* is damaged: .*; remove"):
        position(two)


def test_the_cause_of_an_error_counts_too(two, monkeypatch):
    error = ValueError("the metadata could not be parsed")
    error.__cause__ = TimeoutError("timed out")
    monkeypatch.setattr(ocp.CheckpointManager, "restore", unable(error, times=1))
    with pytest.raises(OSError, match="could not be read: timed out; repeat"):
        restore(two)


WITHOUT_RIGHTS = """
import grp, os, pathlib, sys, jax
from experiments.training.checkpoint import Checkpoints
from experiments.training.step import create_state
from tests.training import toy
directory, *closed = map(pathlib.Path, sys.argv[1:])
like = create_state(toy.TASK, 0, jax.devices()[:1])
with Checkpoints(directory, read_only=True) as checkpoints:
    checkpoints.restore(like)  # all that is imported for it is by now
    for path in closed:
        mode = path.stat().st_mode
        path.chmod(0)
        os.setresuid(65534, 65534, 0)  # somebody who may not read all
        try:
            checkpoints.restore(like)
        except OSError as error:
            print(error)
        os.setresuid(0, 0, 0)
        path.chmod(mode)
    print(int(checkpoints.restore(like)[0].step))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_what_may_not_be_read_is_not_damaged(saved_twice):
    """Of some of these orbax says that files are missing, or that the model is another."""
    names = ("position", "position/metadata", "state", "state/_METADATA", "state/manifest.ocdbt", "state/d")
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)  # that of pytest cannot be entered by others
        two = shutil.copytree(saved_twice, Path(directory).resolve() / "newest")
        found = subprocess.run(
            [sys.executable, "-c", WITHOUT_RIGHTS, two, *(two / "2" / name for name in names)],
            capture_output=True, text=True, check=True, cwd=ROOT,
        )  # fmt: skip
    *lines, last = found.stdout.splitlines()
    assert last == "2", found.stdout
    assert len(lines) == len(names), found.stdout + found.stderr
    for line in lines:
        assert line.startswith(f"the checkpoint of step 2 in {two} could not be read: "), line
        assert "Permission denied" in line
        assert line.endswith("; repeat the same command once that is mended")
