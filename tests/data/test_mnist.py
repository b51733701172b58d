import gzip
import struct

import numpy as np
import pytest

from experiments.data.mnist import FILES, read_idx, read_mnist

COUNTS = {"train": 5, "t10k": 3}


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


STEMS = {"train-images": 3, "train-labels": 1, "t10k-images": 3, "t10k-labels": 1}


def write_all(directory, separator="-", compress=False):
    for stem, dimensions in STEMS.items():
        content = idx_bytes(arrays(stem))
        name = f"{stem}{separator}idx{dimensions}-ubyte"
        if compress:
            (directory / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (directory / name).write_bytes(content)


@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("compress", [False, True])
def test_reads_every_variant_of_the_names(tmp_path, separator, compress):
    write_all(tmp_path, separator, compress)
    train_images, train_labels, test_images, test_labels = read_mnist(tmp_path)
    np.testing.assert_array_equal(train_images, arrays("train-images")[..., None])
    np.testing.assert_array_equal(train_labels, arrays("train-labels"))
    np.testing.assert_array_equal(test_images, arrays("t10k-images")[..., None])
    np.testing.assert_array_equal(test_labels, arrays("t10k-labels"))
    assert train_images.dtype == test_images.dtype == np.uint8
    assert train_labels.dtype == test_labels.dtype == np.int32


def test_gzip_is_told_by_content_not_by_name(tmp_path):
    write_all(tmp_path)
    path = tmp_path / "train-labels-idx1-ubyte"
    path.rename(path.with_name(path.name + ".gz"))
    np.testing.assert_array_equal(read_mnist(tmp_path)[1], arrays("train-labels"))


def test_empty_array_is_read(tmp_path):
    (tmp_path / "x").write_bytes(idx_bytes(np.zeros((0, 6, 4), np.uint8)))
    assert read_idx(tmp_path / "x", 3).shape == (0, 6, 4)


def test_all_missing_files_are_named_at_once(tmp_path):
    write_all(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match=r"missing .*2 of 4") as caught:
        read_mnist(tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "train-images-idx3-ubyte[.gz], t10k-labels-idx1-ubyte[.gz]" in message
    assert "found t10k-images-idx3-ubyte, train-labels-idx1-ubyte" in message


def test_empty_directory_and_no_directory(tmp_path):
    with pytest.raises(ValueError, match=r"4 of 4 files\); found an empty directory"):
        read_mnist(tmp_path)
    with pytest.raises(ValueError, match="nowhere: not a directory; expected one with train-images"):
        read_mnist(tmp_path / "nowhere")


def test_listing_of_a_full_directory_is_cut(tmp_path):
    for i in range(11):
        (tmp_path / f"{i:02}.txt").touch()
    with pytest.raises(ValueError, match=r"found 00.txt, .*, 07.txt and 3 more$"):
        read_mnist(tmp_path)


def test_a_folder_under_the_name_of_a_file_is_missing(tmp_path):
    write_all(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    with pytest.raises(ValueError, match="missing train-images"):
        read_mnist(tmp_path)


def damaged(content):
    """Name of the damage, the damaged bytes, and what the message says."""
    compressed = gzip.compress(content, mtime=0)
    # The middle of the compressed stream, past the 10-byte header.
    flipped = compressed[:20] + bytes(b ^ 0xFF for b in compressed[20:40]) + compressed[40:]
    return [
        (content[:-1], "truncated: 135 bytes, expected 136 .*shape \\(5, 6, 4\\)"),
        (content + b"\0", "oversized: 137 bytes, expected 136"),
        (content[:10], "truncated: 10 bytes, expected a header of 16"),
        (b"", "wrong magic number 0 .*expected 2051"),
        (b"<html>", "wrong magic number .*b'<htm'.*expected 2051 for uint8 in 3 dimensions"),
        (bytes([0, 0, 13, 3]) + content[4:], "wrong magic number 3331"),  # 13: float32
        (idx_bytes(arrays("train-labels")), "wrong magic number 2049 .*expected 2051"),
        (compressed[:-20], "truncated or damaged gzip file"),
        (flipped, "truncated or damaged gzip file"),
        # 7: the last block, of a type that does not exist.
        (compressed[:10] + b"\7" + compressed[11:], "truncated or damaged gzip file .*invalid block type"),
        (compressed[:5], "truncated or damaged gzip file of 5 bytes"),
        (gzip.compress(content[:-1], mtime=0), "truncated: 135 bytes"),
        # Dimensions that no memory could hold must fail on the size, not on allocation.
        (content[:4] + b"\xff" * 12, "truncated: 16 bytes, expected"),
    ]


@pytest.mark.parametrize(("content", "message"), damaged(idx_bytes(arrays("train-images"))))
def test_damaged_files_are_named(tmp_path, content, message):
    write_all(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_mnist(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("split", COUNTS)
def test_count_mismatch_names_both_files(tmp_path, split):
    write_all(tmp_path)
    labels_path = tmp_path / f"{split}-labels-idx1-ubyte"
    labels_path.write_bytes(idx_bytes(arrays(f"{split}-labels")[:-1]))
    expected = f"{COUNTS[split] - 1} labels, expected {COUNTS[split]}"
    with pytest.raises(ValueError, match=expected) as caught:
        read_mnist(tmp_path)
    assert str(labels_path) in str(caught.value)
    assert str(tmp_path / f"{split}-images-idx3-ubyte") in str(caught.value)


def test_unreadable_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="gone: cannot be read: No such file"):
        read_idx(tmp_path / "gone", 1)


def test_files_are_the_four_of_mnist():
    assert list(FILES) == [f"{stem}-idx{dimensions}-ubyte[.gz]" for stem, dimensions in STEMS.items()]
