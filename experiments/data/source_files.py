"""The files of a data set: found, read and checked; and the checksum of what was read.

Whatever is wrong with a file is a ``ValueError`` that names the path.
"""

import gzip
import lzma
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import SupportsBytes

import numpy as np

# The files that a data set wants: from the name shown to the user to the accepted relative paths, best first.
WantedFiles = Mapping[str, Sequence[str]]

# What every reader of images returns: train images, train labels, test images, test labels.
ImageSplits = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

EMBEDDED = Path(__file__).parent / "embedded"  # the data sets that come with the code

# From the first bytes of a compressed file to the name of its format and what decompresses it.
COMPRESSED = {b"\x1f\x8b": ("gzip", gzip.decompress), b"\xfd7zXZ\0": ("xz", lzma.decompress)}
LISTED = 8  # how many of a directory's entries an error message shows


def choose_directory(name: str, given: str | Path | None, wanted: WantedFiles, included: Path | None) -> Path:
    """The directory that holds the files of a data set.

    Args:
        name: of the data set, for the messages.
        given: the directory that the user named, ``~`` for the home directory; None if there is none.
        wanted: the files, for the messages.
        included: where the files lie if they come with the code; None if the user has to name a directory.

    Returns:
        ``included``, or the directory that was given.

    Raises:
        ValueError: there is none, or one was given for a data set that comes with the code.

    Example:
        >>> choose_directory("mine", "data", {"mine.txt": ["mine.txt"]}, included=None).name
        'data'
    """
    if included is not None and given is not None:
        raise ValueError(f"data_dir must not be given for {name}, which comes with the code, got {given}")
    directory = included or given
    if directory is None:
        raise ValueError(
            f"data_dir (--data-dir) must be a directory with {', '.join(wanted)} for {name}, got none"
        )
    return Path(directory).expanduser()


def own_path(kind: str, name: str, given: str | Path | None) -> Path:
    """Where data of one's own lies, which is called ``KIND:NAME``.

    Args:
        kind: of the data, for the messages.
        name: the path, ``~`` for the home directory.
        given: the directory that a relative path begins at; None for the working directory.

    Returns:
        The path.

    Raises:
        ValueError: an empty name, or a directory for an absolute path.

    Example:
        >>> own_path("npz", "mine.npz", "data").parts
        ('data', 'mine.npz')
    """
    path = Path(name).expanduser()
    if not name:
        raise ValueError(f"data set must be {kind}: with the path of it behind the colon, got '{kind}:'")
    if given is not None and path.is_absolute():
        raise ValueError(f"data_dir must not be given for {kind}:{name}, an absolute path, got {given}")
    return path if given is None else Path(given).expanduser() / path


def find_files(directory: Path, wanted: WantedFiles) -> list[Path]:
    """Find the wanted files of a directory, one path for each.

    Args:
        directory: where to look.
        wanted: the files.

    Returns:
        The first existing path of every wanted file, in the order of ``wanted``.

    Raises:
        ValueError: ``directory`` is not one, or files are missing: all of them are named.

    Example:
        >>> [path.name for path in find_files(EMBEDDED, {"readme": ["README.txt", "README.md"]})]
        ['README.md']
    """
    if not directory.is_dir():
        found_instead = "a file" if directory.exists() else "nothing there"
        raise ValueError(f"{directory}: must be a directory with {', '.join(wanted)}, got {found_instead}")
    found = {
        shown: next((directory / name for name in names if (directory / name).is_file()), None)
        for shown, names in wanted.items()
    }
    missing = [shown for shown, path in found.items() if path is None]
    if missing:
        raise ValueError(
            f"{directory}: must hold {', '.join(missing)} ({len(missing)} of {len(wanted)} files are missing), "
            f"got {listing(directory)}"
        )
    return [path for path in found.values() if path is not None]


def read_bytes(path: Path) -> bytes:
    """Read a whole file, decompressed if its content is gzip or xz, whatever its name says.

    Args:
        path: the file.

    Returns:
        The (decompressed) bytes.

    Raises:
        ValueError: the file cannot be read, or its compressed stream is truncated or damaged.

    Example:
        >>> read_bytes(EMBEDDED / "state_of_the_union.train.txt.xz")[:15]
        b'To the Congress'
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: must be a readable file, got: {error.strerror}") from error
    kind, decompress = next((how for magic, how in COMPRESSED.items() if data.startswith(magic)), ("", bytes))
    try:
        return decompress(data)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(
            f"{path}: must be a whole {kind} file, got {len(data)} bytes, truncated or damaged: {error}"
        ) from error


def check_size(path: Path, found: int, expected: int, what: str) -> None:
    """Raise unless a file has exactly the expected number of (decompressed) bytes.

    Args:
        path: the file, for the message.
        found: its number of bytes.
        expected: the number it must have.
        what: what the expected bytes are, for the message.

    Raises:
        ValueError: the file is shorter (truncated) or longer (oversized).
    """
    if found != expected:
        problem = "truncated" if found < expected else "oversized"
        raise ValueError(f"{path}: must have {expected} bytes ({what}), got {found} ({problem})")


def check_counts(images_path: Path, images: np.ndarray, labels_path: Path, labels: np.ndarray) -> None:
    """Raise unless there is one label for every image.

    Args:
        images_path: where the images come from, for the message.
        images: [N, ...].
        labels_path: where the labels come from, for the message.
        labels: [N].

    Raises:
        ValueError: the numbers differ.
    """
    if len(images) != len(labels):
        raise ValueError(
            f"{labels_path}: must hold {len(images)} labels, as many as {images_path} images, got {len(labels)}"
        )


def checksum(*parts: np.ndarray | SupportsBytes) -> str:
    """Eight hexadecimal digits that tell one split of a data set from another (CRC-32).

    Args:
        parts: all that the split is: its images and labels, or its vocabulary and tokens. Their bytes count, one
            part after the other, and their order.

    Returns:
        The digits. See ``ImageDataset.checksum`` and ``Corpus.checksum`` for those of a split.

    Example:
        >>> checksum(np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 1], np.int32))
        '51505ad4'
    """
    value = 0
    for part in parts:
        value = zlib.crc32(bytes(part), value)
    return f"{value:08x}"


def listing(directory: Path) -> str:
    """The first entries of a directory, for a message.

    Args:
        directory: the directory.

    Returns:
        Their names, and how many there are more.

    Example:
        >>> "README.md" in listing(EMBEDDED)
        True
    """
    names = sorted(entry.name for entry in directory.iterdir())
    shown = ", ".join(names[:LISTED]) or "an empty directory"
    return f"{shown} and {len(names) - LISTED} more" if len(names) > LISTED else shown
