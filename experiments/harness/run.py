"""A run: a directory with an identity, its training and its evaluations; and the comparison of several."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import jax
import numpy as np
from etils import epath

from experiments.harness.directory import CONFIG, SAME, SHARE, RunDirectory, held
from experiments.harness.evaluation import Chosen, check, evaluate
from experiments.harness.stored import Measured, checksum
from experiments.storage import read_json, remove, require_writable, write_json, write_json_lines
from experiments.training.agreement import require_same
from experiments.training.array_storage import require_supported
from experiments.training.checkpoint import saved_steps
from experiments.training.devices import is_main_process, wait_for_all
from experiments.training.loop import Trained, epochs_done, is_finished, load, train
from experiments.training.phase import Line, Outputs, Phase

PhaseMaker = Callable[[Any], Phase]  # from the parameters (host values) that the phase before it ended with


class Subject(Protocol):
    """What a run is of: a network with all that it takes to train it."""

    @property
    def experiment(self) -> str:
        """Name of the experiment."""

    @property
    def label(self) -> str:
        """Short name, for the progress."""

    @property
    def group(self) -> str:
        """Name of what it is one seed of, in figures and tables."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Plain values from which it can be made again."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Plain values that make the trained network what it is: settings, and checksums of data.

        How long a phase is belongs here only where its schedule depends on that; else a run can be made longer.
        """

    @property
    def facts(self) -> Mapping[str, Any]:
        """The first columns of its row in a table, one of them ``seed``."""

    def check(self) -> None:
        """Raise ``ValueError`` if the settings do not fit the data, the devices or each other."""

    def phases(self) -> Mapping[str, PhaseMaker]:
        """What is trained, one after the other; the first maker gets ``None``; further ones may have no epochs."""


S = TypeVar("S", bound=Subject)


@dataclasses.dataclass(frozen=True)
class TrainedRun(Generic[S]):
    """A run that was trained.

    Args:
        run: what was trained.
        phases: what each phase gave, in order, as host values.
    """

    run: "Run[S]"
    phases: Mapping[str, Trained]

    @property
    def subject(self) -> S:
        """What the run is of."""
        return self.run.subject

    @property
    def lines(self) -> list[Line]:
        """The metrics of all epochs of all phases, counted on."""
        lines = [line for phase in self.phases.values() for line in phase.lines]
        return [line | {"epoch": number} for number, line in enumerate(lines, start=1)]

    @functools.cached_property
    def final_phase(self) -> str:
        """The phase with the smallest validation loss of an epoch; the first among equals."""
        return min(self.phases, key=lambda name: min(line["validation_loss"] for line in self.phases[name].lines))

    @property
    def evaluated_params(self) -> dict[str, Any]:
        """The parameters of every phase: what decides whether a stored evaluation is of this run."""
        return {name: phase.state.evaluated_params for name, phase in self.phases.items()}

    @property
    def params(self) -> Any:
        """The parameters of the final phase: their average where there is one."""
        return self.phases[self.final_phase].state.evaluated_params


@dataclasses.dataclass(frozen=True)
class Run(Generic[S]):
    """One network in one directory.

    Args:
        subject: what is trained.
        directory: gets config.json, metrics.jsonl, checkpoints/, best/, a directory for each further phase, and
            evaluations/.
        checkpoint_every: steps between checkpoints within an epoch; ``None`` leaves them to the clock.
        checkpoint_minutes: minutes between them; ``None`` leaves them to the steps.
    """

    subject: S
    directory: epath.Path
    checkpoint_every: int | None = None
    checkpoint_minutes: float | None = None

    @property
    def run_directory(self) -> RunDirectory:
        """The directory with what it is of."""
        _, *further = self.subject.phases()
        products = ("checkpoints", "best", "metrics.jsonl", "evaluations", *further)
        return RunDirectory(self.directory, self.subject.experiment, self.subject.identity, products)

    def check(self, *, force: bool = False) -> None:
        """See that the run can be made, before anything is.

        Raises:
            ValueError: if its settings do not fit, the directory is of something else or where no checkpoint can
                be, or more epochs are done than are asked for.
        """
        self.subject.check()
        require_supported(self.directory)
        self.run_directory.check(force=force)
        if force:
            return
        for name, make in self.subject.phases().items():
            done, phase = epochs_done(self._outputs(name)), make(None)
            if done is not None and done.epoch > phase.num_epochs:
                raise ValueError(
                    f"{self.directory} has {done.epoch} epochs of {phase.label}, more than the {phase.num_epochs}"
                    " asked for; choose another --out, or start over with --force"
                )

    def prepare(self, *, force: bool = False) -> None:
        """Make the directory; with ``force`` start over.

        Raises:
            ValueError: as :meth:`check`, or on all processes, if they are not about to do the same.
        """
        self.run_directory.prepare(self.subject.settings, force=force)
        self._require_same_checkpoints()

    def train(self) -> TrainedRun[S]:
        """Train all phases, each from where it stopped; what is finished is read."""
        finished: dict[str, Trained] = {}
        params = None
        for name, make in self.subject.phases().items():
            phase = dataclasses.replace(
                make(params), checkpoint_every=self.checkpoint_every, checkpoint_minutes=self.checkpoint_minutes
            )
            if not phase.num_epochs:
                break
            outputs = self._outputs(name)
            if params is not None:
                self._begin_anew_if_changed(phase, outputs)
            finished[name] = _on_host(train(phase, outputs))
            params = finished[name].state.evaluated_params
        return TrainedRun(self, finished)

    def load(self) -> TrainedRun[S]:
        """What was trained, only read: the first phase and whichever of the others came to their end as well.

        Raises:
            ValueError: if the first phase has not come to its end, or something is damaged.
        """
        finished: dict[str, Trained] = {}
        params = None
        for name, make in self.subject.phases().items():
            phase, outputs = make(params), self._outputs(name)
            done = epochs_done(outputs) if phase.num_epochs else None
            if finished and not (done and is_finished(phase, done) and _same_start(phase, outputs)):
                break
            finished[name] = _on_host(load(phase, outputs))
            params = finished[name].state.evaluated_params
        return TrainedRun(self, finished)

    def evaluate(self, evaluations: Chosen, directory: epath.Path) -> tuple[TrainedRun[S], dict[str, Measured]]:
        """Evaluate what was trained before; all that can be wrong is found before it is loaded.

        Args:
            evaluations: name -> evaluation and its settings.
            directory: where they are stored; the run itself is only read.
        """
        check(self.subject, evaluations)
        require_writable(directory)
        with held(directory):
            require_same({"identity": self.subject.identity}, SAME)
            self._require_same_checkpoints()
            trained = self.load()
            return trained, evaluate(trained, evaluations, directory)

    def _outputs(self, phase: str) -> Outputs:
        """The first phase lies in the run's directory itself, each further one in one of its own."""
        directory = self.directory if phase == next(iter(self.subject.phases())) else self.directory / phase
        log = functools.partial(write_json_lines, directory / "metrics.jsonl")
        return Outputs(directory / "checkpoints", directory / "best", log)

    def _require_same_checkpoints(self) -> None:
        outputs = {name: self._outputs(name) for name in self.subject.phases()}
        steps = {
            name: {"newest": saved_steps(each.newest), "best": saved_steps(each.best)}
            for name, each in outputs.items()
        }
        require_same({f"checkpoints of {self.directory.name}": steps}, SHARE)

    def _begin_anew_if_changed(self, phase: Phase, outputs: Outputs) -> None:
        """Remove a further phase that began from other parameters, as the phase before it has gone on since."""
        same = _same_start(phase, outputs)
        wait_for_all(f"compared {outputs.newest.parent.name}")
        if not same and is_main_process():
            if outputs.newest.exists():
                print(f"{phase.label}: begins anew, as the phase before it has changed", file=sys.stderr)
            remove(outputs.newest.parent)
            write_json(outputs.newest.parent / CONFIG, {"starts_from": checksum(phase.initial_params)})
        wait_for_all(f"prepared {outputs.newest.parent.name}")


def compare(
    runs: Sequence[Run[S]],
    evaluations: Chosen,
    *,
    force: bool = False,
) -> list[tuple[TrainedRun[S], dict[str, Measured]]]:
    """Train and evaluate several runs: all are checked before any is made.

    Args:
        runs: in different directories.
        evaluations: name -> evaluation and its settings.
        force: start over.
    """
    for run in runs:
        run.check(force=force)
        check(run.subject, evaluations)
    finished = []
    with contextlib.ExitStack() as all_held:
        for run in runs:
            all_held.enter_context(held(run.directory))
            run.prepare(force=force)
        for run in runs:
            trained = run.train()
            finished.append((trained, evaluate(trained, evaluations, run.directory)))
    return finished


def train_one(run: Run[S], *, force: bool = False) -> TrainedRun[S]:
    """Train a single run, which is checked before it is made; with ``force`` start over."""
    run.check(force=force)
    with held(run.directory):
        run.prepare(force=force)
        return run.train()


def _same_start(phase: Phase, outputs: Outputs) -> bool:
    path = outputs.newest.parent / CONFIG
    try:
        return path.exists() and read_json(path).get("starts_from") == checksum(phase.initial_params)
    except ValueError as error:
        print(error, file=sys.stderr)
        return False


def _on_host(trained: Trained) -> Trained:
    """With host values, with which each process can compute by itself as well."""
    return trained._replace(state=jax.tree.map(np.asarray, trained.state))
