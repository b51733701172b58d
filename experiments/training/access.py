"""Which failures to read a checkpoint are of the way to it, and say nothing of what it holds."""

import errno
import os
import re
import socket
from collections.abc import Iterator
from pathlib import PurePath

from experiments.places import is_bucket, is_of_bucket

# Not EIO, by which a disk says that what it holds is lost.
_NUMBERS = frozenset(
    getattr(errno, name)
    for name in (
        "EACCES", "EPERM", "ESTALE", "ENOMEM", "EMFILE", "ENFILE", "ENOBUFS", "EAGAIN", "EINTR", "EBUSY", "ENOLCK",
        "ETIMEDOUT", "ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "ENOTCONN", "EPIPE", "ESHUTDOWN", "EHOSTDOWN",
        "EHOSTUNREACH", "ENETDOWN", "ENETRESET", "ENETUNREACH",
    )
)  # fmt: skip
_KINDS = (MemoryError, TimeoutError, ConnectionError, PermissionError, socket.gaierror)
# In the texts of tensorstore and gRPC; the last is gcsfs's, of an error that has neither a number nor a kind.
_STATUSES = re.compile(
    r"\b(UNAVAILABLE|DEADLINE_EXCEEDED|PERMISSION_DENIED|UNAUTHENTICATED|RESOURCE_EXHAUSTED)\b|^Forbidden: "
)
_QUOTED_NUMBER = re.compile(r"os_error_code='(\d+)'")  # by tensorstore, where the system has said why


def of_access(error: BaseException) -> BaseException | None:
    """That of an error and those it came of which is of the way, if any: no connection, no rights, no memory."""
    return next(filter(_is_of_access, _with_causes(error)), None)


def of_access_below(directory: PurePath) -> BaseException | None:
    """The error of the way by which something in a directory of a disk cannot be opened, if any.

    Whoever asks whether a file exists is told that it does not where the disk cannot be asked, too, so that an
    error may say that it is missing.
    """
    if is_bucket(directory):
        return None
    try:
        for folder, _, names in os.walk(directory, onerror=_raise):
            for name in names:
                with open(os.path.join(folder, name), "rb"):
                    pass
    except OSError as error:
        return of_access(error)
    return None


def quoted_reason(text: str) -> str | None:
    """What the system says, where the text of an error of tensorstore quotes its number, late in many words."""
    number = _quoted_number(text)
    return os.strerror(number) if number is not None and number in _NUMBERS else None


def _is_of_access(error: BaseException) -> bool:
    if isinstance(error, _KINDS) or (isinstance(error, Exception) and is_of_bucket(error)):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _NUMBERS
    text = str(error)
    number = _quoted_number(text)
    return number in _NUMBERS if number is not None else _STATUSES.search(text) is not None


def _quoted_number(text: str) -> int | None:
    match = _QUOTED_NUMBER.search(text)
    return int(match[1]) if match else None


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _raise(error: OSError) -> None:
    raise error
