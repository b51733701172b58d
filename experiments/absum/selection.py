"""The command that chooses a regulariser's strength."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, arg

from experiments.absum.command_options import Evaluations, default_directory, described, slug
from experiments.absum.config import Settings, Training
from experiments.absum.datasets import load_dataset
from experiments.absum.evaluations import EVALUATIONS
from experiments.absum.figures.selection import score_panel
from experiments.absum.regularizers import REGULARIZERS
from experiments.absum.run import Classifier, Finished
from experiments.harness.command_line import RunOutput
from experiments.harness.evaluation import Comparison, Evaluation
from experiments.harness.flags import Flags, require_made
from experiments.harness.report import require_own_result, write_report
from experiments.harness.run import Run, compare
from experiments.harness.settings import (
    choices,
    find,
    flag,
    require_different,
    require_seeds,
    require_strength,
    to_json,
    without_places,
)
from experiments.harness.stored import Measured
from experiments.harness.tables import Table
from experiments.training.devices import is_main_process


def _scored() -> dict[str, Evaluation]:
    """The evaluations that a strength can be chosen by."""
    return {name: each for name, each in EVALUATIONS.items() if each.score is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Select:
    """Choose a regulariser's strength by an evaluation of validation images; test images are not looked at."""

    training: Annotated[Training, OmitArgPrefixes] = Training()
    regularizer: Annotated[str, arg(help=f"One of {choices(REGULARIZERS, own=True)}.")] = "absum"
    strengths: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    """Which to try."""
    seed: int = 0
    """The first, as in compare."""
    seeds: int = 1
    """How many seeds, counted from --seed; the strength with the best mean is chosen."""
    by: Annotated[str, arg(help=f"Which evaluation chooses, of {choices(_scored())}.")] = "fourier"
    evaluation: Annotated[Evaluations, arg(name="")] = Evaluations()
    output: Annotated[RunOutput, OmitArgPrefixes] = RunOutput()

    def check_flags(self, flags: Flags) -> None:
        """Raise ``ValueError`` for a flag that was given and would be left aside."""
        self.training.check_flags(flags)
        find(self.by, _scored(), "--by")
        require_made(flags, EVALUATIONS, [self.by])
        if f"{flag(self.by)}.split" in flags:
            raise ValueError(f"{flag(self.by)}.split must not be given to select, which is by validation images")

    def run(self) -> None:
        """Train and evaluate for every strength, report, and name the one with the best score."""
        chooser = find(self.by, _scored(), "--by")
        require_seeds(self.seed, self.seeds)
        if not self.strengths:
            raise ValueError("--strengths must be at least one number, got none")
        for strength in self.strengths:
            require_strength("--strengths", strength)
        require_different("--strengths", tuple(f"{strength:g}" for strength in self.strengths))
        directory = self.output.out or default_directory(f"select-{slug(self.regularizer)}", self.training)
        require_own_result(directory, Classifier.experiment, "select")
        dataset = load_dataset(self.training)
        networks = [
            Settings(training=self.training, regularizer=self.regularizer, strength=strength, seed=seed)
            for strength in self.strengths
            for seed in range(self.seed, self.seed + self.seeds)
        ]
        runs = [
            Run(
                Classifier(each, dataset),
                directory / f"{each.strength:g}-seed{each.seed}",
                **self.output.of_run,
            )
            for each in networks
        ]
        of_validation = dataclasses.replace(getattr(self.evaluation, self.by), split="validation")
        about = {"command": "select", "settings": without_places(to_json(self)), "dataset": described(dataset)}
        selection = _selection(self.regularizer, self.by, chooser)
        title = f"{dataset.name}; {self.regularizer} on validation images"
        with compare(runs, {self.by: (chooser, of_validation)}, directory, force=self.output.force) as finished:
            write_report(directory, finished, {self.by: (selection, of_validation)}, about=about, title=title)
        if is_main_process():
            of_chooser = [(trained, measured[self.by]) for trained, measured in finished]
            best = _scored_strengths(of_chooser, chooser)["best"]
            print(f"best strength of {self.regularizer} by {self.by}: {best:g}")


def _selection(regularizer: str, by: str, chooser: Evaluation) -> Evaluation:
    """The evaluation that chooses, with the choice as what is measured of several networks.

    Its findings, figures and comparisons are left out, which are of networks that are reported.
    """

    def tables(numbers: dict[str, Any]) -> dict[str, Table]:
        heading = f"strengths of {regularizer} by {by} on validation images, best: {numbers['best']:g}"
        lines = [
            [f"{row['strength']:g}", *(f"{each:.3f}" for each in (row["score"], *row["means"].values()))]
            for row in numbers["strengths"]
        ]
        return {heading: (["strength", f"score by {by}", *numbers["strengths"][0]["means"]], lines)}

    def products(measured: Measured) -> dict[str, Any]:
        rows, best = measured.numbers["strengths"], measured.numbers["best"]
        strengths, scores = [row["strength"] for row in rows], [row["scores"] for row in rows]
        return {"selection.png": score_panel(strengths, scores, best, regularizer=regularizer, by=by)}

    return Evaluation(
        measure=chooser.measure, settings=chooser.settings, data=chooser.data, version=chooser.version,
        cells=chooser.cells, comparison=Comparison(
            lambda finished, settings, partial: Measured(_scored_strengths(finished, chooser)),
            tables=tables, products=products,
        ),
    )  # fmt: skip


def _scored_strengths(finished: Finished, chooser: Evaluation) -> dict[str, Any]:
    """Plain numbers: ``strengths``, each with its score and the means of what a table shows, and the ``best``."""
    of_strength: dict[float, list[Any]] = {}
    for trained, measured in finished:
        of_strength.setdefault(trained.subject.strength, []).append(measured.numbers)
    rows = [_row(strength, chooser, numbers) for strength, numbers in of_strength.items()]
    return {"strengths": rows, "best": max(rows, key=lambda row: row["score"])["strength"]}


def _row(strength: float, chooser: Evaluation, of_seeds: Sequence[Any]) -> dict[str, Any]:
    """The score of a strength, and the means of whatever else a table shows of it."""
    score: Any = chooser.score
    scores = [score(each) for each in of_seeds]
    cells = [chooser.cells(each) for each in of_seeds]
    means = {name: round(statistics.mean(each[name].value for each in cells), 6) for name in cells[0]}
    return {"strength": strength, "score": round(statistics.mean(scores), 6), "scores": scores, "means": means}
