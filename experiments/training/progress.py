"""Progress of long work: a bar on a terminal, plain lines elsewhere, silence on all processes but the first."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from experiments.training.devices import is_main_process

if TYPE_CHECKING:
    from rich.progress import Progress


class ProgressReport:
    """A context manager that counts up to ``total`` and shows rate and time left, or nothing where all was done.

    Args:
        label: what is being done.
        total: number of units of work.
        unit: their name, for the rate.
        done: units that an earlier run has done already.
        every: seconds between plain lines.
    """

    def __init__(self, label: str, total: int, unit: str, *, done: int = 0, every: float = 10.0) -> None:
        self.label, self.total, self.unit, self.every = label, total, unit, every
        self.done, self._before, self._start, self._last = done, done, time.monotonic(), time.monotonic()
        self._bar: Progress | None = None
        self._shown = is_main_process()

    def __enter__(self) -> Self:
        """Start the clock."""
        if self._shown and self.done < self.total and sys.stderr.isatty():
            self._bar = _new_bar()
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, completed=self.done, rate="")
        self._start = self._last = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the bar, or print how long it took."""
        if self._bar is not None:
            self._bar.stop()
        elif self._shown and kind is None and self.done > self._before:
            seconds = time.monotonic() - self._start
            print(f"{self.label}: {self.done}/{self.total} {self.unit} in {seconds:.1f} s", file=sys.stderr)

    @property
    def rate(self) -> float:
        """Units per second since the start of this process's work."""
        return (self.done - self._before) / max(time.monotonic() - self._start, 1e-9)

    def advance(self, amount: int, note: str = "") -> None:
        """Count ``amount`` more units as done; ``note`` is shown beside them."""
        self.done += amount
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=f"{self.rate:.0f} {self.unit}/s {note}")
        elif self._shown and time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            so_far = f"{self.label}: {self.done}/{self.total} {self.unit}"
            if self.rate > 0:
                left = (self.total - self.done) / self.rate
                so_far += f", {self.rate:.0f} {self.unit}/s, {left:.0f} s left"
            print(f"{so_far}{note and ', '}{note}", file=sys.stderr, flush=True)


def _new_bar() -> "Progress":
    """The bar; rich is not installed everywhere, nor wanted where nobody looks."""
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    rate = TextColumn("{task.fields[rate]}")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn()
    return Progress(*columns, refresh_per_second=4)
