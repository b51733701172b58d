"""The idx format of MNIST and Fashion-MNIST, gzipped or not.

An idx file is a big-endian uint32 magic number, 256 * type + dimensions (type 8 is uint8), one big-endian
uint32 for every dimension, and the data in row-major order (http://yann.lecun.com/exdb/mnist).
"""

import math
import struct
from pathlib import Path

import numpy as np

from experiments.data.source_files import Splits, check_counts, check_size, find_files, read_bytes

UINT8 = 8
STEMS = ("train-images", "train-labels", "t10k-images", "t10k-labels")
DIMENSIONS = {"images": 3, "labels": 1}


def _accepted(stem: str) -> tuple[str, tuple[str, ...]]:
    """The name to show for one file and the names it may have: dash or dot, gzipped or not."""
    kind = f"idx{DIMENSIONS[stem.split('-')[1]]}-ubyte"
    names = (f"{stem}-{kind}", f"{stem}.{kind}")
    return f"{names[0]}[.gz]", (*names, *(f"{name}.gz" for name in names))


FILES: dict[str, tuple[str, ...]] = dict(map(_accepted, STEMS))


def read_idx(path: Path, num_dimensions: int) -> np.ndarray:
    """Read one idx file of uint8.

    Args:
        path: the file, gzipped or not.
        num_dimensions: how many dimensions it must have.

    Returns:
        uint8 array of that rank, read-only.

    Raises:
        ValueError: wrong magic number, truncated, oversized or damaged; the message names the path.
    """
    data = read_bytes(path)
    header = 4 + 4 * num_dimensions
    expected = 256 * UINT8 + num_dimensions
    magic = int.from_bytes(data[:4], "big")
    if magic != expected:
        raise ValueError(
            f"{path}: wrong magic number {magic} (first bytes {data[:4]!r}), "
            f"expected {expected} for uint8 in {num_dimensions} dimensions"
        )
    if len(data) < header:
        raise ValueError(f"{path}: truncated: {len(data)} bytes, expected a header of {header}")
    shape = struct.unpack(f">{num_dimensions}I", data[4:header])
    check_size(path, len(data), header + math.prod(shape), f"header and uint8 of shape {shape}")
    return np.frombuffer(data[header:], np.uint8).reshape(shape)


def read_mnist(directory: Path) -> Splits:
    """Read the four idx files of MNIST or Fashion-MNIST.

    Args:
        directory: holds ``{train,t10k}-{images-idx3,labels-idx1}-ubyte``, with a dot for the second dash or
            ``.gz`` at the end if need be.

    Returns:
        Train images uint8 [N, H, W, 1], train labels int32 [N], test images, test labels.

    Raises:
        ValueError: files missing, truncated, oversized or wrong; the message names the path.
    """
    train_images, train_labels, test_images, test_labels = find_files(directory, FILES)
    return *_read_pair(train_images, train_labels), *_read_pair(test_images, test_labels)


def _read_pair(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    images = read_idx(images_path, DIMENSIONS["images"])
    labels = read_idx(labels_path, DIMENSIONS["labels"])
    check_counts(images_path, images, labels_path, labels)
    return images[..., np.newaxis], labels.astype(np.int32)
