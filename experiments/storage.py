"""Files that are whole or not there, as they are written beside and renamed, and are named when damaged; locks."""

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
import socket
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of ``path`` once everything is written, and is removed if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    try:
        yield beside
        _sync(beside)  # else the name may reach the disk before what it stands for
        os.replace(beside, path)
        with contextlib.suppress(OSError):  # not every file system does so for a directory
            _sync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text; readers see the old file or the new one, never half of it."""
    with replacing(path) as beside:
        beside.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON; a number that is not finite becomes ``null``, as JSON has no name for it."""
    write_text(path, json.dumps(_without_nan(value), indent=2, allow_nan=False) + "\n")


def write_json_lines(path: Path, values: Sequence[Any]) -> None:
    """Write one line of JSON for each value; a file that holds just that is left alone."""
    text = "".join(json.dumps(_without_nan(value), allow_nan=False) + "\n" for value in values)
    if not path.exists() or path.read_bytes() != text.encode():
        write_text(path, text)


def read_json_lines(path: Path) -> list[Any]:
    """The values that :func:`write_json_lines` wrote; none where there is no file.

    Raises:
        ValueError: naming the file, if it is damaged.
    """
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except FileNotFoundError:
        return []
    except ValueError as error:  # not JSON, not UTF-8
        raise ValueError(f"{path} is damaged: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read an object from a JSON file.

    Raises:
        ValueError: naming the file, if it is missing or holds anything else.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist") from error
    except ValueError as error:  # not JSON, not UTF-8
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged: it must hold an object, got {type(value).__name__}")
    return value


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as compressed npz."""
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its stubs take other keywords for options


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an npz file.

    Raises:
        ValueError: naming the file, if it is missing or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:  # else NumPy leaves a damaged file open
            return dict(arrays)
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist") from error
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def remove(path: Path) -> None:
    """Remove a file, or a directory with what it holds; nothing happens where there is none."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """A value as it is when it has been written as JSON and read again."""
    return json.loads(json.dumps(_without_nan(value), allow_nan=False))


def require_writable(directory: Path) -> None:
    """Make the directory and see that a file can be written in it; ``OSError`` if not."""
    write_text(directory / ".writable", " " * 2**16)  # more than a disk keeps in a name
    remove(directory / ".writable")


def require_space(directory: Path, needed: int, what: str, *, part_of: Sequence[Path] = ()) -> None:
    """See that a disk has so many bytes left.

    Args:
        directory: on that disk.
        needed: bytes.
        what: they are for.
        part_of: directories whose files are among these bytes.

    Raises:
        OSError: if it has fewer.
    """
    there = sum(path.stat().st_size for each in part_of for path in each.rglob("*") if path.is_file())
    free = shutil.disk_usage(directory).free
    if free < needed - there:
        raise OSError(
            errno.ENOSPC,
            f"{what} take {needed / 1e6:.1f} MB, and its disk has {free / 1e6:.1f} MB left; make room, or choose"
            " another --out",
            str(directory),
        )


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep a directory, which is made if missing, from all others that lock it for the time of the context.

    Raises:
        ValueError: if another process, or another part of this one, has locked it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / ".lock"
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read() or "another process"
            file.close()
            raise ValueError(f"{directory} is in use by {holder}; wait for it, or choose another --out") from None
        except OSError:  # a file system without locks
            break
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()  # whoever had it has removed it since it was opened
    with file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
