"""The files of MNIST and Fashion-MNIST, in the idx format, gzipped or not.

An idx file is a big-endian uint32 magic number, 256 * type + dimensions (type 8 is uint8), one big-endian
uint32 for every dimension, and the data in row-major order (http://yann.lecun.com/exdb/mnist).
"""

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.data.source_files import ImageSplits, WantedFiles, check_counts, check_size, read_bytes

UINT8 = 8
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _accepted(name: str) -> tuple[str, ...]:
    """The official name, the one with a dot that some unpackers write, and both with .gz."""
    names = name, name.replace("-idx", ".idx")
    return *names, *(f"{each}.gz" for each in names)


# The four files, in the order in which they are read.
FILES: WantedFiles = {f"{name}[.gz]": _accepted(name) for name in NAMES}


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
            f"{path}: magic number must be {expected}, uint8 in {num_dimensions} dimensions, "
            f"got {magic} (first bytes {data[:4]!r})"
        )
    if len(data) < header:
        raise ValueError(f"{path}: must have a header of {header} bytes, got {len(data)} (truncated)")
    shape = struct.unpack(f">{num_dimensions}I", data[4:header])
    check_size(path, len(data), header + math.prod(shape), f"header and uint8 of shape {shape}")
    return np.frombuffer(data[header:], np.uint8).reshape(shape)


def read_mnist(paths: Sequence[Path]) -> ImageSplits:
    """Read the four idx files of MNIST or Fashion-MNIST.

    Args:
        paths: of the files, in the order of ``FILES``.

    Returns:
        Train images uint8 [N, H, W, 1], train labels int32 [N], test images, test labels.

    Raises:
        ValueError: a file truncated, oversized or wrong; the message names the path.
    """
    train_images, train_labels, test_images, test_labels = paths
    return *_read_pair(train_images, train_labels), *_read_pair(test_images, test_labels)


def _read_pair(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    images = read_idx(images_path, num_dimensions=3)
    labels = read_idx(labels_path, num_dimensions=1)
    check_counts(images_path, images, labels_path, labels)
    return images[..., np.newaxis], labels.astype(np.int32)
