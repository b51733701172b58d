"""Directories that are kept from all others."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import locks, storage
from experiments.places import place

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


@pytest.fixture
def place_of_bucket(bucket, request):
    return place(f"{bucket}/{request.node.name}")


def test_a_leased_directory_is_refused_and_named(place_of_bucket):
    with locks.locked(place_of_bucket):
        with pytest.raises(
            ValueError,
            match=rf"{place_of_bucket} is in use by process {os.getpid()} on .*, which said so \d s ago",
        ):
            locks.locked(place_of_bucket).__enter__()
        assert [path.name for path in place_of_bucket.iterdir()] == [".lock"]
    assert not place_of_bucket.exists()
    with locks.locked(place_of_bucket):
        pass


def write_lease(path, owner="another", **changes):
    lease = json.loads(locks._lease(owner)) | {
        "process": "process 1 on elsewhere",
        "where": "elsewhere",
        **changes,
    }
    storage.write_text(path / ".lock", json.dumps(lease))


def test_a_lease_of_another_machine_is_taken_over_once_it_is_stale(place_of_bucket, monkeypatch):
    monkeypatch.setattr(locks, "_SETTLED", 0)
    write_lease(place_of_bucket, time=time.time() - locks._STALE + 20)
    with pytest.raises(ValueError, match="is in use by process 1 on elsewhere, which said so 160 s ago; wait"):
        locks.locked(place_of_bucket).__enter__()
    write_lease(place_of_bucket, time=time.time() - locks._STALE)
    with locks.locked(place_of_bucket):
        assert storage.read_json(place_of_bucket / ".lock")["pid"] == os.getpid()


def test_of_two_that_take_a_stale_lease_the_last_has_it(place_of_bucket, monkeypatch):
    write_lease(place_of_bucket, time=0)
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: write_lease(place_of_bucket))  # the other, meanwhile
    with pytest.raises(ValueError, match="is in use by process 1 on elsewhere"):
        locks.locked(place_of_bucket).__enter__()


def wait_until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_lease_is_renewed_and_its_loss_is_told(place_of_bucket, monkeypatch):
    monkeypatch.setattr(locks, "_EVERY", 0.02)
    lost = []
    with locks.locked(place_of_bucket, lost=lost.append):
        first = storage.read_json(place_of_bucket / ".lock")
        wait_until(lambda: storage.read_json(place_of_bucket / ".lock")["time"] > first["time"])
        assert lost == []
        wait_until(lambda: write_lease(place_of_bucket) or lost)  # until no renewal comes between
    assert lost == [
        f"{place_of_bucket} was taken over by another process, as this one was not heard of; wait for it"
    ]
    assert storage.read_json(place_of_bucket / ".lock")["owner"] == "another"  # which keeps it


def test_a_bucket_that_cannot_be_reached_for_long_is_told(place_of_bucket, monkeypatch):
    monkeypatch.setattr(locks, "_EVERY", 0.02)
    monkeypatch.setattr(locks, "_STALE", 0.1)
    lost = []
    with locks.locked(place_of_bucket, lost=lost.append):
        monkeypatch.setattr(locks, "_read", lambda path: 1 / 0)
        wait_until(lambda: lost)
    assert lost == [f"{place_of_bucket} could not be reached for 0 s, and may be another's; start again"]


KILLED = """
import os, signal, sys
from experiments.locks import locked
from experiments.places import place
with locked(place(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("on", ["disk", "bucket"])
def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path, bucket, on, monkeypatch):
    directory = place(tmp_path if on == "disk" else f"{bucket}/killed")
    monkeypatch.setattr(locks, "_SETTLED", 0)
    subprocess.run([sys.executable, "-c", KILLED, str(directory)], check=False, cwd=ROOT)
    assert (directory / ".lock").exists()
    with locks.locked(directory):
        pass
