"""Where the files of a run lie: on a disk, or in a bucket (``gs://``, ``s3://``), by etils.epath."""

import importlib.util
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from etils import epath

FILE_SYSTEMS = {"gs": "gcsfs", "s3": "s3fs"}  # by the scheme of a bucket, the package that has it

# epath would take TensorFlow for buckets where it is installed, which takes the memory of the accelerator.
os.environ.setdefault("EPATH_USE_TF", "false")


def place(name: str | PurePath) -> Any:
    """The path of what is named, on a disk or in a bucket; :func:`require_usable` says whether it can be used.

    Example:
        >>> str(place("gs://bucket/run") / "config.json")
        'gs://bucket/run/config.json'
    """
    if not is_bucket(name):
        return epath.Path(PurePosixPath(name))
    _prepare_file_systems()
    return epath.Path(name)


def is_bucket(path: str | PurePath) -> bool:
    """Whether a path is in a bucket."""
    return str(path).startswith(tuple(f"{scheme}://" for scheme in FILE_SYSTEMS))


def require_usable(path: PurePath) -> None:
    """Raise ``ValueError`` for an address that is none, and where the package of its file system is missing."""
    scheme, _, rest = str(path).partition("://")
    if not is_bucket(path):
        if re.match(r"[a-z][a-z0-9+.-]*:/", str(path)):
            addresses = " or ".join(f"{each}://BUCKET/PATH" for each in FILE_SYSTEMS)
            raise ValueError(f"a place must be a path of a disk, {addresses}, got {path}")
    elif not all(rest.partition("/")[::2]):
        raise ValueError(f"a place in a bucket must be {scheme}://BUCKET/PATH, got {path}")
    elif importlib.util.find_spec(package := FILE_SYSTEMS[scheme]) is None:
        raise ValueError(f"{path} needs the package {package}, which is not installed: it is in the extra cloud")


def require_local(path: PurePath) -> None:
    """Raise ``ValueError`` for a path that was meant to be an address."""
    if match := re.match(r"([a-z][a-z0-9+.-]*):/+", str(path)):
        address = f"{match[1]}://{str(path)[match.end() :]}"
        raise ValueError(f"data must be in a directory of a disk, got {address}; copy it to one first")


def absolute(path: PurePath) -> Any:
    """The same for all names of a place."""
    return path if is_bucket(path) else place(os.path.realpath(path))


def file_system(path: PurePath) -> tuple[Any, str]:
    """The fsspec file system of a bucket, and what it calls the path."""
    import fsspec  # noqa: PLC0415  # not needed for a disk

    _prepare_file_systems()
    scheme, _, inner = str(path).partition("://")
    return fsspec.filesystem(scheme), inner


def named_below(directory: PurePath, name: str) -> Iterator[Any]:
    """All files of a name in a directory, and in those below it."""
    if not is_bucket(directory):
        yield from map(place, Path(directory).rglob(name))
        return
    files, inner = file_system(directory)
    scheme = str(directory).partition("://")[0]
    yield from (place(f"{scheme}://{found}") for found in files.find(inner) if PurePosixPath(found).name == name)


def is_of_bucket(error: Exception) -> bool:
    """Whether an error is one of the packages that reach buckets: no such rights, no connection."""
    packages = {*FILE_SYSTEMS.values(), "aiohttp", "aiobotocore", "botocore", "google", "requests"}
    return type(error).__module__.partition(".")[0] in packages


def _prepare_file_systems() -> None:
    """Look for what is there, not for what was when a directory was last listed; and in silence."""
    import fsspec.config  # noqa: PLC0415

    for scheme in (*FILE_SYSTEMS, "gcs"):
        fsspec.config.conf.setdefault(scheme, {})["use_listings_cache"] = False
    logging.getLogger("gcsfs").addFilter(_is_not_of_bucket_type)  # which is the same filter each time


def _is_not_of_bucket_type(record: logging.LogRecord) -> bool:
    """Not the line, at each call, that a bucket may not say of which type it is; it is taken for a plain one."""
    return not str(record.msg).startswith(("Could not determine bucket type", "Could not determine if bucket"))
