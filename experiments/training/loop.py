"""The training loop: compiled steps, validation, one line of metrics an epoch, checkpoints."""

import collections
import math
import sys
import time
from collections.abc import Sequence

import jax

from experiments.storage import require_space
from experiments.training.agreement import require_same
from experiments.training.checkpoint import Checkpoints
from experiments.training.devices import devices_for, is_main_process, say_how_many, split
from experiments.training.kept import Trained, best_of, initial_state, is_finished, is_triggered, require_length
from experiments.training.phase import Line, Outputs, Phase, TrainingData
from experiments.training.position import Position
from experiments.training.progress import ProgressReport
from experiments.training.requests import Requests
from experiments.training.signals import Interrupted, listening
from experiments.training.step import (
    TrainState,
    all_finite,
    begin_average,
    compile_evaluation,
    compile_step,
)
from experiments.training.step_log import StepLog
from experiments.training.task import Metrics, add, compute, prefixed

_IN_FLIGHT = 8  # steps queued ahead of the device; more gain nothing and keep their batches in memory


def train(phase: Phase, outputs: Outputs, *, devices: Sequence[jax.Device] | None = None) -> Trained:
    """Train, going on from the newest checkpoint if there is one.

    A run that was interrupted and goes on gives the same parameters as one that was not. What was done is
    decided by the checkpoint alone; ``outputs.log`` is called with what it holds.

    Args:
        phase: what to train.
        outputs: where to keep it.
        devices: ``None`` takes those that share the rows of a batch.

    Raises:
        ValueError: if the checkpoint does not fit the task or is damaged, if that of the best epoch is of another,
            or if the best epoch, or without ``keep_best`` the last, is a later one than asked for.
        OSError: if a checkpoint cannot be read or written, or the disk has no room for them.
        FloatingPointError: if the training loss of a step is not finite, or a parameter before it is saved.
        Interrupted: if SIGTERM or SIGINT asked to stop, once a checkpoint was saved.
    """
    with listening(), Checkpoints(outputs.newest, keep=phase.keep_checkpoints) as newest:
        loop = _Loop(phase, outputs, newest, list(_devices_of(phase.data) if devices is None else devices))
        return loop.run()


def _devices_of(data: TrainingData) -> list[jax.Device]:
    return jax.devices() if data.rows is None else devices_for(data.rows)


def _require_space(phase: Phase, outputs: Outputs, state: TrainState) -> None:
    """Raise ``OSError`` if the disk has no room for the checkpoints that are kept, and one on its way for each."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    needed = size * (phase.keep_checkpoints + 1 + 2 * phase.keep_best)
    require_space(outputs.newest, needed, "the checkpoints", part_of=(outputs.newest, outputs.best))


class _Loop:
    """One call of :func:`train`."""

    def __init__(self, phase: Phase, outputs: Outputs, newest: Checkpoints, devices: list[jax.Device]) -> None:
        self.phase, self.outputs, self.newest, self.devices = phase, outputs, newest, devices
        self.state, self.position = initial_state(phase, devices), Position()
        if (saved := newest.restore(like=self.state)) is not None:
            self.state, self.position = saved
        require_same(
            {"step of the checkpoint that is read": int(self.state.step)}, "the disk must be shared by all"
        )
        require_length(phase, self.position, outputs.newest.parent)
        if is_main_process() and not is_finished(phase, self.position):
            _require_space(phase, outputs, self.state)
            say_how_many(phase.label, phase.data.rows, devices)
        self.best = Checkpoints(outputs.best) if phase.keep_best else None
        self.step = compile_step(phase.task, devices=devices)
        self.evaluation = compile_evaluation(phase.task, devices=devices)
        self.requests, self.saved = Requests(phase.checkpoint_minutes), self._place
        step = int(self.state.step)
        self.step_log = StepLog(phase.log_every, outputs.log_steps, outputs.logged_steps, step=step)

    def run(self) -> Trained:
        """All epochs that are left; the last state, or the best."""
        data, epochs = self.phase.data, self.phase.num_epochs
        begun = self.position.epoch
        done = begun * data.units_per_epoch + self.position.units
        self._log()
        self.step_log.write()
        try:
            with ProgressReport(self.phase.label, epochs * data.units_per_epoch, data.unit, done=done) as progress:
                while not is_finished(self.phase, self.position):
                    self._begin_average()
                    self._run_epoch(progress)
                    self._finish_epoch()
            if is_main_process() and begun < self.position.epoch < epochs:
                print(
                    f"{self.phase.label}: ended after {self.position.epoch} of {epochs} epochs, as the validation"
                    " loss fell no more",
                    file=sys.stderr,
                )
            lines = self.position.lines[:epochs]
            state = self.state if self.best is None else best_of(self.best, self.state, lines)
        finally:  # an interrupted run keeps the checkpoint that is on its way to disk
            if self.best is not None:
                self.best.close()
        return Trained(state, lines)

    def _begin_average(self) -> None:
        """Begin the average if the newest validation says so; from then on it is there already."""
        average = self.state.average
        if average is not None and not bool(average.is_active) and is_triggered(self.phase, self.position):
            self.state = self.state.replace(average=begin_average(average, self.devices))

    def _run_epoch(self, progress: ProgressReport) -> None:
        """The steps of this epoch that are left."""
        began, before = time.monotonic(), self.position.seconds
        start, every = self.position.step_in_epoch, self.phase.checkpoint_every
        queued: collections.deque[tuple[int, Metrics, int]] = collections.deque()
        first_step = int(self.state.step) - start

        def settle(limit: int) -> None:
            """Wait for all but ``limit`` of the queued steps."""
            while len(queued) > limit:
                step, metrics, units = queued.popleft()
                metrics = add({}, self.requests.take(metrics))
                self._require_finite(step, float(metrics["loss"].total))
                self.position.sums = add(self.position.sums, metrics)
                self.step_log.add(self.position, step, metrics)
                self.position.units += units
                self.position.seconds = before + time.monotonic() - began
                progress.advance(units, f"loss {compute(self.position.sums)['loss']:.4f}")

        for index, batch in enumerate(self.phase.data.epoch(self.position.epoch, start), start=start):
            if (every and index > start and index % every == 0) or self.requests.asked:
                settle(0)
                self._save_within_epoch()
            self.state, metrics = self.step(self.state, self.requests.attach(split(batch, self.devices)))
            queued.append((first_step + index + 1, metrics, self.phase.data.count(batch)))
            self.position.step_in_epoch += 1
            settle(_IN_FLIGHT)
        settle(0)
        self.step_log.end(self.position, first_step + self.position.step_in_epoch)

    @property
    def _place(self) -> tuple[int, int]:
        return self.position.epoch, self.position.step_in_epoch

    def _save(self) -> None:
        self.step_log.write()
        self.newest.save(self.state, self.position)
        self.saved = self._place

    def _save_within_epoch(self) -> None:
        """Save, and stop if that was asked."""
        number = self.requests.stopping
        if self.saved != self._place:
            self._require_finite(int(self.state.step))
            self._save()
        if number:
            raise Interrupted(number, f"step {int(self.state.step)} of {self.phase.label} is saved")
        self.requests.answer()

    def _finish_epoch(self) -> None:
        """Validate, log and save."""
        began, number = time.monotonic(), self.position.epoch + 1
        means = prefixed("train", compute(self.position.sums))
        self._require_finite(int(self.state.step))
        means |= prefixed("validation", compute(self._validate()))
        described = self.phase.task.describe(self.state.evaluated_params)
        line: Line = {"epoch": number, "step": int(self.state.step), **means}
        line |= {name: float(value) for name, value in described.items()}
        line["learning_rate"] = float(self.phase.task.schedule(self.state.step))
        if self.state.average is not None:
            line["averaged_steps"] = int(self.state.average.count)
        line["seconds"] = self.position.seconds + time.monotonic() - began
        line[f"{self.phase.data.unit}_per_second"] = self.position.units / max(self.position.seconds, 1e-9)
        self.position = self.position.next_epoch(line)
        if self.best is not None and self.position.is_best:
            self.best.save(self.state, self.position)
            self.best.wait()  # else the newest could be there without it, and no later run would make it
        self._save()
        self.requests.answer()
        self._log()
        remark = self.phase.task.remark(self.position.lines)
        if remark is not None and is_main_process():
            print(f"{self.phase.label}: after epoch {number}: {remark}", file=sys.stderr)

    def _validate(self) -> Metrics:
        """Metrics of the evaluated parameters, summed over all batches."""
        task, params, model_state = self.phase.task, self.state.evaluated_params, self.state.model_state
        summed: Metrics = {}
        for index, batch in enumerate(self.phase.data.validation()):
            if self.requests.stopping:
                self._save_within_epoch()
            if index == 0:
                num_rows = len(next(iter(batch.values()))) * jax.process_count()
                model_state = task.start_evaluation(model_state, num_rows)
            model_state, metrics = self.evaluation(
                params, model_state, self.requests.attach(split(batch, self.devices))
            )
            summed = add(summed, self.requests.take(metrics))
        return summed

    def _log(self) -> None:
        if is_main_process():
            self.outputs.log(self.position.lines)

    def _require_finite(self, step: int, loss: float | None = None) -> None:
        """Look at the loss of a step or, where none is given, at the parameters after it."""
        # A loss can be finite where a parameter is not: a rectifier may turn not-a-number into 0.
        if all_finite(self.state.params) if loss is None else math.isfinite(loss):
            return
        what = "a parameter is not finite" if loss is None else f"the training loss is {loss}"
        good = self.newest.steps()
        last = f"the last good checkpoint is of step {good[0]}" if good else "no checkpoint was saved before"
        raise FloatingPointError(
            f"{self.phase.label}: after step {step} {what}; {last}; lower the learning rate and start over with"
            " --force"
        )
