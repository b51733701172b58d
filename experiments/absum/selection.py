"""The command that chooses a regulariser's strength."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Annotated, Any

from etils import epath
from tyro.conf import OmitArgPrefixes, arg

from experiments.absum.command_options import Evaluations, default_directory, slug
from experiments.absum.config import Settings, Training
from experiments.absum.datasets import load_dataset
from experiments.absum.evaluations import EVALUATIONS
from experiments.absum.regularizers import REGULARIZERS
from experiments.absum.run import Classifier
from experiments.harness.command_line import RunOutput
from experiments.harness.evaluation import Evaluation
from experiments.harness.report import require_own_result
from experiments.harness.run import Run, compare
from experiments.harness.settings import (
    choices,
    find,
    require_different,
    require_seeds,
    require_strength,
    to_json,
    without_places,
)
from experiments.harness.tables import print_table
from experiments.storage import write_json
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

    def run(self) -> None:
        """Train and evaluate for every strength, and name the one with the best score."""
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
        finished = compare(runs, {self.by: (chooser, of_validation)}, force=self.output.force)
        if is_main_process():
            numbers = [measured[self.by].numbers for _, measured in finished]
            self._report(
                chooser, [numbers[i : i + self.seeds] for i in range(0, len(numbers), self.seeds)], directory
            )

    def _report(self, chooser: Evaluation, numbers: Sequence[Sequence[Any]], directory: epath.Path) -> None:
        """Write and print what each strength gave.

        Args:
            chooser: that gave it.
            numbers: for each strength, of each seed.
            directory: gets selection.json.
        """
        rows = [_row(strength, chooser, each) for strength, each in zip(self.strengths, numbers, strict=True)]
        best = max(rows, key=lambda row: row["score"])["strength"]
        selection = {"settings": without_places(to_json(self)), "rows": rows, "best": best}
        write_json(directory / "selection.json", selection)
        lines = [
            [f"{row['strength']:g}", *(f"{each:.3f}" for each in (row["score"], *row["means"].values()))]
            for row in rows
        ]
        header = ["strength", f"score by {self.by}", *rows[0]["means"]]
        print_table(f"{self.regularizer} on validation images, {self.seeds} seeds", (header, lines))
        print(f"best strength of {self.regularizer} by {self.by}: {best:g}; wrote {directory / 'selection.json'}")


def _row(strength: float, chooser: Evaluation, of_seeds: Sequence[Any]) -> dict[str, Any]:
    """The score of a strength, and the means of whatever else a table shows of it."""
    score: Any = chooser.score
    scores = [score(each) for each in of_seeds]
    cells = [chooser.cells(each) for each in of_seeds]
    means = {name: round(statistics.mean(each[name].value for each in cells), 6) for name in cells[0]}
    return {"strength": strength, "score": round(statistics.mean(scores), 6), "scores": scores, "means": means}
