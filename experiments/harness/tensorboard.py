"""Numbers of a run for TensorBoard, each once, in files that are written whole.

The package is tensorboardX, the lightest that has the format: it needs NumPy and protobuf, where ``tensorboard``
brings a server, and ``clu`` and flax's own writer bring TensorFlow. Its records are taken, not its writer, which
appends to a file as long as a process lives: what an interrupted run does again would be there twice.
"""

import importlib.util
import numbers
import struct
import time
from collections.abc import Iterator, Sequence

from etils import epath

from experiments.storage import remove, write_bytes
from experiments.training.phase import Line

_NAME = "events.out.tfevents."  # by which TensorBoard knows its files, which it reads in the order of their names


def require_tensorboard() -> None:
    """Raise ``ValueError`` where the package is missing."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise ValueError("--tensorboard needs the package tensorboardX: pip install '.[tensorboard]'")


def write_events(directory: epath.Path, lines: Sequence[Line]) -> None:
    """Add a file with what is new in the lines; what goes beyond them, as it is done again, is removed.

    Args:
        directory: of these lines alone, made if missing; each file is named by the step that it goes up to.
        lines: all so far, in ascending order of their ``step``; each other number is a curve.
    """
    last = lines[-1]["step"] if lines else -1
    there = {int(path.name.removeprefix(_NAME)): path for path in directory.glob(f"{_NAME}*[0-9]")}
    for step, path in there.items():
        if step > last:
            remove(path)
    done = max((step for step in there if step <= last), default=-1)
    if done < last:
        new = [line for line in lines if line["step"] > done]
        write_bytes(directory / f"{_NAME}{last:012d}", b"".join(map(_framed, _events(new))))


def _events(lines: Sequence[Line]) -> Iterator[bytes]:
    from tensorboardX.proto.event_pb2 import Event  # noqa: PLC0415  # an extra
    from tensorboardX.proto.summary_pb2 import Summary  # noqa: PLC0415

    now = time.time()
    yield Event(wall_time=now, file_version="brain.Event:2").SerializeToString()
    for line in lines:
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in line.items()
            if name != "step" and isinstance(value, numbers.Real)
        ]
        yield Event(wall_time=now, step=line["step"], summary=Summary(value=values)).SerializeToString()


def _framed(record: bytes) -> bytes:
    """A record as TFRecord files have it: its length and itself, each with a masked CRC-32C."""
    from tensorboardX.record_writer import masked_crc32c  # noqa: PLC0415

    length = struct.pack("<Q", len(record))
    return b"".join(
        [length, struct.pack("<I", masked_crc32c(length)), record, struct.pack("<I", masked_crc32c(record))]
    )
