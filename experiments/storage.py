"""Files that are whole or not there, on a disk or in a bucket, and are named when they are damaged."""

import contextlib
import errno
import fcntl
import io
import json
import math
import os
import re
import secrets
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from experiments.places import file_system, is_bucket, place


def write_bytes(path: PurePath, content: bytes) -> None:
    """Write a file; readers see the old one or the new one, never a part of it.

    On a disk it is written beside what it replaces, and is on the disk itself before it takes its place. In a
    bucket an object appears once all of it is there. Of several that write it at once, the last to end has it.
    """
    if is_bucket(path):
        files, inner = file_system(path)
        files.pipe_file(inner, content)
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_beside(path)
    beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")  # each writer has its own
    try:
        with beside.open("xb") as file:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else the name may reach the disk before what it stands for
            os.replace(beside, path)
        with contextlib.suppress(OSError):  # not every file system does so for a directory
            _sync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: PurePath, text: str) -> None:
    """Write a text in UTF-8, as :func:`write_bytes` does."""
    write_bytes(path, text.encode())


def read_bytes(path: PurePath) -> bytes:
    """All of a file as it was at one time, though another may be writing it.

    Raises:
        FileNotFoundError: if there is none.
    """
    if is_bucket(path):
        # In one request: opened as a file, it is asked for its size first, and cut there if it has grown since.
        files, inner = file_system(path)
        return files.cat_file(inner)
    return Path(path).read_bytes()


def write_json(path: PurePath, value: Any) -> None:
    """Write a value as indented JSON; a number that is not finite becomes ``null``, as JSON has no name for it.

    A list of numbers or words is one line, so that a file can be read, and its changes too.
    """
    write_text(path, _indented(_without_nan(value)) + "\n")


def write_json_lines(path: PurePath, values: Sequence[Any]) -> None:
    """Write one line of JSON for each value; a file that holds just that is left alone."""
    text = "".join(json.dumps(_without_nan(value), allow_nan=False) + "\n" for value in values)
    if not place(path).exists() or read_bytes(path) != text.encode():
        write_text(path, text)


def read_json_lines(path: PurePath) -> list[Any]:
    """The values that :func:`write_json_lines` wrote; none where there is no file.

    Raises:
        ValueError: naming the file, if it is damaged.
    """
    try:
        return [json.loads(line) for line in read_bytes(path).decode().splitlines()]
    except FileNotFoundError:
        return []
    except ValueError as error:  # not JSON, not UTF-8
        raise ValueError(f"{path} is damaged: {error}") from error


def read_json(path: PurePath) -> dict[str, Any]:
    """Read an object from a JSON file.

    Raises:
        ValueError: naming the file, if it is missing or holds anything else.
    """
    try:
        value = json.loads(read_bytes(path))
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist") from error
    except ValueError as error:  # not JSON, not UTF-8
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged: it must hold an object, got {type(value).__name__}")
    return value


def write_arrays(path: PurePath, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as compressed npz."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # its stubs take other keywords for options
    write_bytes(path, content.getvalue())


def read_arrays(path: PurePath, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read arrays of an npz file.

    Args:
        path: of the file.
        names: which; all by default.

    Raises:
        ValueError: naming the file, if it is missing or damaged.
    """
    try:
        # All at once: whoever reads an archive seeks, which a bucket answers with a request each, or not at all.
        with np.load(io.BytesIO(read_bytes(path))) as arrays:
            return {name: arrays[name] for name in (arrays if names is None else names)}
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist") from error
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def remove(path: PurePath) -> None:
    """Remove a file, or a directory with what it holds; nothing happens where there is none."""
    there = place(path)
    if there.is_dir():
        there.rmtree()
    else:
        there.unlink(missing_ok=True)


def user_cache() -> Path:
    """The folder for what can be made again: in ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(folder, "absum-sigsoftmax")


def plain(value: Any) -> Any:
    """A value as it is when it has been written as JSON and read again."""
    return json.loads(json.dumps(_without_nan(value), allow_nan=False))


def require_writable(directory: PurePath) -> None:
    """Make the directory and see that a file can be written in it; ``OSError`` if not."""
    write_bytes(directory / ".writable", bytes(2**16))  # more than a disk keeps in a name
    remove(directory / ".writable")


def require_space(directory: PurePath, needed: int, what: str, *, part_of: Sequence[PurePath] = ()) -> None:
    """See that a disk has so many bytes left; a bucket has no end.

    Args:
        directory: on that disk.
        needed: bytes.
        what: they are for.
        part_of: directories whose files are among these bytes.

    Raises:
        OSError: if it has fewer.
    """
    if is_bucket(directory):
        return
    there = sum(path.stat().st_size for each in part_of for path in Path(each).rglob("*") if path.is_file())
    free = shutil.disk_usage(directory).free
    if free < needed - there:
        raise OSError(
            errno.ENOSPC,
            f"{what} take {_size(needed)}, and its disk has {_size(free)} left; make room, or choose another"
            " --out",
            str(directory),
        )


def _size(count: int) -> str:
    """So many bytes in words, in the largest unit that they fill."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "KB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"


def _remove_left_beside(path: Path) -> None:
    """Remove what writers of a file that were killed have left beside it: what is being written is locked."""
    name = re.compile(re.escape(path.name) + r"\.[0-9a-f]{16}\.tmp")
    for left in [each for each in path.parent.iterdir() if name.fullmatch(each.name)]:
        with contextlib.suppress(OSError), left.open("r+b") as file:  # locked, gone by now, or somebody else's
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_size:  # one that is empty may just be about to be locked
                left.unlink()


def _sync(path: PurePath) -> None:
    """Wait until a file, or the names in a directory, are on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _indented(value: Any, indent: str = "") -> str:
    inner = f"{indent}  "
    if isinstance(value, Mapping) and value:
        brackets = "{}"
        parts = [f"{json.dumps(str(name))}: {_indented(each, inner)}" for name, each in value.items()]
    elif isinstance(value, list | tuple) and any(isinstance(each, Mapping | list | tuple) for each in value):
        brackets = "[]"
        parts = [_indented(each, inner) for each in value]
    else:
        return json.dumps(value, allow_nan=False)
    lines = ",\n".join(f"{inner}{part}" for part in parts)
    return f"{brackets[0]}\n{lines}\n{indent}{brackets[1]}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
