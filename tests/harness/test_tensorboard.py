"""Event files: what TensorBoard reads in them, each number once, whatever was interrupted."""

import importlib.util
import struct

import pytest

from experiments.harness.command_line import RunOutput
from experiments.harness.tensorboard import require_tensorboard, write_events


def lines(*steps):
    return [{"epoch": 1 + step // 10, "step": step, "loss": 1 / (1 + step), "words": "none"} for step in steps]


def read(directory):
    """(step, tag, value) of all events, in the order that TensorBoard reads them in."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = []
    for path in sorted(directory.iterdir()):
        data, at, events = path.read_bytes(), 0, []
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            events.append(event_pb2.Event.FromString(data[at + 12 : at + 12 + length]))
            at += length + 16  # 8 and 4 before it, 4 after it
        assert events[0].file_version == "brain.Event:2"
        found += [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]
    return found


@pytest.fixture
def written(tmp_path):
    pytest.importorskip("tensorboardX")

    def write(*steps):
        write_events(tmp_path / "events", lines(*steps))
        return [(step, tag) for step, tag, _ in read(tmp_path / "events")]

    return write


def curves(*steps):
    return [(step, tag) for step in steps for tag in ("epoch", "loss")]


def test_new_lines_are_added_and_what_is_there_stays(written, tmp_path):
    assert written(5) == curves(5)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "events").iterdir()}
    assert written(5, 10, 15) == curves(5, 10, 15)
    assert written(5, 10, 15) == curves(5, 10, 15)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert len(list((tmp_path / "events").iterdir())) == 2
    assert read(tmp_path / "events")[1][2] == pytest.approx(1 / 6)  # float32


def test_what_is_done_again_is_there_once(written):
    written(5, 10)
    written(5, 10, 15, 20)
    assert written(5, 10, 15) == curves(5, 10, 15)  # a checkpoint at 15, or the one before the newest
    assert written(5) == curves(5)  # of a file that went on to 10
    assert written(5, 10, 15, 20) == curves(5, 10, 15, 20)


def test_records_have_the_checksums_that_readers_verify(written, tmp_path):
    # CRC-32C of the eight bytes 0..7 by the definition, bit by bit, to hold the masked sum of the length against.
    def crc(data):
        value = 0xFFFFFFFF
        for byte in data:
            value ^= byte
            for _ in range(8):
                value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        value ^= 0xFFFFFFFF
        return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF

    written(5)
    (path,) = (tmp_path / "events").iterdir()
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    assert struct.unpack_from("<I", data, 8) == (crc(data[:8]),)
    assert struct.unpack_from("<I", data, 12 + length) == (crc(data[12 : 12 + length]),)


def test_a_missing_package_is_named_before_any_work(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    RunOutput().check()
    message = r"--tensorboard needs the package tensorboardX: pip install '.\[tensorboard\]'"
    with pytest.raises(ValueError, match=message):
        require_tensorboard()
    with pytest.raises(ValueError, match=message):
        RunOutput(tensorboard=True).check()
    with pytest.raises(ValueError, match="--log-every must be at least 1"):
        RunOutput(log_every=0).check()
