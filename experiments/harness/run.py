"""A run: a directory with an identity, its training and its evaluations; and the comparison of several."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from etils import epath

from experiments.harness.directory import SAME, SHARE, RunDirectory, held, require_place
from experiments.harness.evaluation import Chosen, check, evaluate
from experiments.harness.loading import load_at, load_ends, on_host
from experiments.harness.phase_start import begin_anew_if_changed, place
from experiments.harness.stored import Measured
from experiments.harness.subject import Subject
from experiments.harness.tensorboard import write_events
from experiments.storage import read_json_lines, write_json_lines
from experiments.training.agreement import require_same
from experiments.training.array_storage import require_supported
from experiments.training.checkpoint import saved_steps
from experiments.training.kept import Trained, epochs_done, require_length
from experiments.training.loop import train
from experiments.training.phase import Line, Outputs

AT = "at"
_LOGS = ("metrics.jsonl", "steps.jsonl")  # of epochs, and within them


S = TypeVar("S", bound=Subject)


@dataclasses.dataclass(frozen=True)
class TrainedRun(Generic[S]):
    """A run that was trained.

    Args:
        run: what was trained.
        phases: what each phase gave, in order, as host values.
        chosen_phase: the phase that is evaluated further; ``None`` for the better one.
    """

    run: "Run[S]"
    phases: Mapping[str, Trained]
    chosen_phase: str | None = None

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
        """The one chosen, or that with the smallest validation loss of an epoch; the first among equals."""
        losses = {name: [line["validation_loss"] for line in each.lines] for name, each in self.phases.items()}
        return self.chosen_phase or min(losses, key=lambda name: min(losses[name]))

    @property
    def places(self) -> dict[str, dict[str, int]]:
        """Of every phase the epoch and the step that are evaluated, and the step that it began from."""
        found: dict[str, dict[str, int]] = {}
        for name, phase in self.phases.items():
            before = found[next(reversed(found))] if found else {}
            found[name] = place(phase) | ({"began_from_step": before["step"]} if before else {})
        return found

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
        directory: gets config.json, metrics.jsonl, steps.jsonl, checkpoints/, best/, a directory for each further
            phase, evaluations/, and at/NAME/ for what is made of a checkpoint by its name.
        checkpoint_every: steps between checkpoints within an epoch; ``None`` leaves them to the clock.
        checkpoint_minutes: minutes between them; ``None`` leaves them to the steps.
        keep_checkpoints: how many of the newest stay, of each phase.
        log_every: steps of a line of steps.jsonl.
        tensorboard: whether the numbers of both logs are written for TensorBoard as well.
    """

    subject: S
    directory: epath.Path
    checkpoint_every: int | None = None
    checkpoint_minutes: float | None = None
    keep_checkpoints: int = 2
    log_every: int = 100
    tensorboard: bool = False

    @property
    def run_directory(self) -> RunDirectory:
        """The directory with what it is of."""
        _, *further = self.subject.phases()
        products = ("checkpoints", "best", *_LOGS, "tensorboard", "evaluations", AT, *further)
        return RunDirectory(self.directory, self.subject.experiment, self.subject.identity, products)

    def check(self, *, force: bool = False) -> None:
        """See that the run can be made, before anything is.

        Raises:
            ValueError: if its settings do not fit, the directory is of something else or where no checkpoint can
                be, or more epochs are done than are asked for, and what these ended with is kept no more.
        """
        self.subject.check()
        require_supported(self.directory)
        self.run_directory.check(force=force)
        if force:
            return
        for name, make in self.subject.phases().items():
            if (done := epochs_done(self._outputs(name))) is not None:
                require_length(make(None), done, self.directory)

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
                make(params), checkpoint_every=self.checkpoint_every,
                checkpoint_minutes=self.checkpoint_minutes, keep_checkpoints=self.keep_checkpoints,
                log_every=self.log_every,
            )  # fmt: skip
            if not phase.num_epochs:
                break
            outputs = self._outputs(name)
            if finished:
                begin_anew_if_changed(phase, outputs, next(reversed(finished.values())))
            finished[name] = on_host(train(phase, outputs))
            params = finished[name].state.evaluated_params
        return TrainedRun(self, finished)

    def load(self, at: str | None = None) -> TrainedRun[S]:
        """What was trained, only read: the first phase and whichever of the others came to their end as well.

        Args:
            at: a checkpoint that is kept, as :func:`load_at` names it, to take in place of the end.

        Raises:
            ValueError: if the first phase has not come to its end, there is no such checkpoint, or something is
                damaged.
        """
        phases = self.subject.phases()
        if at is None:
            return TrainedRun(self, load_ends(phases, self._outputs))
        found = load_at(phases, self._outputs, at)
        return TrainedRun(self, found, chosen_phase=next(reversed(found)))

    def evaluate(
        self, evaluations: Chosen, directory: epath.Path, at: str | None = None
    ) -> tuple[TrainedRun[S], dict[str, Measured]]:
        """Evaluate what was trained before; all that can be wrong is found before it is loaded.

        Args:
            evaluations: name -> evaluation and its settings.
            directory: where they are stored; the run itself is only read.
            at: as for :meth:`load`.
        """
        check(self.subject, evaluations)
        trained = None if at is None else self.load(at)
        require_place(directory)
        with held(directory):
            require_same({"identity": self.subject.identity}, SAME)
            self._require_same_checkpoints()
            trained = trained or self.load()
            return trained, evaluate(trained, evaluations, directory)

    def made_of(self, at: str | None) -> epath.Path:
        """Where is kept, by default, what is made of the network, or of one of its checkpoints."""
        return self.directory if at is None else self.directory / AT / at

    def _outputs(self, phase: str) -> Outputs:
        """The first phase lies in the run's directory itself, each further one in one of its own."""
        directory = self.directory if phase == next(iter(self.subject.phases())) else self.directory / phase
        events = directory / "tensorboard" if self.tensorboard else None
        log, log_steps = (functools.partial(_write_log, directory / name, events) for name in _LOGS)
        logged_steps = functools.partial(read_json_lines, directory / "steps.jsonl")
        return Outputs(directory / "checkpoints", directory / "best", log, log_steps, logged_steps)

    def _require_same_checkpoints(self) -> None:
        outputs = {name: self._outputs(name) for name in self.subject.phases()}
        steps = {
            name: {"newest": saved_steps(each.newest), "best": saved_steps(each.best)}
            for name, each in outputs.items()
        }
        require_same({f"checkpoints of {self.directory.name}": steps}, SHARE)


@contextlib.contextmanager
def compare(
    runs: Sequence[Run[S]], evaluations: Chosen, directory: epath.Path, *, force: bool = False
) -> Iterator[list[tuple[TrainedRun[S], dict[str, Measured]]]]:
    """Train and evaluate several runs: all are checked, and held, before any is made.

    They stay held until the context ends, in which they are reported.

    Args:
        runs: in different directories.
        evaluations: name -> evaluation and its settings.
        directory: where they are reported; held as well.
        force: start over.
    """
    for run in runs:
        run.check(force=force)
        check(run.subject, evaluations)
    finished = []
    with contextlib.ExitStack() as all_held:
        for each in (directory, *(run.directory for run in runs)):
            all_held.enter_context(held(each))
        for run in runs:
            run.prepare(force=force)
        for run in runs:
            trained = run.train()
            finished.append((trained, evaluate(trained, evaluations, run.directory)))
        yield finished


def train_one(run: Run[S], *, force: bool = False) -> TrainedRun[S]:
    """Train a single run, which is checked before it is made; with ``force`` start over."""
    run.check(force=force)
    with held(run.directory):
        run.prepare(force=force)
        return run.train()


def _write_log(path: epath.Path, events: epath.Path | None, lines: Sequence[Line]) -> None:
    """All lines so far; for TensorBoard as well, where a directory for it is given."""
    write_json_lines(path, lines)
    if events is not None:
        write_events(events / path.stem, lines)
