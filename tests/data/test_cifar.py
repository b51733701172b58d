import dataclasses

import numpy as np
import pytest

from experiments.data.cifar import CIFAR10, CIFAR100, read_cifar
from experiments.data.images import load_images

SMALL = {
    "cifar10": dataclasses.replace(
        CIFAR10, records={"data_batch_1.bin": 3, "data_batch_2.bin": 2, "test_batch.bin": 4}
    ),
    "cifar100": dataclasses.replace(CIFAR100, records={"train.bin": 5, "test.bin": 4}),
}
OFFICIAL = {
    "cifar10": {**{f"data_batch_{i}.bin": 10_000 for i in (1, 2, 3, 4, 5)}, "test_batch.bin": 10_000},
    "cifar100": {"train.bin": 50_000, "test.bin": 10_000},
}
FOLDERS = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}
RECORD_BYTES = {"cifar10": 3_073, "cifar100": 3_074}


def examples(count, seed, num_classes=10):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return images, generator.integers(0, num_classes, count)


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
        images, labels = examples(count, seed, {"cifar10": 10, "cifar100": 100}[name])
        write_file(directory / file_name, name, images, labels)
        written.append((images, labels))
    return written


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("in_folder", [False, True])
def test_reads_records_in_order(tmp_path, name, in_folder):
    directory = tmp_path / FOLDERS[name] if in_folder else tmp_path
    directory.mkdir(exist_ok=True)
    *train, test = write_small(directory, name)
    train_images, train_labels, test_images, test_labels = read_cifar(tmp_path, SMALL[name])
    np.testing.assert_array_equal(train_images, np.concatenate([images for images, _ in train]))
    np.testing.assert_array_equal(train_labels, np.concatenate([labels for _, labels in train]))
    np.testing.assert_array_equal(test_images, test[0])
    np.testing.assert_array_equal(test_labels, test[1])
    assert train_images.dtype == np.uint8
    assert train_labels.dtype == np.int32


def write_official_sizes(directory, name, images, labels):
    """Files of the official sizes: the given records first, then zeros, which take no disk space."""
    for file_name, count in OFFICIAL[name].items():
        path = directory / file_name
        write_file(path, name, images, labels)
        with path.open("r+b") as file:
            file.truncate(count * RECORD_BYTES[name])


@pytest.mark.parametrize(("name", "num_classes"), [("cifar10", 10), ("cifar100", 100)])
def test_loads_files_of_the_official_sizes(tmp_path, name, num_classes):
    images, labels = examples(2, seed=7, num_classes=num_classes)
    write_official_sizes(tmp_path, name, images, labels)
    dataset = load_images(name, tmp_path)
    assert (dataset.name, dataset.num_classes) == (name, num_classes)
    assert dataset.image_shape == (32, 32, 3)
    assert (len(dataset.train_images), len(dataset.test_images)) == (50_000, 10_000)
    step = 10_000 if name == "cifar10" else 50_000
    for start in range(0, 50_000, step):
        np.testing.assert_array_equal(dataset.train_images[start : start + 2], images)
        np.testing.assert_array_equal(dataset.train_labels[start : start + 2], labels)
    assert not dataset.test_labels[2:].any()


@pytest.mark.parametrize("name", OFFICIAL)
@pytest.mark.parametrize(("extra", "problem"), [(-1, "truncated"), (-3_074, "truncated"), (3_073, "oversized")])
def test_wrong_sizes_are_named(tmp_path, name, extra, problem):
    first, *others = OFFICIAL[name].items()
    for file_name, _ in others:
        (tmp_path / file_name).touch()
    expected = first[1] * RECORD_BYTES[name]
    path = tmp_path / first[0]
    with path.open("wb") as file:
        file.truncate(expected + extra)
    found = f"{problem}: {expected + extra} bytes"
    message = f"{found}, expected {expected} .{first[1]} records of {RECORD_BYTES[name]}"
    with pytest.raises(ValueError, match=message) as caught:
        load_images(name, tmp_path)
    assert str(path) in str(caught.value)


def test_all_missing_files_are_named_at_once(tmp_path):
    write_small(tmp_path, "cifar10")
    with pytest.raises(ValueError, match=r"missing data_batch_3.bin, data_batch_4.bin, data_batch_5.bin \(3 of 6"):
        load_images("cifar10", tmp_path)


def test_a_label_out_of_range_names_the_directory(tmp_path):
    images, labels = examples(1, seed=0)
    write_official_sizes(tmp_path, "cifar10", images, labels * 0 + 11)
    with pytest.raises(ValueError, match=r"train_labels are in \[0, 11\], expected \[0, 9\]") as caught:
        load_images("cifar10", tmp_path)
    assert str(tmp_path) in str(caught.value)
