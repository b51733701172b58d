"""Lines of numbers within epochs, of so many steps each: every step in one of them, whatever was interrupted.

They are written before each checkpoint. What an interrupted run wrote beyond its checkpoint is cut off, and comes
again when its steps do; the steps since the last line are in the checkpoint's position, as their sums.
"""

import sys
import time
from collections.abc import Callable, Sequence

from experiments.training.devices import is_main_process
from experiments.training.phase import Line
from experiments.training.position import Position
from experiments.training.task import Metrics, add, compute

_SECONDS = 30  # at least, between two times that lines are written while nothing is saved


class StepLog:
    """The lines so far, which the first process keeps and writes.

    Args:
        every: steps of a line; the last of an epoch is of those that are left.
        write: called with all lines so far.
        before: gives those that an earlier process wrote.
        step: of the checkpoint that this one goes on from.
    """

    def __init__(
        self,
        every: int,
        write: Callable[[Sequence[Line]], None],
        before: Callable[[], Sequence[Line]],
        *,
        step: int,
    ) -> None:
        self._every, self._write, self._lines = every, write, _up_to(step, before) if is_main_process() else []
        self._written = time.monotonic()

    def add(self, position: Position, step: int, metrics: Metrics) -> None:
        """Take a step that is done, with its metrics as host values.

        Args:
            position: of the epoch that it is of; keeps the sums.
            step: how many are done with it, of all.
            metrics: of this step.
        """
        position.recent = add(position.recent, metrics)
        position.recent_steps += 1
        if position.recent_steps >= self._every:
            self.end(position, step)
            if time.monotonic() - self._written > _SECONDS:
                self.write()

    def end(self, position: Position, step: int) -> None:
        """Make a line of the steps since the last one, if there are any."""
        if position.recent_steps and is_main_process():
            self._lines.append({"epoch": position.epoch + 1, "step": step, **compute(position.recent)})
        position.recent, position.recent_steps = {}, 0

    def write(self) -> None:
        """Write what there is; before a checkpoint is, which vouches for it."""
        if is_main_process():
            self._write(self._lines)
            self._written = time.monotonic()


def _up_to(step: int, before: Callable[[], Sequence[Line]]) -> list[Line]:
    try:
        return [line for line in before() if line["step"] <= step]
    except (ValueError, KeyError, TypeError) as error:  # damaged: no number of the network is lost with them
        print(f"{error}; its lines up to step {step} are lost", file=sys.stderr)
        return []
