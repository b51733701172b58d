"""What is asked of the training loop while it runs: to stop, by a signal, or to save, as time has come.

On several processes all have to do so after the same step. What is asked of each rides along with the batch, is
summed over the devices with the metrics, and is read where the metrics are: nothing waits for it.
"""

import math
import time

import numpy as np

from experiments.training.devices import is_alone, is_main_process, largest_of_all
from experiments.training.phase import HostBatch
from experiments.training.signals import STOPPING, Interrupted, received
from experiments.training.step import REQUESTS
from experiments.training.task import Metrics


class Requests:
    """What was asked since the last checkpoint.

    Args:
        minutes: between checkpoints, by the clock of the first process; ``None`` asks for none.
    """

    def __init__(self, minutes: float | None) -> None:
        self._seconds = math.inf if minutes is None else 60 * minutes
        self._agreed = np.zeros(len(STOPPING) + 1, np.float32)
        self._last = time.monotonic()

    def attach(self, batch: HostBatch) -> HostBatch:
        """The batch [local devices, ...], with what is asked of this process where there are others."""
        if is_alone():
            return batch
        return batch | {REQUESTS: np.tile(self._own(), (len(next(iter(batch.values()))), 1))}

    def take(self, metrics: Metrics) -> Metrics:
        """The metrics of a step that is done, without what they say of all processes, which is kept here."""
        if REQUESTS not in metrics:
            return metrics
        self._agreed += np.asarray(metrics[REQUESTS].total)
        return {name: mean for name, mean in metrics.items() if name != REQUESTS}

    @property
    def asked(self) -> bool:
        """Whether anything is asked."""
        return bool(self._all().any())

    @property
    def stopping(self) -> int:
        """The signal that asked to stop, on any process; 0 if none did."""
        *stopping, _ = self._all()
        return max((int(number) for number, count in zip(STOPPING, stopping, strict=True) if count), default=0)

    def answer(self) -> None:
        """Begin anew, as what was asked has been done."""
        self._agreed[:], self._last = 0, time.monotonic()

    def _all(self) -> np.ndarray:
        return self._own() if is_alone() else self._agreed

    def _own(self) -> np.ndarray:
        is_due = is_main_process() and time.monotonic() - self._last >= self._seconds
        return np.array([*(received() == number for number in STOPPING), is_due], np.float32)


def stop_if_asked(saved: str = "what was done before it is kept", *, together: bool = True) -> None:
    """Raise :class:`Interrupted` if a signal has asked to stop.

    Args:
        saved: what of the work is kept.
        together: all processes are here, and all stop if one was asked; else only one that is alone does.
    """
    if (together or is_alone()) and (number := largest_of_all(received())):
        raise Interrupted(number, saved)
