"""Files that are whole or not there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorstore

from experiments import storage
from experiments.places import place


def test_files_are_replaced_whole(tmp_path):
    path = tmp_path / "sub" / "file.json"
    storage.write_json(path, [1])
    storage.write_json(path, [2])
    assert json.loads(path.read_text()) == [2]
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_what_fails_half_way_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    storage.write_text(path, "old")

    def fail(file):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        storage.write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_two_writers_of_one_file_do_not_meet(tmp_path, monkeypatch):
    """The first is slow, so that the second begins and ends meanwhile; each leaves all of its own."""
    path = tmp_path / "file.txt"
    is_written, may_end, sync = threading.Event(), threading.Event(), os.fsync

    def slow(file):
        if threading.current_thread() is first and not is_written.is_set():
            is_written.set()
            assert may_end.wait(60)
        sync(file)

    monkeypatch.setattr(os, "fsync", slow)
    failed = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    first = threading.Thread(target=storage.write_text, args=(path, "first" * 1000))
    first.start()
    assert is_written.wait(60)
    assert len(list(tmp_path.glob("file.txt.*.tmp"))) == 1
    storage.write_text(path, "second")
    assert path.read_text() == "second"
    may_end.set()
    first.join()
    assert failed == []
    assert path.read_text() == "first" * 1000
    assert os.listdir(tmp_path) == ["file.txt"]


KILLED = """
import os, pathlib, signal, sys
from experiments import storage
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
storage.write_text(pathlib.Path(sys.argv[1]), "killed")
"""


def test_what_a_writer_that_was_killed_left_is_removed_by_the_next(tmp_path):
    path = tmp_path / "file.txt"
    storage.write_text(path, "old")
    others = ["file.txt.tmp", "other.txt.0123456789abcdef.tmp"]  # not of this file
    for name in others:
        (tmp_path / name).write_text("")
    killed = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(os.listdir(tmp_path)) == 4
    storage.write_text(path, "new")
    assert path.read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["file.txt", *others]


def test_numbers_that_are_not_finite_become_null(tmp_path):
    value = {"a": [float("nan"), (1.0, float("inf"))], "b": {"c": -float("inf")}}
    storage.write_json(tmp_path / "file.json", value)
    assert storage.read_json(tmp_path / "file.json") == {"a": [None, [1.0, None]], "b": {"c": None}}
    assert storage.plain(value) == {"a": [None, [1.0, None]], "b": {"c": None}}
    storage.write_json_lines(tmp_path / "lines.jsonl", [{"a": float("nan")}])
    assert (tmp_path / "lines.jsonl").read_text() == '{"a": null}\n'


def test_a_list_of_numbers_is_one_line(tmp_path):
    value = {"a": [1, 2.5, None], "b": {}, "c": [[1, 2], ["x"]], "d": [], "e": [{"f": "\u00e9"}]}
    storage.write_json(tmp_path / "file.json", value)
    written = (tmp_path / "file.json").read_text()
    assert written.splitlines() == [
        "{", '  "a": [1, 2.5, null],', '  "b": {},', '  "c": [', "    [1, 2],", '    ["x"]', "  ],", '  "d": [],',
        '  "e": [', "    {", '      "f": "\\u00e9"', "    }", "  ]", "}",
    ]  # fmt: skip
    assert json.loads(written) == value


def test_lines_that_are_there_already_are_left_alone(tmp_path):
    path = tmp_path / "lines.jsonl"
    storage.write_json_lines(path, [{"a": 1}])
    written = path.stat().st_mtime_ns
    storage.write_json_lines(path, [{"a": 1}])
    assert path.stat().st_mtime_ns == written
    path.write_bytes(b"\xff\xfe")
    storage.write_json_lines(path, [{"a": 1}])
    assert path.read_text() == '{"a": 1}\n'


def test_arrays_come_back(tmp_path):
    arrays = {"a/b": np.arange(3, dtype=np.int32), "text": np.asarray("key")}
    storage.write_arrays(tmp_path / "file.npz", arrays)
    found = storage.read_arrays(tmp_path / "file.npz")
    np.testing.assert_array_equal(found["a/b"], arrays["a/b"])
    assert found["a/b"].dtype == np.int32
    assert str(found["text"]) == "key"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"PK\x03\x04"])
def test_damage_is_named(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="file is damaged"):
        storage.read_json(path)
    with pytest.raises(ValueError, match="file is damaged"):
        storage.read_arrays(path)
    for read in (storage.read_json, storage.read_arrays):
        with pytest.raises(ValueError, match="nothing does not exist"):
            read(tmp_path / "nothing")


def test_a_directory_is_tried_before_it_is_used(tmp_path):
    storage.require_writable(tmp_path / "new" / "directory")
    assert os.listdir(tmp_path / "new" / "directory") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        storage.require_writable(tmp_path / "file" / "directory")


def test_what_is_written_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: done.append("sync") or sync(file))
    monkeypatch.setattr(os, "replace", lambda *paths: done.append("replace") or replace(*paths))
    storage.write_text(tmp_path / "file.txt", "text")
    assert done == ["sync", "replace", "sync"]


def test_a_disk_without_room_is_named_with_what_is_needed(tmp_path, monkeypatch):
    (tmp_path / "there").write_bytes(b"x" * 600)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=400))
    storage.require_space(tmp_path, 1000, "the checkpoints", part_of=[tmp_path])
    with pytest.raises(
        OSError, match=r"the checkpoints take 1\.0 KB, and its disk has 400 bytes left; make room, or"
    ):
        storage.require_space(tmp_path, 1001, "the checkpoints", part_of=[tmp_path])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2_340_000))
    with pytest.raises(OSError, match=r"files take 56\.7 GB, and its disk has 2\.3 MB left"):
        storage.require_space(tmp_path, 56_700_000_000, "files")


@pytest.mark.parametrize("on", ["disk", "bucket"])
def test_a_file_is_read_whole_while_another_writes_it(tmp_path, bucket, on):
    path = place(tmp_path if on == "disk" else f"{bucket}/read") / "file.json"
    values = [{"words": "word " * count} for count in (1, 200)]
    storage.write_json(path, values[0])
    done = threading.Event()

    def write():
        while not done.is_set():
            for value in values:
                storage.write_json(path, value)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(storage.read_json(path) in values for _ in range(200))
    finally:
        done.set()
        writer.join()


def test_the_service_of_the_tests_lets_tensorstore_write_twice_to_one_database(bucket):
    """As orbax does to a checkpoint, at times: the second write replaces an object of the first."""
    for name in ("first", "second"):
        kvstore = {"driver": "ocdbt", "base": f"{bucket}/database/", "path": f"{name}/"}
        array = tensorstore.open(
            {"driver": "zarr", "kvstore": kvstore}, create=True, dtype=np.float32, shape=[3],
            context=tensorstore.Context(),
        ).result()  # fmt: skip
        array.write(np.arange(3, dtype=np.float32)).result()
    np.testing.assert_array_equal(array.read().result(), np.arange(3))
