"""The training loop: epochs of compiled steps, validation, one line of metrics and a checkpoint after each."""

import collections
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import jax
import numpy as np
import optax

from experiments.training import devices as device_room
from experiments.training.checkpoint import Checkpoints
from experiments.training.metrics import MetricsFile, compute
from experiments.training.progress import ProgressReport
from experiments.training.step import Step, TrainState, compile_evaluation, compile_step, create_state
from experiments.training.task import Metrics, Task, merge

HostBatch = dict[str, np.ndarray]
_IN_FLIGHT = 8  # steps queued ahead of the device; more gain nothing and keep their batches in memory


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """This process's part of the data.

    Args:
        epoch: ``epoch -> batches`` of equal size, the same every time.
        steps_per_epoch: number of batches in an epoch.
        batch_size: rows of a batch over all processes.
        validation: ``() -> batches``, with a ``weight`` of 0 at padding.
        unit: what a row is, for the progress.
    """

    epoch: Callable[[int], Iterable[HostBatch]]
    steps_per_epoch: int
    batch_size: int
    validation: Callable[[], Iterable[HostBatch]]
    unit: str = "examples"


def train(
    task: Task,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    data: TrainingData,
    *,
    num_epochs: int,
    seed: int,
    directory: Path,
    label: str = "training",
    devices: Sequence[jax.Device] | None = None,
) -> TrainState:
    """Train, going on from the newest checkpoint in ``directory`` if there is one.

    A run that was interrupted and goes on gives the same parameters as one that was not.

    Args:
        task: what to train.
        optimizer: an optax optimiser made with ``schedule``.
        schedule: step count -> learning rate.
        data: training and validation batches.
        num_epochs: passes over the training data, those before a resumption included.
        seed: of initialisation and of the randomness in a step.
        directory: gets ``checkpoints/`` and ``metrics.jsonl``.
        label: shown with the progress.
        devices: ``None`` takes all.

    Returns:
        The last state, copied on every device.

    Raises:
        ValueError: if the checkpoint in ``directory`` does not fit the task.
        FloatingPointError: if the training loss of an epoch is not finite.
    """
    devices = list(jax.devices() if devices is None else devices)
    state = create_state(task, optimizer, seed, devices)
    checkpoints = Checkpoints(directory / "checkpoints")
    state = checkpoints.restore(like=state) or state
    log = None
    if device_room.is_main_process():
        log = MetricsFile(directory / "metrics.jsonl", resume_step=int(state.step))
    step = compile_step(task, optimizer, schedule, devices=devices)
    evaluate = compile_evaluation(task, devices=devices)
    first_epoch = int(state.step) // data.steps_per_epoch  # checkpoints are made at the ends of epochs
    rows_per_epoch = data.steps_per_epoch * data.batch_size

    total, done = num_epochs * rows_per_epoch, first_epoch * rows_per_epoch
    with ProgressReport(label, total, data.unit, done=done) as progress:
        for epoch in range(first_epoch, num_epochs):
            began = time.monotonic()
            batches = (device_room.split(batch, devices) for batch in data.epoch(epoch))
            state, metrics = _run_epoch(step, state, batches, lambda: progress.advance(data.batch_size))
            line = {"epoch": epoch + 1, "step": int(state.step), **_prefixed("train", compute(metrics))}
            if not math.isfinite(line["train_loss"]):
                raise FloatingPointError(
                    f"{label}: the training loss of epoch {epoch + 1} is {line['train_loss']}; lower the"
                    " learning rate"
                )
            validation = _evaluate(evaluate, state, data.validation(), devices)
            described = {name: float(value) for name, value in task.describe(state.params).items()}
            line |= _prefixed("validation", compute(validation)) | described
            line |= {"learning_rate": float(schedule(state.step)), "seconds": time.monotonic() - began}
            if log is not None:
                log.append(line)
            checkpoints.save(state)
    checkpoints.close()
    return state


def _run_epoch(
    step: Step, state: TrainState, batches: Iterable[HostBatch], on_step: Callable[[], None]
) -> tuple[TrainState, Metrics]:
    """All steps of an epoch, and their metrics summed."""
    queued: collections.deque[Metrics] = collections.deque()
    summed: Metrics = {}
    for batch in batches:
        state, metrics = step(state, batch)
        queued.append(metrics)
        if len(queued) > _IN_FLIGHT:
            summed = _add(summed, queued.popleft())
            on_step()
    while queued:
        summed = _add(summed, queued.popleft())
        on_step()
    return state, summed


def _add(summed: Metrics, metrics: Metrics) -> Metrics:
    """Add in double precision on the host, waiting for the step that the metrics come from."""
    found = jax.tree.map(float, jax.device_get(metrics))
    return merge(summed, found) if summed else found


def _evaluate(
    evaluate: Callable, state: TrainState, batches: Iterable[HostBatch], devices: list[jax.Device]
) -> Metrics:
    summed: Metrics = {}
    for batch in batches:
        summed = _add(summed, evaluate(state.params, state.model_state, device_room.split(batch, devices)))
    return summed


def _prefixed(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in values.items()}
