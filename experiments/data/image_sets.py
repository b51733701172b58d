"""The table of image classification sets: where their files are and how they are read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.data import cifar, mnist, svhn
from experiments.data.own_images import read_folder_set, read_npz, read_npz_set
from experiments.data.records import ImageRecords
from experiments.data.source_files import EMBEDDED, ImageSplits, WantedFiles
from experiments.data.tfds import open_tfds, read_tfds

EMBEDDED_FILE = "fashion_mnist_mini.npz"


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
    """A library or a format of many sets of images, called ``ENTRY:NAME``: an entry of ``IMAGE_SETS``.

    Args:
        read: from the name in the library, the directory where it keeps its sets (None: its own default) and
            whether to download a set that is not there, to the splits and the number of classes.
        names: what the names are, for the help.
        open: from the same to its records, for sets larger than memory; None if they can only be read whole.
    """

    read: Callable[[str, Path | None, bool], tuple[ImageSplits, int]]
    names: str = "NAME"
    open: Callable[[str, Path | None, bool], ImageRecords] | None = None


# Every set by name. Whoever adds an entry can load it, and train on it, by that name.
IMAGE_SETS: dict[str, ImageFiles | ImageLibrary] = {
    "embedded": ImageFiles(
        lambda paths: read_npz(paths[0]), {EMBEDDED_FILE: [EMBEDDED_FILE]}, num_classes=10, included=EMBEDDED
    ),
    "mnist": ImageFiles(mnist.read_mnist, mnist.FILES, num_classes=10),
    "fashion_mnist": ImageFiles(mnist.read_mnist, mnist.FILES, num_classes=10),
    "cifar10": ImageFiles(cifar.CIFAR10.read, cifar.CIFAR10.files, num_classes=10),
    "cifar100": ImageFiles(cifar.CIFAR100.read, cifar.CIFAR100.files, num_classes=100),
    "svhn": ImageFiles(svhn.read_svhn, svhn.FILES, num_classes=10),
    "tfds": ImageLibrary(read_tfds, open=open_tfds),
    "npz": ImageLibrary(read_npz_set, names="FILE"),
    "folder": ImageLibrary(read_folder_set, names="DIRECTORY"),
}


def image_set_names() -> list[str]:
    """All names of sets; ``ENTRY:NAME`` stands for those of a library or a format.

    Example:
        >>> image_set_names()[5:]
        ['svhn', 'tfds:NAME', 'npz:FILE', 'folder:DIRECTORY']
    """
    return [
        f"{name}:{entry.names}" if isinstance(entry, ImageLibrary) else name for name, entry in IMAGE_SETS.items()
    ]


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
