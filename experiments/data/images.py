"""Image classification sets by name, as uint8 arrays that are checked as a whole before any training."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from experiments.data import cifar, mnist, svhn
from experiments.data.source_files import EMBEDDED, ImageSplits, WantedFiles, choose_directory, find_files
from experiments.data.tfds import read_tfds

EMBEDDED_FILE = "fashion_mnist_mini.npz"
SPLIT_KEYS = ("train_images", "train_labels", "test_images", "test_labels")


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
            self._check_split(split, getattr(self, f"{split}_images"), getattr(self, f"{split}_labels"))
        shapes = self.train_images.shape[1:], self.test_images.shape[1:]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{self.name}: train_images and test_images must have one shape [H, W, C], "
                f"got {shapes[0]} and {shapes[1]}"
            )

    def _check_split(self, split: str, images: np.ndarray, labels: np.ndarray) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or images.size == 0:
            raise ValueError(
                f"{self.name}: {split}_images must be uint8 of shape [N, H, W, C], not empty, "
                f"got {images.dtype} of shape {images.shape}"
            )
        if labels.dtype != np.int32 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{self.name}: {split}_labels must be int32 of shape {images.shape[:1]}, one for each image, "
                f"got {labels.dtype} of shape {labels.shape}"
            )
        if labels.min() < 0 or labels.max() >= self.num_classes:
            raise ValueError(
                f"{self.name}: {split}_labels must be in [0, {self.num_classes - 1}], "
                f"got [{labels.min()}, {labels.max()}]"
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
class ImageFiles:
    """Images in files of one format: an entry of ``IMAGE_SETS``.

    Args:
        read: from the paths of the files, in the order of ``files``, to the splits.
        files: the files; the error messages name them.
        num_classes: number of classes.
        included: the directory of the files if they come with the code; None if the user names one.
    """

    read: Callable[[Sequence[Path]], ImageSplits]
    files: WantedFiles
    num_classes: int
    included: Path | None = None

    def load(self, name: str, data_dir: str | Path | None) -> ImageDataset:
        """Find, read and check the files; the arguments are those of ``load_images``."""
        directory = choose_directory(name, data_dir, self.files, self.included)
        splits = self.read(find_files(directory, self.files))
        try:
            return ImageDataset(name, *splits, num_classes=self.num_classes)
        except ValueError as error:
            raise ValueError(f"{directory}: {error}") from error


@dataclass(frozen=True)
class ImageCatalogue:
    """A library that knows many sets of images, called ``ENTRY:NAME``: an entry of ``IMAGE_SETS``.

    Args:
        read: from the name in the library, the directory (None: the library's own) and whether to download what
            is not there to the splits and the number of classes.
    """

    read: Callable[[str, Path | None, bool], tuple[ImageSplits, int]]

    def load(self, name: str, data_dir: str | Path | None, download: bool) -> ImageDataset:
        """Read and check the set; the arguments are those of ``load_images``."""
        directory = None if data_dir is None else Path(data_dir).expanduser()
        splits, num_classes = self.read(name.partition(":")[2], directory, download)
        return ImageDataset(name, *splits, num_classes=num_classes)


def _read_npz(paths: Sequence[Path]) -> ImageSplits:
    with np.load(paths[0]) as arrays:
        train_images, train_labels, test_images, test_labels = (arrays[key] for key in SPLIT_KEYS)
    return train_images, train_labels.astype(np.int32), test_images, test_labels.astype(np.int32)


# Every data set by name. Whoever adds an entry can load it, and train on it, by that name.
IMAGE_SETS: dict[str, ImageFiles | ImageCatalogue] = {
    "embedded": ImageFiles(_read_npz, {EMBEDDED_FILE: [EMBEDDED_FILE]}, num_classes=10, included=EMBEDDED),
    "mnist": ImageFiles(mnist.read_mnist, mnist.FILES, num_classes=10),
    "fashion_mnist": ImageFiles(mnist.read_mnist, mnist.FILES, num_classes=10),
    "cifar10": ImageFiles(cifar.CIFAR10.read, cifar.CIFAR10.files, num_classes=10),
    "cifar100": ImageFiles(cifar.CIFAR100.read, cifar.CIFAR100.files, num_classes=100),
    "svhn": ImageFiles(svhn.read_svhn, svhn.FILES, num_classes=10),
    "tfds": ImageCatalogue(read_tfds),
}


def image_set_names() -> list[str]:
    """The names that ``load_images`` takes, ``ENTRY:NAME`` standing for all names of a library.

    Example:
        >>> image_set_names()
        ['embedded', 'mnist', 'fashion_mnist', 'cifar10', 'cifar100', 'svhn', 'tfds:NAME']
    """
    return [f"{name}:NAME" if isinstance(entry, ImageCatalogue) else name for name, entry in IMAGE_SETS.items()]


def load_images(name: str, data_dir: str | Path | None = None, *, download: bool = False) -> ImageDataset:
    """Load a data set by name, whole and checked.

    Args:
        name: one of ``image_set_names()``: ``embedded`` (5,000 and 1,000 images of Fashion-MNIST, no directory
            needed), the standard files of a set in ``data_dir``, or ``tfds:NAME``.
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
    key, colon, _ = name.partition(":")
    entry = IMAGE_SETS.get(key)
    if isinstance(entry, ImageCatalogue) and colon:
        return entry.load(name, data_dir, download)
    if not isinstance(entry, ImageFiles) or colon:
        raise ValueError(f"data set must be one of {', '.join(image_set_names())}, got {name!r}")
    if download:
        raise ValueError(f"download must be False for {name}, only sets of a library can be downloaded, got True")
    return entry.load(name, data_dir)


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
        raise ValueError(f"validation_size must be 0 to {count - 1}, of {count} images, got {validation_size}")
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
        raise ValueError(f"images must be uint8, got {images.dtype}")
    return images / np.float32(255)


def _mean(pixels: np.ndarray) -> np.ndarray:
    # Examples first: many times faster than all axes at once, and exact in integers.
    total = pixels.sum(axis=0, dtype=np.uint64).sum(axis=(0, 1))
    return total / (pixels.size // pixels.shape[-1])


def _select(dataset: ImageDataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    return {"images": dataset.train_images[rows], "labels": dataset.train_labels[rows]}
