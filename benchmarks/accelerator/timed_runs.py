"""Runs that end in time: training between two checkpoints, the single Fourier attack between two parts."""

import dataclasses
import functools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.accelerator.work import Budget
from benchmarks.measure import planned_extra_bytes
from experiments.harness.evaluation import Evaluation
from experiments.harness.run import Run
from experiments.harness.stored import Measured, Partial
from experiments.harness.subject import PhaseMaker
from experiments.training.devices import split
from experiments.training.phase import HostBatch, Phase
from experiments.training.step import compile_step, create_state

CHECKPOINT_EVERY = 500  # steps


def train_in_time(subject: Any, directory: Path, budget: Budget) -> dict[str, Any]:
    """Train a subject of the experiments, going on from its newest checkpoint.

    Args:
        subject: what the run is of.
        directory: of the run.
        budget: looked at before every epoch, and after every checkpoint within one.

    Returns:
        The metrics of every epoch, and the memory of a step.

    Raises:
        OutOfTimeError: with a checkpoint just saved.
    """
    run: Run[Any] = Run(_Timed(subject, budget), directory, CHECKPOINT_EVERY)
    run.check()
    run.prepare()
    lines = run.train().lines
    return {"epochs": lines, "step_memory_bytes": step_memory_bytes(next(iter(subject.phases().values()))(None))}


@dataclasses.dataclass(frozen=True)
class _Timed:
    """A subject whose training batches end by :class:`OutOfTimeError`; all else is the subject's own."""

    subject: Any
    budget: Budget

    def __getattr__(self, name: str) -> Any:
        return getattr(self.subject, name)

    def phases(self) -> Mapping[str, PhaseMaker]:
        """Those of the subject."""
        return {name: functools.partial(self._timed, make) for name, make in self.subject.phases().items()}

    def _timed(self, make: PhaseMaker, initial_params: Any) -> Phase:
        phase = make(initial_params)

        def epoch(number: int, start: int) -> Iterator[HostBatch]:
            for index, batch in enumerate(phase.data.epoch(number, start), start=start):
                # The loop has saved at the end of the epoch before, or when it received the batch before this one.
                if index == 0 or index % CHECKPOINT_EVERY == 1:
                    self.budget.require()
                yield batch

        return dataclasses.replace(phase, data=dataclasses.replace(phase.data, epoch=epoch))


def step_memory_bytes(phase: Phase) -> int:
    """What the compiler plans for a training step on one device: arguments, results, and all in between."""
    devices = jax.devices()
    state = create_state(phase.task, phase.seed, devices, numbers=phase.numbers, averaging=phase.averaging)
    batch = split(next(iter(phase.data.epoch(0, 0))), devices)
    step: Any = compile_step(phase.task, devices=devices)
    compiled = step.lower(state, batch).compile()
    analysis = compiled.memory_analysis()
    # The state that comes out takes the place of the one that went in.
    results = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return analysis.argument_size_in_bytes + results + planned_extra_bytes(compiled)


def in_time(evaluation: Evaluation, budget: Budget) -> Evaluation:
    """An evaluation that looks at the budget after every part that it stores; without figures.

    Its numbers get ``part_seconds``, of the parts of all calls.
    """

    def measure(trained: Any, settings: Any, partial: Partial) -> Measured:
        timed: Any = _TimedPartial(partial, budget)
        measured = evaluation.measure(trained, settings, timed)
        return measured._replace(numbers=measured.numbers | {"part_seconds": timed.part_seconds})

    return dataclasses.replace(evaluation, measure=measure, products=lambda group: {})


class _TimedPartial:
    """What an evaluation has so far, with the seconds that each part took."""

    def __init__(self, partial: Partial, budget: Budget) -> None:
        self._partial, self._budget = partial, budget
        self._last, self.part_seconds = time.monotonic(), []  # type: tuple[float, list[float]]

    def read(self) -> dict[str, np.ndarray]:
        """What was written last, or nothing."""
        arrays = self._partial.read()
        self.part_seconds = arrays.pop("part_seconds", np.zeros(0)).tolist()
        self._last = time.monotonic()
        return arrays

    def write(self, **arrays: np.ndarray) -> None:
        """Keep these arrays."""
        self.part_seconds.append(round(time.monotonic() - self._last, 3))
        self._partial.write(**arrays, part_seconds=np.asarray(self.part_seconds))
        self._last = time.monotonic()
        self._budget.require()
