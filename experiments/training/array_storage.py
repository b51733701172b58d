"""The library that writes the arrays of checkpoints, tensorstore, reaches a bucket by itself, not by epath."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from etils import epath

from experiments.places import is_bucket

_NO_NEWS = b"Could not find the credentials file in the standard gcloud location"


def require_supported(directory: epath.Path) -> None:
    """Raise ``ValueError`` for a bucket to which orbax writes no arrays."""
    if is_bucket(directory) and not str(directory).startswith("gs://"):
        raise ValueError(f"checkpoints must be on a disk or in gs://, got {directory}: orbax writes no others")


def require_reachable(directory: epath.Path) -> None:
    """See that arrays can be read from a bucket, with rights that are looked for where those of epath may not be.

    Raises:
        OSError: if they cannot.
    """
    if not is_bucket(directory):
        return
    import tensorstore  # noqa: PLC0415  # not needed for a disk

    with _without_line(_NO_NEWS):  # said once, on every machine that has its rights from elsewhere
        try:
            tensorstore.KvStore.open(f"{directory}/").result().read("nothing").result()
        except ValueError as error:
            raise OSError(f"{directory} cannot be reached by tensorstore: {str(error).splitlines()[0]}") from error


@contextlib.contextmanager
def _without_line(text: bytes) -> Iterator[None]:
    """Let whatever is written to the standard error pass but for lines with this text, also if C++ writes it."""
    sys.stderr.flush()
    written = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(written, 2)
            os.close(written)
            file.seek(0)
            for line in file:
                if text not in line:
                    os.write(2, line)
