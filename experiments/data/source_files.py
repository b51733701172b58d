"""Finding and reading the files of a data set. Whatever is wrong is a ``ValueError`` that names the path."""

import gzip
import lzma
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

# What every reader returns: train images, train labels, test images, test labels.
Splits = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

# From the first bytes of a compressed file to the name of its format and what decompresses it.
COMPRESSED = {b"\x1f\x8b": ("gzip", gzip.decompress), b"\xfd7zXZ\0": ("xz", lzma.decompress)}
LISTED = 8  # how many of a directory's entries an error message shows


def find_files(directory: Path, wanted: Mapping[str, Sequence[str]]) -> list[Path]:
    """Find the wanted files of a directory, one path for each.

    Args:
        directory: where to look.
        wanted: from the name shown to the user to the accepted relative paths, best first.

    Returns:
        The first existing path of every wanted file, in the order of ``wanted``.

    Raises:
        ValueError: ``directory`` is not one, or files are missing: all of them are named.
    """
    if not directory.is_dir():
        raise ValueError(f"{directory}: not a directory; expected one with {', '.join(wanted)}")
    found = {
        shown: next((directory / name for name in names if (directory / name).is_file()), None)
        for shown, names in wanted.items()
    }
    missing = [shown for shown, path in found.items() if path is None]
    if missing:
        raise ValueError(
            f"{directory}: missing {', '.join(missing)} ({len(missing)} of {len(wanted)} files); "
            f"found {_listing(directory)}"
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
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    kind, decompress = next((how for magic, how in COMPRESSED.items() if data.startswith(magic)), ("", bytes))
    try:
        return decompress(data)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{path}: truncated or damaged {kind} file of {len(data)} bytes: {error}") from error


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
        raise ValueError(f"{path}: {problem}: {found} bytes, expected {expected} ({what})")


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
            f"{labels_path}: {len(labels)} labels, expected {len(images)}, the number of images in {images_path}"
        )


def _listing(directory: Path) -> str:
    names = sorted(entry.name for entry in directory.iterdir())
    shown = ", ".join(names[:LISTED]) or "an empty directory"
    return f"{shown} and {len(names) - LISTED} more" if len(names) > LISTED else shown
