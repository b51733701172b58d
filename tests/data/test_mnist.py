import gzip
import struct

import numpy as np
import pytest

from experiments.data.images import load_images
from experiments.data.mnist import FILES, read_idx

COUNTS = {"train": 5, "t10k": 3}
STEMS = {"train-images": 3, "train-labels": 1, "t10k-images": 3, "t10k-labels": 1}


def idx_bytes(array):
    """The format written out by hand: magic number, dimensions, data."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape)
    return header + array.tobytes()


def arrays(stem):
    split, kind = stem.split("-")
    generator = np.random.default_rng(len(split))
    if kind == "labels":
        return generator.integers(0, 10, COUNTS[split], dtype=np.uint8)
    return generator.integers(0, 256, (COUNTS[split], 6, 4), dtype=np.uint8)


def write_all(directory, separator="-", compress=False):
    for stem, dimensions in STEMS.items():
        content = idx_bytes(arrays(stem))
        name = f"{stem}{separator}idx{dimensions}-ubyte"
        if compress:
            (directory / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (directory / name).write_bytes(content)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("compress", [False, True])
def test_reads_every_variant_of_the_names(tmp_path, name, separator, compress):
    write_all(tmp_path, separator, compress)
    dataset = load_images(name, tmp_path)
    np.testing.assert_array_equal(dataset.train_images, arrays("train-images")[..., None])
    np.testing.assert_array_equal(dataset.train_labels, arrays("train-labels"))
    np.testing.assert_array_equal(dataset.test_images, arrays("t10k-images")[..., None])
    np.testing.assert_array_equal(dataset.test_labels, arrays("t10k-labels"))
    assert (dataset.name, dataset.num_classes) == (name, 10)


def test_empty_array_is_read(tmp_path):
    (tmp_path / "x").write_bytes(idx_bytes(np.zeros((0, 6, 4), np.uint8)))
    assert read_idx(tmp_path / "x", 3).shape == (0, 6, 4)


def damaged(content):
    """The damaged bytes, and what the message says."""
    return [
        (content[:-1], r"must have 136 bytes .*shape \(5, 6, 4\).*, got 135 \(truncated\)"),
        (content + b"\0", r"must have 136 bytes .*, got 137 \(oversized\)"),
        (content[:10], r"must have a header of 16 bytes, got 10 \(truncated\)"),
        (b"", "magic number must be 2051, uint8 in 3 dimensions, got 0"),
        (b"<html>", "magic number must be 2051, .* got .*b'<htm'"),
        (bytes([0, 0, 13, 3]) + content[4:], "magic number must be 2051, .* got 3331"),  # 13: float32
        (idx_bytes(arrays("train-labels")), "magic number must be 2051, .* got 2049"),
        (gzip.compress(content, mtime=0)[:-20], "must be a whole gzip file"),
        (gzip.compress(content[:-1], mtime=0), r"must have 136 bytes .*, got 135 \(truncated\)"),
        # Dimensions that no memory could hold must fail on the size, not on allocation.
        (content[:4] + b"\xff" * 12, r"got 16 \(truncated\)"),
    ]


@pytest.mark.parametrize(("content", "message"), damaged(idx_bytes(arrays("train-images"))))
def test_damaged_files_are_named(tmp_path, content, message):
    write_all(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_images("mnist", tmp_path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("split", COUNTS)
def test_count_mismatch_names_both_files(tmp_path, split):
    write_all(tmp_path)
    labels_path = tmp_path / f"{split}-labels-idx1-ubyte"
    labels_path.write_bytes(idx_bytes(arrays(f"{split}-labels")[:-1]))
    expected = f"must hold {COUNTS[split]} labels, .* got {COUNTS[split] - 1}"
    with pytest.raises(ValueError, match=expected) as caught:
        load_images("mnist", tmp_path)
    assert str(labels_path) in str(caught.value)
    assert str(tmp_path / f"{split}-images-idx3-ubyte") in str(caught.value)


def test_files_are_the_four_of_mnist():
    assert list(FILES) == [f"{stem}-idx{dimensions}-ubyte[.gz]" for stem, dimensions in STEMS.items()]
