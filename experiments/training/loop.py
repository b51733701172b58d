"""The training loop: compiled steps, validation, one line of metrics an epoch, checkpoints."""

import collections
import math
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import optax

from experiments.training import devices as device_room
from experiments.training.checkpoint import Checkpoints
from experiments.training.metrics import MetricsFile, add, compute, prefixed
from experiments.training.plan import HostBatch, Plan, TrainingData
from experiments.training.position import Position
from experiments.training.progress import ProgressReport
from experiments.training.step import (
    Evaluation,
    TrainState,
    activated,
    compile_evaluation,
    compile_step,
    create_state,
)
from experiments.training.task import Metrics, Task

_IN_FLIGHT = 8  # steps queued ahead of the device; more gain nothing and keep their batches in memory


def train(
    task: Task,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    data: TrainingData,
    plan: Plan,
    *,
    devices: Sequence[jax.Device] | None = None,
) -> TrainState:
    """Train, going on from the newest checkpoint in the plan's directory if there is one.

    A run that was interrupted and goes on gives the same parameters as one that was not.

    Args:
        task: what to train.
        optimizer: an optax optimiser made with ``schedule``.
        schedule: step count -> learning rate.
        data: training and validation batches.
        plan: how long, and what to keep.
        devices: ``None`` takes all.

    Returns:
        The last state, or the best, on every device.

    Raises:
        ValueError: if the checkpoint in the directory does not fit the task.
        FloatingPointError: if the training loss of an epoch is not finite.
    """
    devices = list(jax.devices() if devices is None else devices)
    return _Loop(task, optimizer, schedule, data=data, plan=plan, devices=devices).run()


def best_state(task: Task, optimizer: optax.GradientTransformation, plan: Plan) -> TrainState:
    """What :func:`train` gave back for a plan with ``keep_best``, read from its directory; nothing is trained.

    Raises:
        ValueError: if there is none, or it does not fit the task.
    """
    options = {"averaging": plan.averaging, "initial_params": plan.initial_params}
    like = create_state(task, optimizer, plan.seed, jax.devices(), **options)
    checkpoints = Checkpoints(plan.directory / "best")
    try:
        return _restored(checkpoints, like)
    finally:
        checkpoints.close()


def _restored(checkpoints: Checkpoints, like: TrainState) -> TrainState:
    saved = checkpoints.restore(like=like)
    if saved is None:
        raise ValueError(f"{checkpoints.directory} has no checkpoint: that of the best epoch is missing")
    return saved[0]


class _Loop:
    """One call of :func:`train`."""

    def __init__(
        self,
        task: Task,
        optimizer: optax.GradientTransformation,
        schedule: optax.Schedule,
        *,
        data: TrainingData,
        plan: Plan,
        devices: list[jax.Device],
    ) -> None:
        self.task, self.schedule, self.data, self.plan, self.devices = task, schedule, data, plan, devices
        self.state = create_state(
            task, optimizer, plan.seed, devices, averaging=plan.averaging, initial_params=plan.initial_params
        )
        self.position = Position()
        self.checkpoints = Checkpoints(plan.directory / "checkpoints")
        if (saved := self.checkpoints.restore(like=self.state)) is not None:
            self.state, self.position = saved
        self.best = Checkpoints(plan.directory / "best") if plan.keep_best else None
        self.log: MetricsFile | None = None
        if device_room.is_main_process():
            self.log = MetricsFile(plan.directory / "metrics.jsonl", resume_step=int(self.state.step))
        self.step = compile_step(task, optimizer, schedule, devices=devices)
        self.evaluation = compile_evaluation(task, devices=devices)

    def run(self) -> TrainState:
        """All epochs that are left; the last state, or the best."""
        done = self.position.epoch * self.data.units_per_epoch + self.position.units
        total = self.plan.num_epochs * self.data.units_per_epoch
        try:
            with ProgressReport(self.plan.label, total, self.data.unit, done=done) as progress:
                while self.position.epoch < self.plan.num_epochs and not self._stops():
                    self._activate_average()
                    self._run_epoch(progress)
                    self._finish_epoch()
            self._say_if_stopped(total - done)
            best = self.state if self.best is None else _restored(self.best, self.state)
        finally:  # an interrupted run keeps the checkpoint that is on its way to disk
            self.checkpoints.close()
            if self.best is not None:
                self.best.close()
        return best

    def _stops(self) -> bool:
        averaging = self.plan.averaging
        return bool(averaging and averaging.from_start and averaging.is_triggered(self.position.validation_losses))

    def _say_if_stopped(self, left: int) -> None:
        """Say why fewer epochs were trained than asked for, in the run that trained the last of them."""
        done, asked = self.position.epoch, self.plan.num_epochs
        still_left = (asked - done) * self.data.units_per_epoch
        if device_room.is_main_process() and 0 < still_left < left:
            print(f"{self.plan.label}: ended after {done} of {asked} epochs, as the validation loss fell no more",
                  file=sys.stderr)  # fmt: skip

    def _activate_average(self) -> None:
        """Begin the average if the newest validation says so; from then on it is there already."""
        average, averaging = self.state.average, self.plan.averaging
        if average is None or averaging is None or bool(average.is_active):
            return
        if averaging.is_triggered(self.position.validation_losses):
            self.state = self.state.replace(average=activated(average, self.devices))

    def _run_epoch(self, progress: ProgressReport) -> None:
        """The steps of this epoch that are left."""
        began, before = time.monotonic(), self.position.seconds
        start, every = self.position.step_in_epoch, self.plan.checkpoint_every
        queued: collections.deque[tuple[Metrics, int]] = collections.deque()

        def settle(limit: int) -> None:
            """Wait for all but ``limit`` of the queued steps."""
            while len(queued) > limit:
                metrics, units = queued.popleft()
                self.position.sums = add(self.position.sums, metrics)
                self.position.units += units
                self.position.seconds = before + time.monotonic() - began
                progress.advance(units, f"loss {compute(self.position.sums)['loss']:.4f}")

        for index, batch in enumerate(self.data.epoch(self.position.epoch, start), start=start):
            if every and index > start and index % every == 0:
                settle(0)
                self.checkpoints.save(self.state, self.position)
            self.state, metrics = self.step(self.state, device_room.split(batch, self.devices))
            queued.append((metrics, self.data.count(batch)))
            self.position.step_in_epoch += 1
            settle(_IN_FLIGHT)
        settle(0)

    def _finish_epoch(self) -> None:
        """Validate, log and save."""
        position, began = self.position, time.monotonic()
        line: dict[str, Any] = {"epoch": position.epoch + 1, "step": int(self.state.step)}
        line |= prefixed("train", compute(position.sums))
        if not math.isfinite(line["train_loss"]):
            raise FloatingPointError(
                f"{self.plan.label}: the training loss of epoch {line['epoch']} is {line['train_loss']}; lower the"
                " learning rate"
            )
        line |= prefixed("validation", compute(evaluate(self.task, self.evaluation, self.state,
                                                        self.data.validation(), self.devices)))  # fmt: skip
        line |= {name: float(v) for name, v in self.task.describe(self.state.evaluated_params).items()}
        line |= {
            "learning_rate": float(self.schedule(self.state.step)),
            "seconds": position.seconds + time.monotonic() - began,
            f"{self.data.unit}_per_second": position.units / max(position.seconds, 1e-9),
        }
        if self.state.average is not None:
            line["averaged_steps"] = int(self.state.average.count)
        self.position = position.next_epoch(line["validation_loss"])
        if self.log is not None:
            self.log.append(line)
        if self.best is not None and self.position.is_best:
            self.best.save(self.state, self.position)
        self.checkpoints.save(self.state, self.position)


def evaluate(
    task: Task, evaluation: Evaluation, state: TrainState, batches: Iterable[HostBatch], devices: list[jax.Device]
) -> Metrics:
    """Metrics of the evaluated parameters, summed over all batches."""
    summed: Metrics = {}
    model_state, params = state.model_state, state.evaluated_params
    for index, batch in enumerate(batches):
        if index == 0:
            rows = len(next(iter(batch.values()))) * jax.process_count()
            model_state = task.start_evaluation(model_state, rows)
        model_state, metrics = evaluation(params, model_state, device_room.split(batch, devices))
        summed = add(summed, metrics)
    return summed
