"""Training images that stay on the disk: each is a record, read by its number, by grain's threads."""

import hashlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.data.batches import Batch

THREADS = 16  # that read and decode; a disk far away takes that many to be kept busy
AHEAD = 64  # images that are read before they are asked for; grain looks at each of them whenever one is taken


@dataclass(frozen=True, eq=False)
class ImageRecords:
    """A set whose training images are read one by one; its test images are in memory.

    Args:
        name: of the set.
        count: of training images.
        read: from the number of a training image, 0 to ``count`` - 1, to the image and its label. Called by
            several threads at once.
        image_shape: height, width and number of channels.
        num_classes: number of classes.
        test_images: uint8 [M, H, W, C].
        test_labels: int32 [M].
        files: that the training images are in.
    """

    name: str
    count: int
    read: Callable[[int], tuple[np.ndarray, int]]
    image_shape: tuple[int, int, int]
    num_classes: int
    test_images: np.ndarray
    test_labels: np.ndarray
    files: tuple[Path, ...] = ()

    def read_checked(self, row: int) -> tuple[np.ndarray, int]:
        """One training image, uint8 of the shape of all, and its label.

        Raises:
            ValueError: another shape or dtype, or what ``read`` raises.
        """
        image, label = self.read(row)
        if image.dtype != np.uint8 or image.shape != self.image_shape:
            raise ValueError(
                f"{self.name}: train images must be uint8 of one shape, {self.image_shape}, got {image.dtype} of"
                f" shape {image.shape} in record {row}"
            )
        return image, label

    def fingerprint(self) -> str | None:
        """The same as long as the files are where they are and as they are; None where there is no file."""
        if not self.files:
            return None
        found = [self.count, self.num_classes, *((str(path.resolve()), *_status(path)) for path in self.files)]
        return hashlib.sha256(repr(found).encode()).hexdigest()[:16]


def require_grain() -> None:
    """Raise ``ValueError`` unless grain is there, which nothing else needs."""
    if importlib.util.find_spec("grain") is None:
        raise ValueError(
            "--stream needs grain, not installed; it comes with the extra 'data': pip install -e '.[data]'"
        )


def read_batches(records: ImageRecords, batches: Sequence[np.ndarray] | np.ndarray) -> Iterator[Batch]:
    """Read the named training images, and no others, a few ahead.

    Each number is an element of a ``grain.MapDataset``, so that how far it has come is how many were asked for:
    to go on at a step is to name the batches from there.

    Args:
        records: the set.
        batches: numbers of training images for each batch, int [b].

    Returns:
        Iterator over batches of ``images``, uint8 [b, H, W, C], and ``labels``, int32 [b]. At most ``AHEAD``
        images are in memory besides the batch that it gives.

    Raises:
        ValueError: from the iterator, for a record that is damaged or of another shape.
    """
    if not len(batches):
        return
    import grain  # noqa: PLC0415  # seconds, and only here

    rows = np.concatenate(batches)
    elements = grain.MapDataset.source(_Chosen(records, rows))
    iterator = iter(elements.to_iter_dataset(grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD)))
    try:
        for batch in batches:
            yield _stacked([next(iterator) for _ in batch])
    finally:
        iterator.close()  # whoever stops early does not wait for what was read ahead


@dataclass(frozen=True)
class _Chosen:
    """Some training images of a set, in some order, as a source for grain."""

    records: ImageRecords
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.records.read_checked(int(self.rows[index]))


def _stacked(examples: Sequence[tuple[np.ndarray, int]]) -> Batch:
    images, labels = zip(*examples, strict=True)
    return {"images": np.stack(images), "labels": np.array(labels, np.int32)}


def _status(path: Path) -> tuple[int, int]:
    """Size in bytes, and when it was changed, in nanoseconds."""
    try:
        status = path.stat()
    except OSError as error:
        raise ValueError(f"{path}: must be a readable file, got: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns
