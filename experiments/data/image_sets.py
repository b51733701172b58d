"""The table of image classification sets: where their files are and how they are read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.data import cifar, mnist, svhn
from experiments.data.source_files import EMBEDDED, ImageSplits, WantedFiles
from experiments.data.tfds import read_tfds

EMBEDDED_FILE = "fashion_mnist_mini.npz"
SPLIT_KEYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class ImageFiles:
    """A set of images in files: an entry of ``IMAGE_SETS``.

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


@dataclass(frozen=True)
class ImageLibrary:
    """A library that knows many sets of images, called ``ENTRY:NAME``: an entry of ``IMAGE_SETS``.

    Args:
        read: from the name in the library, the directory where it keeps its sets (None: its own default) and
            whether to download a set that is not there, to the splits and the number of classes.
    """

    read: Callable[[str, Path | None, bool], tuple[ImageSplits, int]]


def _read_npz(paths: Sequence[Path]) -> ImageSplits:
    with np.load(paths[0]) as arrays:
        train_images, train_labels, test_images, test_labels = (arrays[key] for key in SPLIT_KEYS)
    return train_images, train_labels.astype(np.int32), test_images, test_labels.astype(np.int32)


# Every set by name. Whoever adds an entry can load it, and train on it, by that name.
IMAGE_SETS: dict[str, ImageFiles | ImageLibrary] = {
    "embedded": ImageFiles(_read_npz, {EMBEDDED_FILE: [EMBEDDED_FILE]}, num_classes=10, included=EMBEDDED),
    "mnist": ImageFiles(mnist.read_mnist, mnist.FILES, num_classes=10),
    "fashion_mnist": ImageFiles(mnist.read_mnist, mnist.FILES, num_classes=10),
    "cifar10": ImageFiles(cifar.CIFAR10.read, cifar.CIFAR10.files, num_classes=10),
    "cifar100": ImageFiles(cifar.CIFAR100.read, cifar.CIFAR100.files, num_classes=100),
    "svhn": ImageFiles(svhn.read_svhn, svhn.FILES, num_classes=10),
    "tfds": ImageLibrary(read_tfds),
}


def image_set_names() -> list[str]:
    """All names of sets; ``ENTRY:NAME`` stands for those of a library.

    Example:
        >>> image_set_names()
        ['embedded', 'mnist', 'fashion_mnist', 'cifar10', 'cifar100', 'svhn', 'tfds:NAME']
    """
    return [f"{name}:NAME" if isinstance(entry, ImageLibrary) else name for name, entry in IMAGE_SETS.items()]


def find_image_set(name: str) -> ImageFiles | ImageLibrary:
    """The entry of a name.

    Args:
        name: one of ``image_set_names()``, of a library with the name of a set.

    Returns:
        The entry; a library itself knows whether it has the set.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> find_image_set("cifar100").num_classes
        100
    """
    key, colon, _ = name.partition(":")
    entry = IMAGE_SETS.get(key)
    if entry is None or isinstance(entry, ImageLibrary) != bool(colon):
        raise ValueError(f"data set must be one of {', '.join(image_set_names())}, got {name!r}")
    return entry
