"""Working through items piece by piece, in calls of limited time, with one JSON file for each item.

An item is a function of the :class:`Call` that gives its pieces of work by name, in order. A piece is a function
of nothing that gives plain values. One that takes long looks at ``call.budget`` and raises
:class:`OutOfTimeError` where it can go on the next time.
"""

import dataclasses
import functools
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from benchmarks.table import NotAvailableError
from experiments.harness.report import provenance
from experiments.storage import plain, read_json, write_json

ENDS = 2  # a piece that ended the process so often, by a crash or by a limit from outside, waits for all others


class OutOfTimeError(Exception):
    """The budget is spent; what is done so far is on disk."""


class LeftOutError(Exception):
    """Raised by an item that cannot be worked on as called, with what it needs."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """Time until ``end``, on the clock ``time.monotonic``."""

    end: float

    @classmethod
    def of_minutes(cls, minutes: float) -> "Budget":
        """From now on."""
        return cls(time.monotonic() + 60 * minutes)

    @property
    def seconds_left(self) -> float:
        """Negative when it is spent."""
        return self.end - time.monotonic()

    def require(self) -> None:
        """Raise :class:`OutOfTimeError` if it is spent."""
        if self.seconds_left <= 0:
            raise OutOfTimeError


@dataclasses.dataclass(frozen=True)
class Call:
    """What one call of the command was asked for.

    Args:
        out: directory of the JSON files and of the trained networks.
        budget: the time that it has.
        cifar: images, as ``benchmarks.accelerator.packed_images`` reads them.
        wikitext: directory of WikiText-2 in its standard files.
        tiny: sizes that try the code out and measure nothing.
    """

    out: Path
    budget: Budget
    cifar: Path | None = None
    wikitext: Path | None = None
    tiny: bool = False


Pieces = Mapping[str, Callable[[], Any]]
Item = Callable[[Call], Pieces]


def work_through(items: Mapping[str, Item], call: Call) -> tuple[dict[str, str], int]:
    """Do what is not done yet, in order, until nothing is left or the time is over.

    A piece that fails is recorded with its error and tried again by the next call; the rest goes on.

    Args:
        items: by name; each writes ``NAME.json`` into ``call.out``.
        call: what was asked for.

    Returns:
        What is left, by item; and how many pieces failed in this call.

    Raises:
        ValueError: before anything is done, if a flag of the call does not fit, or a JSON file is damaged or of
            sizes other than those of the call.
    """
    left: dict[str, str] = {}
    opened: list[tuple[Record, Pieces]] = []
    for name, item in items.items():
        record = Record(call.out / f"{name}.json", name, tiny=call.tiny)
        try:
            opened.append((record, item(call)))
        except LeftOutError as reason:
            left[name] = f"left out, {reason}"
            record.write(left_out=str(reason))
    num_failed = 0
    for is_last in (False, True):
        for record, pieces in opened:
            chosen = {
                piece: do
                for piece, do in pieces.items()
                if not record.is_done(piece) and record.ended_the_process(piece) is is_last
            }
            num_failed += _work_on(record, chosen, call.budget)
    for record, pieces in opened:
        waiting = [piece for piece in pieces if not record.is_done(piece)]
        record.write(left=waiting)
        if waiting:
            left[record.item] = f"{len(waiting)} of {len(pieces)} pieces"
    return {name: left[name] for name in items if name in left}, num_failed


def _work_on(record: "Record", pieces: Pieces, budget: Budget) -> int:
    """Do these pieces while there is time; how many failed."""
    num_failed = 0
    for piece, do in pieces.items():
        if budget.seconds_left <= 0:
            break
        record.begin(piece)
        start = time.monotonic()
        outcome: dict[str, Any]
        try:
            outcome, said = {"done": True, "result": plain(do())}, "done"
        except OutOfTimeError:
            outcome, said = {"done": False}, "goes on next time"
        except NotAvailableError as reason:
            outcome, said = {"done": True, "left_out": str(reason)}, f"left out, {reason}"
        except Exception as error:  # whatever it is, it must not keep the rest from being done
            outcome = {"done": False, "error": traceback.format_exc(limit=-3)}
            said = f"failed, {type(error).__name__}: {error}"
            num_failed += 1
        seconds = record.end(piece, time.monotonic() - start, outcome)
        print(f"{record.item}, {piece}: {said} ({seconds:.1f} s)", flush=True)
    return num_failed


class Record:
    """The JSON file of an item: what each piece gave, on which device, in how many seconds over all calls.

    Args:
        path: of the file, which need not exist.
        item: its name.
        tiny: whether sizes are tiny.

    Raises:
        ValueError: if the file is damaged, or of other sizes.
    """

    def __init__(self, path: Path, item: str, *, tiny: bool) -> None:
        self.item, self._path = item, path
        self._values: dict[str, Any] = {"item": item, "tiny": tiny, "pieces": {}}
        if path.exists():
            self._values = read_json(path)
            if self._values.get("tiny") is not tiny or not isinstance(self._values.get("pieces"), dict):
                sizes = "tiny" if tiny else "full"
                raise ValueError(f"{path} must be of {item} with {sizes} sizes, got another; choose another --out")

    def is_done(self, piece: str) -> bool:
        """Whether it came to its end."""
        return bool(self._piece(piece)["done"])

    def ended_the_process(self, piece: str) -> bool:
        """Whether it did so as often as makes it wait for all others."""
        return self._piece(piece)["ends"] >= ENDS

    def begin(self, piece: str) -> None:
        """Note that the piece is begun: that it ends the process is taken back when it does not."""
        values = self._piece(piece)
        self._values["pieces"][piece] = values | {"ends": values["ends"] + 1}
        self.write()

    def end(self, piece: str, seconds: float, outcome: Mapping[str, Any]) -> float:
        """Note what came of it; the seconds that it took so far."""
        device = jax.devices()[0].device_kind
        total = round(self._piece(piece)["seconds"] + seconds, 3)
        self._values["pieces"][piece] = {"device": device, "seconds": total, "ends": 0, **outcome}
        self.write()
        return total

    def _piece(self, piece: str) -> dict[str, Any]:
        return self._values["pieces"].get(piece, {"done": False, "seconds": 0.0, "ends": 0})

    def write(self, **values: Any) -> None:
        """Write all, with these values, and with how this call was made."""
        self._values = self._values | {"left_out": None, **values, "provenance": _provenance()}
        write_json(self._path, self._values)


@functools.cache
def _provenance() -> dict[str, Any]:
    """Of this process, but for what changes while it works."""
    changing = "seconds", "finished", "peak_memory_bytes"
    return {name: value for name, value in provenance(()).items() if name not in changing}
