import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest

from experiments.data.source_files import (
    check_counts,
    check_size,
    checksum,
    choose_directory,
    find_files,
    read_bytes,
)

WANTED = {"images[.gz]": ("images", "images.gz"), "labels": ("labels", "folder/labels")}


def make_files(directory, *names):
    for name in names:
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)


@pytest.mark.parametrize(
    ("present", "found"),
    [
        (["images", "labels"], ["images", "labels"]),
        (["images.gz", "folder/labels", "other"], ["images.gz", "folder/labels"]),
        (["images.gz", "images", "folder/labels", "labels"], ["images", "labels"]),  # the best name first
    ],
)
def test_files_are_found_under_every_name_and_in_the_wanted_order(tmp_path, present, found):
    make_files(tmp_path, *present)
    assert find_files(tmp_path, WANTED) == [tmp_path / name for name in found]
    assert find_files(tmp_path, dict(reversed(WANTED.items()))) == [tmp_path / name for name in reversed(found)]


def test_all_missing_files_are_named_at_once_with_what_is_there(tmp_path):
    make_files(tmp_path, "label", "Images")
    with pytest.raises(ValueError, match=r"\.gz") as caught:
        find_files(tmp_path, WANTED)
    message = "must hold images[.gz], labels (2 of 2 files are missing), got Images, label"
    assert str(caught.value) == f"{tmp_path}: {message}"
    make_files(tmp_path, "labels")
    with pytest.raises(ValueError, match=r"must hold images\[\.gz\] \(1 of 2 files are missing\)"):
        find_files(tmp_path, WANTED)


def test_empty_directory_file_and_no_directory(tmp_path):
    with pytest.raises(ValueError, match=r"2 of 2 files are missing\), got an empty directory$"):
        find_files(tmp_path, WANTED)
    make_files(tmp_path, "file")
    for name, found in (("file", "a file"), ("nowhere", "nothing there")):
        message = rf"{name}: must be a directory with images\[\.gz\], labels, got {found}$"
        with pytest.raises(ValueError, match=message) as caught:
            find_files(tmp_path / name, WANTED)
        assert str(caught.value).startswith(str(tmp_path))


def test_listing_of_a_full_directory_is_cut(tmp_path):
    make_files(tmp_path, *(f"{i:02}.txt" for i in range(11)))
    with pytest.raises(ValueError, match=r"got 00.txt, .*, 07.txt and 3 more$"):
        find_files(tmp_path, WANTED)


def test_a_folder_under_the_name_of_a_file_is_missing(tmp_path):
    make_files(tmp_path, "labels")
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match=r"must hold images\[\.gz\]"):
        find_files(tmp_path, WANTED)


def test_the_directory_is_the_included_or_the_given_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert choose_directory("mine", "~/data", WANTED, included=None) == tmp_path / "data"
    assert choose_directory("mine", tmp_path, WANTED, included=None) == tmp_path
    assert choose_directory("mine", None, WANTED, included=tmp_path / "own") == tmp_path / "own"


def test_a_directory_that_is_wanted_or_would_be_ignored_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"\(--data-dir\) must be .* images\[\.gz\], labels for mine, got none"):
        choose_directory("mine", None, WANTED, included=None)
    with pytest.raises(ValueError, match=r"data_dir must not be given for mine, .*, got elsewhere"):
        choose_directory("mine", "elsewhere", WANTED, included=tmp_path)


CONTENT = bytes(range(256)) * 4
GZIP = gzip.compress(CONTENT, mtime=0)


@pytest.mark.parametrize("content", [CONTENT, GZIP, lzma.compress(CONTENT)], ids=["plain", "gzip", "xz"])
@pytest.mark.parametrize("name", ["data", "data.gz", "data.xz"])
def test_compression_is_told_by_content_not_by_name(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    assert read_bytes(tmp_path / name) == CONTENT


def test_an_empty_file_is_read(tmp_path):
    (tmp_path / "empty").touch()
    assert read_bytes(tmp_path / "empty") == b""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GZIP[:-20], "must be a whole gzip file, got .* bytes, truncated or damaged"),
        (GZIP[:5], "must be a whole gzip file, got 5 bytes, truncated or damaged"),
        # In the compressed stream, past the 10-byte header.
        (GZIP[:20] + bytes(byte ^ 0xFF for byte in GZIP[20:40]) + GZIP[40:], "must be a whole gzip file"),
        # 7: the last block, of a type that does not exist.
        (GZIP[:10] + b"\7" + GZIP[11:], "must be a whole gzip file, .*invalid block type"),
        (lzma.compress(CONTENT)[:-9], "must be a whole xz file, got .* bytes, truncated or damaged"),
    ],
)
def test_damaged_compressed_files_are_named(tmp_path, content, message):
    path = tmp_path / "data"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_bytes(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_unreadable_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="gone: must be a readable file, got: No such file"):
        read_bytes(tmp_path / "gone")


def test_sizes_below_at_and_above():
    check_size(Path("a.bin"), 12, 12, "4 records of 3")
    for found, problem in ((11, "truncated"), (0, "truncated"), (13, "oversized")):
        message = rf"^a\.bin: must have 12 bytes \(4 records of 3\), got {found} \({problem}\)$"
        with pytest.raises(ValueError, match=message):
            check_size(Path("a.bin"), found, 12, "4 records of 3")


def test_one_label_for_each_image():
    images = np.zeros((3, 2, 2))
    check_counts(Path("x"), images, Path("y"), np.zeros(3))
    for count in (2, 4):
        with pytest.raises(ValueError, match=f"^y: must hold 3 labels, as many as x images, got {count}$"):
            check_counts(Path("x"), images, Path("y"), np.zeros(count))


def test_checksum_tells_bytes_and_their_order():
    images, labels = np.arange(12, dtype=np.uint8).reshape(3, 2, 2), np.arange(3, dtype=np.int32)
    others = [(images[::-1], labels), (images, labels[::-1]), (images[:2], labels), (labels, images), (images,)]
    assert len({checksum(*parts) for parts in [(images, labels), *others]}) == 6
    assert checksum(images.copy(), labels) == checksum(images, labels)
    # Of the elements in order, whatever the memory layout; the value is the check value of CRC-32.
    assert checksum(np.asfortranarray(images), labels) == checksum(images, labels)
    assert checksum(b"123456789") == checksum(b"1234", b"56789") == "cbf43926"
