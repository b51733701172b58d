"""A directory is kept from all others for a time: by a lock on a disk, by a lease in a bucket."""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any

from experiments.places import file_system, is_bucket
from experiments.storage import read_bytes, write_bytes

_FILE = ".lock"
_EVERY = 60.0  # seconds between two renewals of a lease
_STALE = 180.0  # seconds after which a lease that was not renewed is free
_SETTLED = 2.0  # seconds after which all who took a stale lease at the same time have written theirs


def _end(line: str) -> None:
    os.write(2, f"error: {line}\n".encode())
    os._exit(2)


@contextlib.contextmanager
def locked(directory: PurePath, *, lost: Callable[[str], Any] = _end) -> Iterator[None]:
    """Keep a directory, which is made if missing, from all others that lock it for the time of the context.

    Args:
        directory: on a disk or in a bucket.
        lost: called, from a thread, with a line where the lease of a bucket was lost, so that what is written from
            now on may be over what another writes; by default it ends this process.

    Raises:
        ValueError: if another process, or another part of this one, has locked it.
    """
    with _leased(directory, lost) if is_bucket(directory) else _locked(Path(directory)):
        yield


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / _FILE
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
        file.write(_this_process())
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _leased(directory: PurePath, lost: Callable[[str], Any]) -> Iterator[None]:
    """A lease is an object with an owner and a time, which its owner renews; one that is stale is taken over."""
    path, owner = directory / _FILE, uuid.uuid4().hex
    _take(path, owner)
    done = threading.Event()
    thread = threading.Thread(target=_keep, args=(path, owner, done, lost), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(Exception):  # what went wrong in the context says more
            if (_read(path) or {}).get("owner") == owner:
                files, inner = file_system(path)
                files.rm_file(inner)


def _take(path: PurePath, owner: str) -> None:
    there = _read(path)
    if there is None:
        files, inner = file_system(path)
        with contextlib.suppress(
            FileExistsError
        ):  # by another that was faster; or by this, which was told too late
            files.pipe_file(inner, _lease(owner), mode="create")
    elif _is_free(there):
        write_bytes(path, _lease(owner))
        time.sleep(_SETTLED)
    there = _read(path) or {}
    if there.get("owner") != owner:
        ago = max(0, round(time.time() - there.get("time", 0)))
        holder = there.get("process", "another process")
        raise ValueError(
            f"{path.parent} is in use by {holder}, which said so {ago} s ago; wait for it,"
            f" or choose another --out; if it is gone, the directory is free {_STALE:.0f} s after that"
        )


def _keep(path: PurePath, owner: str, done: threading.Event, lost: Callable[[str], Any]) -> None:
    """Renew the lease until the work is done, or it is found to be lost."""
    renewed = time.monotonic()
    while not done.wait(_EVERY):
        with contextlib.suppress(Exception):  # the bucket may be reached again the next time
            if (_read(path) or {}).get("owner") != owner:
                lost(f"{path.parent} was taken over by another process, as this one was not heard of; wait for it")
                return
            write_bytes(path, _lease(owner))
            renewed = time.monotonic()
        if time.monotonic() - renewed >= _STALE:
            lost(f"{path.parent} could not be reached for {_STALE:.0f} s, and may be another's; start again")
            return


def _lease(owner: str) -> bytes:
    values = {
        "owner": owner,
        "process": _this_process(),
        "time": time.time(),
        "where": _where(),
        "pid": os.getpid(),
    }
    return json.dumps(values).encode()


def _read(path: PurePath) -> dict[str, Any] | None:
    try:
        return json.loads(read_bytes(path))
    except FileNotFoundError:
        return None
    except ValueError:  # something else
        return {}


def _is_free(lease: dict[str, Any]) -> bool:
    """Whether a lease is stale, or of a process of this machine that is no more."""
    if not abs(time.time() - lease.get("time", 0)) < _STALE:
        return True
    if not lease["where"] or lease["where"] != _where():
        return False
    try:
        os.kill(lease["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _where() -> str:
    """Where the number of a process is of one alone: this machine since it was started, and this container."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""  # a system without them: a lease is free when it is stale
