"""One phase of training as a value: what is trained, on which data, how long, and where its state is kept."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from experiments.training.averaging import Averaging
from experiments.training.task import Task

HostBatch = dict[str, np.ndarray]
Line = dict[str, Any]  # the metrics of one epoch


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """This process's part of the data.

    Args:
        epoch: ``(epoch, start) -> batches`` without the first ``start``, the same every time; of few shapes, as
            for each of them a step is compiled.
        validation: ``() -> batches``, whose padding the task does not count.
        units_per_epoch: what an epoch holds, in units.
        count: the units in a batch, over all processes.
        unit: their name, for the progress.
        rows: of a training batch, over all processes; as many devices take part as share them equally. ``None``
            takes all devices.
    """

    epoch: Callable[[int, int], Iterable[HostBatch]]
    validation: Callable[[], Iterable[HostBatch]]
    units_per_epoch: int
    count: Callable[[HostBatch], int]
    unit: str = "examples"
    rows: int | None = None


@dataclasses.dataclass(frozen=True)
class Phase:
    """What is trained. A second phase, such as fine-tuning, is another value of this.

    Args:
        task: with its optimiser and schedule.
        data: training and validation batches.
        num_epochs: passes over the training data, those before a resumption included.
        seed: of initialisation and of the randomness in a step.
        label: shown with the progress.
        numbers: traced settings for ``task.init``: other values compile nothing.
        averaging: keep an average of the parameters, which is then what is evaluated.
        initial_params: parameters (host values) to start from; ``None`` for those of the task.
        keep_best: give back the state of the epoch with the smallest validation loss instead of the last.
        checkpoint_every: steps between checkpoints within an epoch; ``None`` leaves them to the clock.
        checkpoint_minutes: minutes between checkpoints within an epoch; ``None`` leaves them to the steps.
        keep_checkpoints: how many of the newest stay, at least 2: one for where the newest is damaged.
        log_every: steps of a line of the log within epochs.
        own: plain values of this phase alone, not part of what the run is: with others a phase that begins from an
            earlier one is another phase, and that earlier one is not.
    """

    task: Task
    data: TrainingData
    num_epochs: int
    seed: int
    label: str = "training"
    numbers: Any = None
    averaging: Averaging | None = None
    initial_params: Any = None
    keep_best: bool = False
    checkpoint_every: int | None = None
    checkpoint_minutes: float | None = None
    keep_checkpoints: int = 2
    log_every: int = 100
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _no_log(lines: Sequence[Line]) -> None:
    del lines


def _no_lines() -> Sequence[Line]:
    return ()


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Where a phase keeps what it makes.

    Args:
        newest: directory of the newest checkpoint.
        best: directory of the checkpoint of the best epoch; used with ``keep_best``.
        log: called on the first process with the lines of all epochs so far, whenever there is a new one.
        log_steps: the same with lines of ``log_every`` steps, when there are new ones, and before each checkpoint.
        logged_steps: gives the lines of steps that were logged before.
    """

    newest: epath.Path
    best: epath.Path
    log: Callable[[Sequence[Line]], None] = _no_log
    log_steps: Callable[[Sequence[Line]], None] = _no_log
    logged_steps: Callable[[], Sequence[Line]] = _no_lines
