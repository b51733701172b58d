"""Images with labels, as uint8 arrays that are checked as a whole before any training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from experiments.data.batches import Batch
from experiments.data.image_sets import ImageLibrary, find_image_set
from experiments.data.source_files import checksum, choose_directory, find_files
from experiments.data.summary import channel_mean, channel_ranges, channel_std, channel_sums


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """A training and a test set of images of one shape.

    Args:
        name: the name it was loaded by.
        train_images: uint8 [N, H, W, C].
        train_labels: int32 [N], in [0, num_classes).
        test_images: uint8 [M, H, W, C].
        test_labels: int32 [M], in [0, num_classes).
        num_classes: number of classes.

    Raises:
        ValueError: an array of another dtype, rank, length or range, an empty one, two image shapes, or a
            channel with one value in all training images.

    Example:
        >>> images, labels = np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1), np.array([0, 1], np.int32)
        >>> dataset = ImageDataset("tiny", images, labels, images, labels, num_classes=2)
        >>> dataset.image_shape, (255 * dataset.channel_mean).tolist()
        ((4, 4, 1), [15.5])
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    num_classes: int

    def __post_init__(self) -> None:
        """Check everything that can be checked."""
        for split in ("train", "test"):
            arrays = getattr(self, f"{split}_images"), getattr(self, f"{split}_labels")
            check_split(self.name, split, *arrays, self.num_classes)
        check_shapes(self.name, self.train_images.shape[1:], self.test_images.shape[1:])
        check_channels(self.name, *channel_ranges(self.train_images))

    @property
    def train_count(self) -> int:
        """Number of training images."""
        return len(self.train_labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and number of channels."""
        height, width, channels = self.train_images.shape[1:]
        return height, width, channels

    @cached_property
    def _sums(self) -> tuple[list[int], list[int]]:
        return channel_sums(self.train_images)

    @cached_property
    def channel_mean(self) -> np.ndarray:
        """Mean of the training pixels / 255, float32 [C]."""
        return channel_mean(self._sums[0], self.train_images[..., 0].size)

    @cached_property
    def channel_std(self) -> np.ndarray:
        """Standard deviation of the training pixels / 255, float32 [C]; positive."""
        return channel_std(*self._sums, self.train_images[..., 0].size)

    def train_batches(self, batches: Sequence[np.ndarray] | np.ndarray) -> Iterator[Batch]:
        """The training images of these numbers.

        Args:
            batches: numbers of training images for each batch, int [b].

        Returns:
            Iterator over batches of ``images``, uint8 [b, H, W, C], and ``labels``, int32 [b].
        """
        return ({"images": self.train_images[rows], "labels": self.train_labels[rows]} for rows in batches)

    def tested_on(self, other: "ImageDataset") -> "ImageDataset":
        """The same training images with the name and the test images of another set.

        Raises:
            ValueError: images of another shape, or labels of other classes.
        """
        return replace(self, name=other.name, test_images=other.test_images, test_labels=other.test_labels)

    def checksum(self, split: str) -> str:
        """Eight hexadecimal digits that tell the images and labels of a split from others.

        Args:
            split: ``train`` or ``test``.

        Returns:
            ``checksum`` of the images and the labels.
        """
        return checksum(getattr(self, f"{split}_images"), getattr(self, f"{split}_labels"))


def check_split(name: str, split: str, images: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
    """Raise ``ValueError`` unless these are images uint8 [N, H, W, C] with labels int32 [N] of so many classes."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.size == 0:
        raise ValueError(
            f"{name}: {split}_images must be uint8 of shape [N, H, W, C], not empty, "
            f"got {images.dtype} of shape {images.shape}"
        )
    if labels.dtype != np.int32 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{name}: {split}_labels must be int32 of shape {images.shape[:1]}, one for each image, "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    check_labels(name, split, int(labels.min()), int(labels.max()), num_classes)


def check_labels(name: str, split: str, lowest: int, highest: int, num_classes: int) -> None:
    """Raise ``ValueError`` unless labels from the lowest to the highest are of so many classes."""
    if lowest < 0 or highest >= num_classes:
        raise ValueError(f"{name}: {split}_labels must be in [0, {num_classes - 1}], got [{lowest}, {highest}]")


def check_shapes(name: str, train: tuple[int, ...], test: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless images of both splits are of one shape."""
    if train != test:
        raise ValueError(
            f"{name}: train_images and test_images must have one shape [H, W, C], got {train} and {test}"
        )


def check_channels(name: str, lowest: Sequence[int], highest: Sequence[int]) -> None:
    """Raise ``ValueError`` for a channel whose lowest and highest value are the same."""
    for channel, (low, high) in enumerate(zip(lowest, highest, strict=True)):
        if low == high:
            raise ValueError(
                f"{name}: train_images must have more than one value in every channel, as models divide "
                f"by its standard deviation, got {low} everywhere in channel {channel}"
            )


def load_images(name: str, data_dir: str | Path | None = None, *, download: bool = False) -> ImageDataset:
    """Load a data set by name, whole and checked.

    Args:
        name: one of ``image_set_names()``: ``embedded`` (5,000 and 1,000 images of Fashion-MNIST, no directory
            needed), the standard files of a set in ``data_dir``, ``tfds:NAME``, or one's own images in
            ``npz:FILE`` or ``folder:DIRECTORY``.
        data_dir: the directory of the files; for ``tfds:NAME`` where sets are prepared, by default
            tensorflow-datasets' own; for one's own images where FILE or DIRECTORY lies, by default the working
            directory.
        download: whether a ``tfds:NAME`` that is not there is downloaded and prepared.

    Returns:
        The data set.

    Raises:
        ValueError: an unknown name, a directory missing or not wanted, or files that are missing, truncated or
            wrong; the message says what was found and what was expected.

    Example:
        >>> dataset = load_images("embedded")
        >>> dataset.train_images.shape, dataset.test_images.shape, dataset.num_classes
        ((5000, 28, 28, 1), (1000, 28, 28, 1), 10)
    """
    entry = find_image_set(name)
    if isinstance(entry, ImageLibrary):
        directory = None if data_dir is None else Path(data_dir).expanduser()
        splits, num_classes = entry.read(name.partition(":")[2], directory, download)
        return ImageDataset(name, *splits, num_classes=num_classes)
    if download:
        raise ValueError(f"download must be False for {name}, only sets of a library can be downloaded, got True")
    directory = choose_directory(name, data_dir, entry.files, entry.included)
    splits = entry.read(find_files(directory, entry.files))
    try:
        return ImageDataset(name, *splits, num_classes=entry.num_classes)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from error


def to_float(images: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1].

    Args:
        images: uint8, any shape.

    Returns:
        images / 255, float32.

    Raises:
        ValueError: another dtype, which may be scaled already.

    Example:
        >>> to_float(np.array([0, 51, 255], np.uint8))
        array([0. , 0.2, 1. ], dtype=float32)
    """
    if images.dtype != np.uint8:
        raise ValueError(f"images must be uint8, got {images.dtype}")
    return images / np.float32(255)
