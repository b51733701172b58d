"""The binary version of CIFAR-10 and CIFAR-100 (https://www.cs.toronto.edu/~kriz/cifar.html).

A file is a row of records: one label byte (CIFAR-100: a coarse and a fine one), then 3,072 pixels as channel,
row, column. There is no header, so that only the number of bytes tells a whole file from a part of one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.data.source_files import Splits, check_size, find_files, read_bytes

CHANNELS, SIDE = 3, 32
PIXELS = CHANNELS * SIDE * SIDE


@dataclass(frozen=True)
class CifarFormat:
    """One of the two sets.

    Args:
        folder: what the official tarball unpacks to.
        records: number of records of every file; the last file is the test set.
        label_bytes: labels of a record; the last one is used (CIFAR-100: the fine label).
    """

    folder: str
    records: Mapping[str, int]
    label_bytes: int

    @property
    def files(self) -> dict[str, tuple[str, ...]]:
        """The accepted paths of every file, as ``find_files`` takes them."""
        return {name: (name, f"{self.folder}/{name}") for name in self.records}


CIFAR10 = CifarFormat(
    folder="cifar-10-batches-bin",
    records={**{f"data_batch_{i}.bin": 10_000 for i in range(1, 6)}, "test_batch.bin": 10_000},
    label_bytes=1,
)
CIFAR100 = CifarFormat(folder="cifar-100-binary", records={"train.bin": 50_000, "test.bin": 10_000}, label_bytes=2)


def read_cifar(directory: Path, cifar_format: CifarFormat) -> Splits:
    """Read the binary version of CIFAR-10 or CIFAR-100.

    Args:
        directory: holds the ``.bin`` files, or the folder that the official tarball unpacks to.
        cifar_format: `CIFAR10` or `CIFAR100`.

    Returns:
        Train images uint8 [N, 32, 32, 3], train labels int32 [N], test images, test labels.

    Raises:
        ValueError: files missing, truncated, oversized; the message names the path.
    """
    paths = find_files(directory, cifar_format.files)
    records = [
        _read_records(path, count, cifar_format.label_bytes)
        for path, count in zip(paths, cifar_format.records.values(), strict=True)
    ]
    train, test = np.concatenate(records[:-1]), records[-1]
    return *_images_and_labels(train), *_images_and_labels(test)


def _read_records(path: Path, count: int, label_bytes: int) -> np.ndarray:
    data = read_bytes(path)
    size = label_bytes + PIXELS
    check_size(path, len(data), count * size, f"{count} records of {size}")
    return np.frombuffer(data, np.uint8).reshape(count, size)


def _images_and_labels(records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, pixels = records[:, :-PIXELS], records[:, -PIXELS:]
    images = pixels.reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels[:, -1].astype(np.int32)
