"""Directories that are kept from all others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import locks

ROOT = Path(__file__).parents[1]


def test_a_locked_directory_is_refused_and_named(tmp_path):
    directory = tmp_path / "new" / "run"
    with locks.locked(directory):
        with pytest.raises(
            ValueError, match=rf"run is in use by process {os.getpid()} on .*; wait for it, or choose"
        ):
            locks.locked(directory).__enter__()
        assert [path.name for path in directory.iterdir()] == [".lock"]
    assert list(directory.iterdir()) == []
    with locks.locked(directory):
        pass


KILLED = """
import os, pathlib, signal, sys
from experiments.locks import locked
with locked(pathlib.Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False, cwd=ROOT)
    assert (tmp_path / ".lock").exists()
    with locks.locked(tmp_path):
        pass
