"""Sets larger than memory: the same numbers and batches as of the whole set, and no more in memory than a few."""

import dataclasses
import functools
import importlib.util
import os
import threading
import weakref

import numpy as np
import pytest

from experiments.data import streamed
from experiments.data.images import ImageDataset
from experiments.data.kept_summary import from_text, keep, read_kept, to_text
from experiments.data.prepared import write_prepared
from experiments.data.records import AHEAD, ImageRecords, read_batches
from experiments.data.streamed import StreamedImages, describe_few, look_at, open_records
from experiments.data.summary import ImageSummary, summarize

COUNT, SHAPE, CLASSES = 30, (6, 5, 3), 4


@pytest.fixture(scope="module")
def whole():
    rng, splits = np.random.default_rng(0), []
    for count in (COUNT, 5):
        labels = np.arange(count, dtype=np.int32) % CLASSES
        splits += [rng.integers(0, 256, (count, *SHAPE), np.uint8), labels]
    return ImageDataset("tfds:mine", *splits, num_classes=CLASSES)


@pytest.fixture(scope="module")
def directory(whole, tmp_path_factory):
    """The set, prepared as tensorflow-datasets does; only to be read."""
    pytest.importorskip("tensorflow_datasets")
    path = tmp_path_factory.mktemp("sets")
    write_prepared(whole, path, "mine")
    return path


def in_memory(images, labels, **changed):
    """Records of arrays."""
    return dataclasses.replace(
        ImageRecords(
            "made-up", len(labels), lambda row: (images[row], int(labels[row])), images.shape[1:], CLASSES,
            images[:2], labels[:2].astype(np.int32),
        ),
        **changed,
    )  # fmt: skip


def counted(records, rows):
    """The same records; the number of each that is read is added to ``rows``."""

    def read(row):
        rows.append(row)
        return records.read(row)

    return dataclasses.replace(records, read=read)


def joined(pieces):
    return functools.reduce(ImageSummary.followed_by, pieces)


def test_a_prepared_set_is_as_the_whole_one(whole, directory, monkeypatch):
    monkeypatch.setattr(streamed, "_PIECE", 7)  # of which COUNT is no multiple
    records = open_records("tfds:mine", directory)
    summary = joined(look_at(records, np.arange(COUNT)))
    assert summary == summarize(whole.train_images, whole.train_labels)
    found = StreamedImages(records, summary)
    for name in ("name", "num_classes", "image_shape", "train_count"):
        assert getattr(found, name) == getattr(whole, name)
    for name in ("channel_mean", "channel_std", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    assert [found.checksum(split) for split in ("train", "test")] == [
        whole.checksum(split) for split in ("train", "test")
    ]
    rows = np.random.default_rng(1).permutation(COUNT).reshape(5, 6)
    for one, other in zip(found.train_batches(rows), whole.train_batches(rows), strict=True):
        assert {name: array.dtype for name, array in one.items()} == {
            name: array.dtype for name, array in other.items()
        }
        for name, array in one.items():
            np.testing.assert_array_equal(array, other[name])


def test_other_images_can_be_those_for_testing(whole):
    other = dataclasses.replace(whole, name="other", test_images=255 - whole.test_images)
    records = in_memory(whole.train_images, whole.train_labels)
    streamed_images = StreamedImages(records, summarize(whole.train_images, whole.train_labels))
    for dataset in (whole, streamed_images):
        found = dataset.tested_on(other)
        assert (found.name, found.checksum("train")) == ("other", whole.checksum("train"))
        assert found.checksum("test") == other.checksum("test") != whole.checksum("test")
    small = dataclasses.replace(
        other, train_images=other.train_images[:, 1:], test_images=other.test_images[:, 1:]
    )
    with pytest.raises(ValueError, match="must have one shape"):
        streamed_images.tested_on(small)


def test_only_the_rows_of_the_batches_are_read(whole):
    read = []
    records = counted(in_memory(whole.train_images, whole.train_labels), read)
    rows = np.array([[4, 2, 9], [0, 29, 7]])
    labels = [batch["labels"].tolist() for batch in read_batches(records, rows)]
    assert labels == (rows % CLASSES).tolist()
    assert sorted(read) == sorted(rows.ravel())
    assert list(read_batches(records, rows[2:])) == []  # an epoch of which all is done


def test_a_set_is_never_in_memory_as_a_whole():
    alive, most, lock = [0], [0], threading.Lock()

    def died():
        with lock:
            alive[0] -= 1

    def read(row):
        image = np.full((2, 2, 1), row % 256, np.uint8)
        with lock:
            alive[0] += 1
            most[0] = max(most[0], alive[0])
        weakref.finalize(image, died)
        return image, row % CLASSES

    records = in_memory(np.zeros((1, 2, 2, 1), np.uint8), np.zeros(1), count=600, read=read)
    batches = np.arange(600).reshape(75, 8)
    assert sum(len(batch["labels"]) for batch in read_batches(records, batches)) == 600
    # What is ahead, the batch that is being put together, and the image that takes the place of one.
    assert 8 <= most[0] <= AHEAD + 8 + 1
    assert alive[0] == 0


def test_nothing_more_is_read_once_a_reader_stops():
    read = []
    images = np.zeros((500, 2, 2, 1), np.uint8)
    batches = read_batches(counted(in_memory(images, np.zeros(500)), read), np.arange(500).reshape(250, 2))
    next(batches)
    batches.close()
    assert 2 <= len(read) <= AHEAD + 2 + 1


def test_every_image_is_looked_at_by_one_process(whole):
    read = [[], [], []]
    records = [counted(in_memory(whole.train_images, whole.train_labels), each) for each in read]
    parts = [joined(look_at(each, np.arange(10 * rank, 10 * rank + 10))) for rank, each in enumerate(records)]
    assert [sorted(each) for each in read] == [list(range(10)), list(range(10, 20)), list(range(20, 30))]
    told = [from_text(to_text(part)) for part in parts]
    assert joined(told) == summarize(whole.train_images, whole.train_labels)
    assert from_text(to_text(None)) is None


def test_a_summary_is_kept_for_as_long_as_the_files_are_the_same(whole, directory, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    records = open_records("tfds:mine", directory)
    assert read_kept(records) is None
    summary = summarize(whole.train_images, whole.train_labels)
    keep(records, summary)
    assert read_kept(open_records("tfds:mine", directory)) == summary
    (path,) = tmp_path.rglob("*.json")
    for text in ("", "{}", "[1]"):
        path.write_text(text)
        assert read_kept(records) is None
    keep(records, summary)
    (file,) = records.files
    before = file.stat().st_mtime_ns
    os.utime(file, ns=(before, before + 1))
    assert read_kept(records) is None
    os.utime(file, ns=(before, before))
    assert read_kept(records) == summary


def test_nothing_is_kept_of_what_has_no_files(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    records = in_memory(whole.train_images, whole.train_labels)
    keep(records, summarize(whole.train_images, whole.train_labels))
    assert read_kept(records) is None
    assert list(tmp_path.iterdir()) == []


def test_a_few_images_tell_sets_of_processes_apart(whole):
    read = []
    found = describe_few(counted(in_memory(whole.train_images, whole.train_labels), read))
    assert found["images"] == COUNT
    assert (len(read), min(read), max(read)) == (16, 0, COUNT - 1)
    assert describe_few(in_memory(255 - whole.train_images, whole.train_labels)) != found
    assert describe_few(in_memory(whole.train_images, whole.train_labels[::-1].copy())) != found
    assert describe_few(in_memory(whole.train_images[:3], whole.train_labels[:3]))["images"] == 3


def test_a_file_that_is_gone_is_named(directory, tmp_path):
    records = dataclasses.replace(open_records("tfds:mine", directory), files=(tmp_path / "gone",))
    with pytest.raises(ValueError, match="gone: must be a readable file, got: No such file"):
        records.fingerprint()


@pytest.mark.parametrize("name", ["embedded", "mnist", "npz:mine.npz", "folder:mine"])
def test_what_can_only_be_read_whole_is_refused(name):
    message = "--stream needs --data tfds:NAME, .* prepare .*, got "
    with pytest.raises(ValueError, match=message + name):
        open_records(name, "nowhere")


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="--stream needs grain, not installed; it comes with the extra 'data'"):
        open_records("tfds:mine")


def test_an_unknown_set_is_named_as_when_it_is_read_whole(tmp_path):
    with pytest.raises(ValueError, match=r"tfds:no_such_set: .*not found"):
        open_records("tfds:no_such_set", tmp_path)


def test_a_damaged_record_is_named(whole, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    write_prepared(whole, tmp_path, "mine")
    records = open_records("tfds:mine", tmp_path)
    (file,) = records.files
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"^tfds:mine: split 'train' is damaged") as caught:
        list(look_at(open_records("tfds:mine", tmp_path), np.arange(COUNT)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("image", [np.zeros((2, 3, 1), np.uint8), np.zeros((2, 2, 1), np.uint16)])
def test_an_image_unlike_the_others_is_named(image):
    images = [np.zeros((2, 2, 1), np.uint8)] * 5 + [image]
    records = in_memory(np.zeros((6, 2, 2, 1), np.uint8), np.zeros(6), read=lambda row: (images[row], 0))
    message = f"train images must be uint8 of one shape, .2, 2, 1., got {image.dtype} of shape .* in record 5"
    with pytest.raises(ValueError, match=message):
        list(look_at(records, np.arange(6)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"highest_label": 4}, r"train_labels must be in \[0, 3\], got \[0, 4\]"),
        ({"lowest_label": -1}, r"train_labels must be in \[0, 3\], got \[-1, 3\]"),
        ({"lowest": (0, 9, 0), "highest": (1, 9, 1)}, "more than one value .*, got 9 everywhere in channel 1"),
    ],
)
def test_what_no_model_can_be_trained_on_is_refused(whole, change, message):
    records = in_memory(whole.train_images, whole.train_labels)
    summary = dataclasses.replace(summarize(whole.train_images, whole.train_labels), **change)
    with pytest.raises(ValueError, match=message):
        StreamedImages(records, summary)


def test_test_images_are_checked_as_those_of_a_whole_set(whole):
    records = in_memory(whole.train_images, whole.train_labels, test_images=whole.test_images[:, 1:])
    records = dataclasses.replace(records, test_labels=whole.test_labels)
    with pytest.raises(ValueError, match=r"must have one shape .*, got \(6, 5, 3\) and \(5, 5, 3\)"):
        StreamedImages(records, summarize(whole.train_images, whole.train_labels))
