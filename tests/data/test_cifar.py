import dataclasses

import numpy as np
import pytest

from experiments.data.cifar import CIFAR10, CIFAR100
from experiments.data.image_sets import IMAGE_SETS
from experiments.data.images import load_images

OFFICIAL = {"cifar10": CIFAR10, "cifar100": CIFAR100}
# The official formats with files of a few records.
SMALL = {
    "cifar10": dataclasses.replace(
        CIFAR10, records={"data_batch_1.bin": 3, "data_batch_2.bin": 2, "test_batch.bin": 4}
    ),
    "cifar100": dataclasses.replace(CIFAR100, records={"train.bin": 5, "test.bin": 4}),
}
NUM_CLASSES = {"cifar10": 10, "cifar100": 100}
FOLDERS = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}
RECORD_BYTES = {"cifar10": 3_073, "cifar100": 3_074}


@pytest.fixture
def small(monkeypatch):
    """Both entries of the table, with the files of ``SMALL``."""
    for name, small_format in SMALL.items():
        entry = dataclasses.replace(IMAGE_SETS[name], read=small_format.read, files=small_format.files)
        monkeypatch.setitem(IMAGE_SETS, name, entry)


def examples(count, seed, num_classes):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    # The largest label is there, so that one class less would be refused.
    return images, np.append(generator.integers(0, num_classes, count - 1), num_classes - 1)


def record_bytes(name, image, label):
    """One record, pixel by pixel: channel, then row, then column."""
    # A coarse label that is never right tells the fine one from it.
    labels = [label] if name == "cifar10" else [(label + 1) % 20, label]
    pixels = [image[row, column, channel] for channel in range(3) for row in range(32) for column in range(32)]
    return bytes(labels) + bytes(pixels)


def write_file(path, name, images, labels):
    path.write_bytes(b"".join(record_bytes(name, *pair) for pair in zip(images, labels.tolist(), strict=True)))


def write_small(directory, name):
    """Files of a few records; returns what is in them, one after the other."""
    written = []
    for seed, (file_name, count) in enumerate(SMALL[name].records.items()):
        images, labels = examples(count, seed, NUM_CLASSES[name])
        write_file(directory / file_name, name, images, labels)
        written.append((images, labels))
    return written


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("in_folder", [False, True])
def test_reads_records_in_order(tmp_path, small, name, in_folder):
    directory = tmp_path / FOLDERS[name] if in_folder else tmp_path
    directory.mkdir(exist_ok=True)
    *train, test = write_small(directory, name)
    dataset = load_images(name, tmp_path)
    np.testing.assert_array_equal(dataset.train_images, np.concatenate([images for images, _ in train]))
    np.testing.assert_array_equal(dataset.train_labels, np.concatenate([labels for _, labels in train]))
    np.testing.assert_array_equal(dataset.test_images, test[0])
    np.testing.assert_array_equal(dataset.test_labels, test[1])
    assert (dataset.name, dataset.num_classes, dataset.image_shape) == (name, NUM_CLASSES[name], (32, 32, 3))


def test_the_official_files():
    batches = [f"data_batch_{i}.bin" for i in (1, 2, 3, 4, 5)]
    assert CIFAR10.records == {**dict.fromkeys(batches, 10_000), "test_batch.bin": 10_000}
    assert list(CIFAR10.records) == [*batches, "test_batch.bin"]  # the last one is the test set
    assert CIFAR100.records == {"train.bin": 50_000, "test.bin": 10_000}
    for name, cifar_format in OFFICIAL.items():
        assert IMAGE_SETS[name].files == cifar_format.files
        assert IMAGE_SETS[name].read == cifar_format.read
        assert IMAGE_SETS[name].num_classes == NUM_CLASSES[name]


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_part_of_an_official_file_is_told_from_the_whole(tmp_path, name):
    """The bytes that are missing are not counted from ``SMALL``."""
    for file_name in OFFICIAL[name].records:
        (tmp_path / file_name).write_bytes(bytes(RECORD_BYTES[name]))
    count = {"cifar10": 10_000, "cifar100": 50_000}[name]
    message = rf"must have {count * RECORD_BYTES[name]} bytes \({count} records of {RECORD_BYTES[name]}\)"
    with pytest.raises(ValueError, match=message):
        load_images(name, tmp_path)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("extra", [-1, -3_074, 1, 3_073])
def test_wrong_sizes_are_named(tmp_path, small, name, extra):
    write_small(tmp_path, name)
    file_name, count = list(SMALL[name].records.items())[-1]
    path, size = tmp_path / file_name, RECORD_BYTES[name]
    path.write_bytes((path.read_bytes() + bytes(extra if extra > 0 else 0))[: count * size + extra])
    problem = "truncated" if extra < 0 else "oversized"
    message = (
        rf"must have {count * size} bytes \({count} records of {size}\), got {count * size + extra} \({problem}"
    )
    with pytest.raises(ValueError, match=message) as caught:
        load_images(name, tmp_path)
    assert str(caught.value).startswith(f"{path}: ")


def test_all_missing_files_are_named_at_once(tmp_path):
    write_small(tmp_path, "cifar10")
    with pytest.raises(
        ValueError, match=r"must hold data_batch_3.bin, data_batch_4.bin, data_batch_5.bin \(3 of 6"
    ):
        load_images("cifar10", tmp_path)


def test_a_label_out_of_range_names_the_directory(tmp_path, small):
    write_small(tmp_path, "cifar10")
    images, labels = examples(3, 0, 10)
    write_file(tmp_path / "data_batch_1.bin", "cifar10", images, labels + 2)
    with pytest.raises(ValueError, match=r"train_labels must be in \[0, 9\], got \[\d, 11\]") as caught:
        load_images("cifar10", tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: cifar10: ")
