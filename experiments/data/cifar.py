"""The files of CIFAR-10 and CIFAR-100 in their binary version (https://www.cs.toronto.edu/~kriz/cifar.html).

A file is one record after the other: a label byte (CIFAR-100: a coarse and a fine one), then 3,072 pixels
as channel, row, column. There is no header, so that only the number of bytes tells a whole file from a part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.data.source_files import ImageSplits, WantedFiles, check_size, read_bytes

CHANNELS, SIDE = 3, 32
PIXELS = CHANNELS * SIDE * SIDE


@dataclass(frozen=True)
class CifarFormat:
    """One of the two sets: its files and how they are read.

    Args:
        folder: what the official tarball unpacks to.
        records: number of records of every file; the last file is the test set.
        label_bytes: labels of a record; the last one is used (CIFAR-100: the fine label).
    """

    folder: str
    records: Mapping[str, int]
    label_bytes: int

    @property
    def files(self) -> WantedFiles:
        """The files, each by itself or in the folder of the tarball."""
        return {name: (name, f"{self.folder}/{name}") for name in self.records}

    def read(self, paths: Sequence[Path]) -> ImageSplits:
        """Read all files.

        Args:
            paths: of the files, in the order of ``records``.

        Returns:
            Train images uint8 [N, 32, 32, 3], train labels int32 [N], test images, test labels.

        Raises:
            ValueError: a file truncated or oversized; the message names the path.
        """
        counts = self.records.values()
        *train, test = (
            _read_records(path, count, self.label_bytes) for path, count in zip(paths, counts, strict=True)
        )
        return *_images_and_labels(np.concatenate(train)), *_images_and_labels(test)


CIFAR10 = CifarFormat(
    folder="cifar-10-batches-bin",
    records={**{f"data_batch_{i}.bin": 10_000 for i in range(1, 6)}, "test_batch.bin": 10_000},
    label_bytes=1,
)
CIFAR100 = CifarFormat(folder="cifar-100-binary", records={"train.bin": 50_000, "test.bin": 10_000}, label_bytes=2)


def _read_records(path: Path, count: int, label_bytes: int) -> np.ndarray:
    data = read_bytes(path)
    size = label_bytes + PIXELS
    check_size(path, len(data), count * size, f"{count} records of {size}")
    return np.frombuffer(data, np.uint8).reshape(count, size)


def _images_and_labels(records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, pixels = records[:, :-PIXELS], records[:, -PIXELS:]
    images = pixels.reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels[:, -1].astype(np.int32)
