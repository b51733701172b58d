"""Paths on a disk and in a bucket."""

import importlib.util
import logging
from pathlib import Path

import pytest

from experiments import places, storage
from experiments.places import place


def test_a_place_keeps_its_address(tmp_path):
    assert str(place("gs://bucket/a") / "b") == "gs://bucket/a/b"
    assert places.is_bucket(place("s3://bucket/a"))
    assert not places.is_bucket(place(tmp_path))
    assert str(place(tmp_path / "a")) == str(tmp_path / "a")
    assert str(places.absolute(place("gs://bucket/a"))) == "gs://bucket/a"
    (tmp_path / "link").symlink_to(tmp_path)
    assert places.absolute(place(tmp_path / "link")) == places.absolute(tmp_path) == place(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "gs:/bucket/a",
            "a place must be a path of a disk, gs://BUCKET/PATH or s3://BUCKET/PATH, got gs:/bucket/a",
        ),
        ("ftp://host/a", "a place must be a path of a disk, .*, got ftp:/host/a"),
        ("gs://bucket", "a place in a bucket must be gs://BUCKET/PATH, got gs://bucket"),
    ],
)
def test_what_is_no_address_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        places.require_usable(place(name))


def test_a_missing_file_system_is_named(monkeypatch):
    places.require_usable(place("gs://bucket/a"))
    places.require_usable(place("a:b/c"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for scheme, package in {"gs": "gcsfs", "s3": "s3fs"}.items():
        with pytest.raises(
            ValueError, match=f"{scheme}://bucket/a needs the package {package}, .* the extra cloud"
        ):
            places.require_usable(place(f"{scheme}://bucket/a"))


def test_data_in_a_bucket_are_refused():
    places.require_local(Path("a/b"))
    with pytest.raises(ValueError, match="data must be in a directory of a disk, got gs://bucket/a; copy it"):
        places.require_local(Path("gs://bucket/a"))


def test_files_of_a_bucket(bucket):
    directory = place(f"{bucket}/files")
    storage.write_json_lines(directory / "a" / "lines.jsonl", [{"a": 1}])
    storage.write_json_lines(directory / "a" / "lines.jsonl", [{"a": 1}, {"a": 2}])
    assert (directory / "a" / "lines.jsonl").read_text() == '{"a": 1}\n{"a": 2}\n'
    storage.write_arrays(directory / "b.npz", {"a": storage.np.arange(3)})
    assert storage.read_arrays(directory / "b.npz")["a"].tolist() == [0, 1, 2]
    storage.write_arrays(directory / "b.npz", {})
    assert storage.read_arrays(directory / "b.npz") == {}
    with pytest.raises(ValueError, match="gs://bucket/files/nothing does not exist"):
        storage.read_json(directory / "nothing")
    assert list(places.named_below(directory, "lines.jsonl")) == [directory / "a" / "lines.jsonl"]
    storage.require_writable(directory)
    storage.require_space(directory, 2**60, "files")
    assert sorted(path.name for path in directory.iterdir()) == ["a", "b.npz"]
    storage.remove(directory / "a")
    storage.remove(directory / "a")
    assert [path.name for path in directory.iterdir()] == ["b.npz"]


def test_what_another_process_wrote_meanwhile_is_seen(bucket):
    import fsspec  # noqa: PLC0415

    directory = place(f"{bucket}/seen")
    storage.write_text(directory / "a", "")
    assert [path.name for path in directory.iterdir()] == ["a"]  # which could be kept
    fsspec.filesystem("gs", skip_instance_cache=True).pipe_file("bucket/seen/b", b"")
    assert (directory / "b").exists()
    assert sorted(path.name for path in directory.iterdir()) == ["a", "b"]


def test_a_bucket_that_does_not_say_its_type_is_no_news(caplog):
    place("gs://bucket/a")
    logging.getLogger("gcsfs").warning("Could not determine bucket type for bucket name a: no credentials")
    assert caplog.records == []
    logging.getLogger("gcsfs").warning("something else")
    assert [record.message for record in caplog.records] == ["something else"]
