"""Image classification sets by name, as uint8 arrays that are checked as a whole before any training."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from experiments.data import cifar, mnist, svhn
from experiments.data.source_files import Splits
from experiments.data.tfds import read_tfds

EMBEDDED = Path(__file__).parent / "embedded" / "fashion_mnist_mini.npz"
SPLIT_KEYS = ("train_images", "train_labels", "test_images", "test_labels")
TFDS_PREFIX = "tfds:"


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
        ValueError: an array of another dtype, rank, length or range, an empty one, or two image shapes.
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
            self._check_split(split, getattr(self, f"{split}_images"), getattr(self, f"{split}_labels"))
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise ValueError(
                f"{self.name}: train_images are {self.train_images.shape[1:]}, "
                f"test_images {self.test_images.shape[1:]}; expected one shape [H, W, C]"
            )

    def _check_split(self, split: str, images: np.ndarray, labels: np.ndarray) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or images.size == 0:
            raise ValueError(
                f"{self.name}: {split}_images are {images.dtype} of shape {images.shape}, "
                "expected uint8 of shape [N, H, W, C], not empty"
            )
        if labels.dtype != np.int32 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{self.name}: {split}_labels are {labels.dtype} of shape {labels.shape}, "
                f"expected int32 of shape {images.shape[:1]}, one for each image"
            )
        if labels.min() < 0 or labels.max() >= self.num_classes:
            raise ValueError(
                f"{self.name}: {split}_labels are in [{labels.min()}, {labels.max()}], "
                f"expected [0, {self.num_classes - 1}]"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and number of channels."""
        height, width, channels = self.train_images.shape[1:]
        return height, width, channels

    @cached_property
    def channel_mean(self) -> np.ndarray:
        """Mean of the training pixels / 255, float32 [C]."""
        return (_mean(self.train_images) / 255).astype(np.float32)

    @cached_property
    def channel_std(self) -> np.ndarray:
        """Standard deviation of the training pixels / 255, float32 [C]."""
        # uint16 holds 255**2, and the sums are exact, so the difference loses nothing that counts.
        mean_square = _mean(np.square(self.train_images, dtype=np.uint16))
        return (np.sqrt(mean_square - _mean(self.train_images) ** 2) / 255).astype(np.float32)


def checksum(images: np.ndarray, labels: np.ndarray) -> str:
    """Eight hexadecimal digits that tell one set of images and labels from another (CRC-32).

    Example:
        >>> checksum(np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 1], np.int32))
        '51505ad4'
    """
    return f"{zlib.crc32(labels.tobytes(), zlib.crc32(images.tobytes())):08x}"


@dataclass(frozen=True)
class DirectoryReader:
    """How a data set is read from a directory.

    Args:
        read: from the directory to the splits.
        files: the files it expects, as they are shown to the user.
        num_classes: number of classes.
    """

    read: Callable[[Path], Splits]
    files: Mapping[str, object]
    num_classes: int


READERS: dict[str, DirectoryReader] = {
    "mnist": DirectoryReader(mnist.read_mnist, mnist.FILES, 10),
    "fashion_mnist": DirectoryReader(mnist.read_mnist, mnist.FILES, 10),
    "cifar10": DirectoryReader(partial(cifar.read_cifar, cifar_format=cifar.CIFAR10), cifar.CIFAR10.files, 10),
    "cifar100": DirectoryReader(partial(cifar.read_cifar, cifar_format=cifar.CIFAR100), cifar.CIFAR100.files, 100),
    "svhn": DirectoryReader(svhn.read_svhn, svhn.FILES, 10),
}
NAMES = ("embedded", *READERS, f"{TFDS_PREFIX}NAME")


def load_images(name: str, data_dir: str | Path | None = None, *, download: bool = False) -> ImageDataset:
    """Load a data set by name, whole and checked.

    Args:
        name: one of ``NAMES``: ``embedded`` (5,000 and 1,000 images of Fashion-MNIST, no directory needed), a
            standard file format in ``data_dir``, or ``tfds:NAME``.
        data_dir: the directory of the files; for ``tfds:NAME`` where sets are prepared, by default
            tensorflow-datasets' own.
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
    directory = None if data_dir is None else Path(data_dir).expanduser()
    if name.startswith(TFDS_PREFIX):
        splits, num_classes = read_tfds(name.removeprefix(TFDS_PREFIX), directory, download=download)
        return ImageDataset(name, *splits, num_classes=num_classes)
    if name != "embedded" and name not in READERS:
        raise ValueError(f"unknown data set {name!r}; expected one of {', '.join(NAMES)}")
    if download:
        raise ValueError(f"{name} cannot be downloaded; only {TFDS_PREFIX}NAME can")
    return _embedded(directory) if name == "embedded" else _from_directory(name, directory)


def _embedded(directory: Path | None) -> ImageDataset:
    if directory is not None:
        raise ValueError(f"embedded takes no data directory, got {directory}; name the data set in it instead")
    with np.load(EMBEDDED) as arrays:
        train_images, train_labels, test_images, test_labels = (arrays[key] for key in SPLIT_KEYS)
    labels = train_labels.astype(np.int32), test_labels.astype(np.int32)
    return ImageDataset("embedded", train_images, labels[0], test_images, labels[1], num_classes=10)


def _from_directory(name: str, directory: Path | None) -> ImageDataset:
    reader = READERS[name]
    if directory is None:
        raise ValueError(f"{name} needs a data directory (--data-dir) with {', '.join(reader.files)}")
    splits = reader.read(directory)
    try:
        return ImageDataset(name, *splits, num_classes=reader.num_classes)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from error


def train_validation_split(
    dataset: ImageDataset, validation_size: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Take a random part of the training set away for validation.

    Args:
        dataset: its test set is not touched.
        validation_size: number of validation images, from 0 to one less than there are.
        seed: the same seed gives the same split.

    Returns:
        The training and the validation arrays, each a dict of ``images`` and ``labels``.

    Raises:
        ValueError: ``validation_size`` leaves no training image or is negative.
    """
    count = len(dataset.train_images)
    if not 0 <= validation_size < count:
        raise ValueError(f"validation_size is {validation_size}, expected 0 to {count - 1} of {count} images")
    order = np.random.default_rng(seed).permutation(count)
    validation, train = np.split(order, [validation_size])
    return _select(dataset, train), _select(dataset, validation)


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
        raise ValueError(f"images are {images.dtype}, expected uint8")
    return images / np.float32(255)


def _mean(pixels: np.ndarray) -> np.ndarray:
    # Examples first: many times faster than all axes at once, and exact in integers.
    total = pixels.sum(axis=0, dtype=np.uint64).sum(axis=(0, 1))
    return total / (pixels.size // pixels.shape[-1])


def _select(dataset: ImageDataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    return {"images": dataset.train_images[rows], "labels": dataset.train_labels[rows]}
