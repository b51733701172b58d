"""What a run is of: its data, how long it takes, what it keeps."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.training.averaging import Averaging

HostBatch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """This process's part of the data.

    Args:
        epoch: ``(epoch, start) -> batches`` of one shape, without the first ``start``; the same every time.
        validation: ``() -> batches``, whose padding the task does not count.
        units_per_epoch: what an epoch holds, in units.
        count: the units in a batch, over all processes.
        unit: their name, for the progress.
    """

    epoch: Callable[[int, int], Iterable[HostBatch]]
    validation: Callable[[], Iterable[HostBatch]]
    units_per_epoch: int
    count: Callable[[HostBatch], int]
    unit: str = "examples"


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long to train, and what to keep.

    Args:
        num_epochs: passes over the training data, those before a resumption included.
        seed: of initialisation and of the randomness in a step.
        directory: gets ``checkpoints/``, ``metrics.jsonl`` and, with ``keep_best``, ``best/``.
        label: shown with the progress.
        averaging: keep an average of the parameters, which is then what is evaluated.
        initial_params: parameters (host values) to start from; ``None`` for those of the task.
        keep_best: give back the state of the epoch with the smallest validation loss instead of the last.
        checkpoint_every: steps between checkpoints within an epoch; ``None`` for one after each epoch.
    """

    num_epochs: int
    seed: int
    directory: Path
    label: str = "training"
    averaging: Averaging | None = None
    initial_params: Any = None
    keep_best: bool = False
    checkpoint_every: int | None = None
