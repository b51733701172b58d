"""Image sets larger than memory: their training images are read as they are needed, and looked at once before."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data.batches import Batch
from experiments.data.image_sets import IMAGE_SETS, ImageLibrary, find_image_set
from experiments.data.images import ImageDataset, check_channels, check_labels, check_shapes, check_split
from experiments.data.records import ImageRecords, read_batches, require_grain
from experiments.data.source_files import checksum
from experiments.data.summary import ImageSummary, summarize

_PIECE = 256  # images that are looked at together
_FEW = 16  # that tell whether two processes have the same set


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedImages:
    """As ``ImageDataset``, but that the training images stay on the disk.

    Args:
        records: the training images, and in memory those for testing.
        summary: of all training images.

    Raises:
        ValueError: as for ``ImageDataset``.
    """

    records: ImageRecords
    summary: ImageSummary

    def __post_init__(self) -> None:
        """Check everything that can be checked."""
        check_labels(self.name, "train", self.summary.lowest_label, self.summary.highest_label, self.num_classes)
        check_split(self.name, "test", self.test_images, self.test_labels, self.num_classes)
        check_shapes(self.name, self.image_shape, self.test_images.shape[1:])
        check_channels(self.name, self.summary.lowest, self.summary.highest)

    @property
    def name(self) -> str:
        """The name it was opened by."""
        return self.records.name

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.records.num_classes

    @property
    def test_images(self) -> np.ndarray:
        """uint8 [M, H, W, C]."""
        return self.records.test_images

    @property
    def test_labels(self) -> np.ndarray:
        """int32 [M], in [0, num_classes)."""
        return self.records.test_labels

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and number of channels."""
        return self.records.image_shape

    @property
    def train_count(self) -> int:
        """Number of training images."""
        return self.records.count

    @property
    def channel_mean(self) -> np.ndarray:
        """Mean of the training pixels / 255, float32 [C]."""
        return self.summary.channel_mean

    @property
    def channel_std(self) -> np.ndarray:
        """Standard deviation of the training pixels / 255, float32 [C]; positive."""
        return self.summary.channel_std

    def train_batches(self, batches: Sequence[np.ndarray] | np.ndarray) -> Iterator[Batch]:
        """Read the training images of these numbers; see ``read_batches``."""
        return read_batches(self.records, batches)

    def tested_on(self, other: ImageDataset) -> "StreamedImages":
        """As that of ``ImageDataset``."""
        records = dataclasses.replace(
            self.records, name=other.name, test_images=other.test_images, test_labels=other.test_labels
        )
        return dataclasses.replace(self, records=records)

    def checksum(self, split: str) -> str:
        """That of ``ImageDataset``: the same eight digits for the same images and labels."""
        return self.summary.checksum if split == "train" else checksum(self.test_images, self.test_labels)


Images = ImageDataset | StreamedImages  # what a classifier is trained and evaluated on


def open_records(name: str, data_dir: str | Path | None = None, *, download: bool = False) -> ImageRecords:
    """Open a set by name for reading its training images one by one.

    Args:
        name: of a set of records: ``tfds:NAME``.
        data_dir: as for ``load_images``.
        download: as for ``load_images``.

    Returns:
        The records; all test images are read.

    Raises:
        ValueError: a set that can only be read whole, grain is missing, or as for ``load_images``.
    """
    entry = find_image_set(name)
    if not isinstance(entry, ImageLibrary) or entry.open is None:
        able = [
            f"{key}:{each.names}"
            for key, each in IMAGE_SETS.items()
            if isinstance(each, ImageLibrary) and each.open
        ]
        raise ValueError(
            f"--stream needs --data {' or '.join(able)}, whose images are records"
            f" (python -m experiments.data prepare writes such a set), got {name}"
        )
    require_grain()
    return entry.open(name.partition(":")[2], None if data_dir is None else Path(data_dir).expanduser(), download)


def describe_few(records: ImageRecords) -> dict[str, Any]:
    """How many training images there are, and a checksum of 16 that are spread over them.

    Raises:
        ValueError: for a record that is damaged or of another shape.
    """
    rows = np.unique(np.linspace(0, records.count - 1, _FEW).astype(int))
    (found,) = look_at(records, rows)
    return {"images": records.count, f"checksum of {len(rows)}": found.checksum}


def look_at(records: ImageRecords, rows: np.ndarray) -> Iterator[ImageSummary]:
    """Read some training images once, in the memory of a few hundred of them.

    Args:
        records: the set.
        rows: their numbers, int [n].

    Returns:
        Iterator over the summaries of what was read, piece by piece; to be joined in their order.

    Raises:
        ValueError: from the iterator, for a record that is damaged or of another shape.
    """
    pieces = [rows[start : start + _PIECE] for start in range(0, len(rows), _PIECE)]
    return (summarize(batch["images"], batch["labels"]) for batch in read_batches(records, pieces))
