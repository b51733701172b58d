"""Train CNNs with each regulariser and attack them at every Fourier frequency."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from etils import epath
from tyro.conf import OmitArgPrefixes, arg

from experiments.absum.command_options import (
    At,
    Evaluations,
    Models,
    Names,
    Regularizers,
    default_directory,
    described,
    slug,
    table_title,
)
from experiments.absum.config import Settings, Training
from experiments.absum.datasets import load_dataset
from experiments.absum.evaluations import EVALUATIONS
from experiments.absum.own_evaluation import EvaluateOwn
from experiments.absum.run import Classifier, open_run, variables
from experiments.absum.selection import Select
from experiments.data.images import load_images
from experiments.harness import command_line
from experiments.harness.command_line import Output, RunOutput
from experiments.harness.evaluation import chosen, made
from experiments.harness.export import export
from experiments.harness.flags import Flags, require_made
from experiments.harness.page import Report
from experiments.harness.report import require_own_result, write_report
from experiments.harness.run import Run, compare, train_one
from experiments.harness.settings import (
    require_different,
    require_seeds,
    to_json,
    without_places,
)
from experiments.training.devices import is_main_process


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare:
    """Train a network with each regulariser, attack each at every frequency, and compare them."""

    training: Annotated[Training, OmitArgPrefixes] = Training()
    models: Models = ()
    regularizers: Regularizers = ("none", "weight_decay", "l1", "absum")
    strengths: tuple[float, ...] | None = None
    """One for each of --regularizers; by default those chosen on validation images for the model."""
    seed: int = 0
    """The first; of the validation split, the initialisation, the order of the data and its augmentation."""
    seeds: int = 1
    """How many seeds, counted from --seed."""
    evaluations: Names = ()
    evaluation: Annotated[Evaluations, arg(name="")] = Evaluations()
    output: Annotated[RunOutput, OmitArgPrefixes] = RunOutput()

    def check_flags(self, flags: Flags) -> None:
        """Raise ``ValueError`` for a flag that was given and would be left aside."""
        self.training.check_flags(flags)
        require_made(flags, EVALUATIONS, made(EVALUATIONS, self.evaluations))
        if "--model" in flags and self.models and self.training.model not in self.models:
            raise ValueError(
                f"--model must be among --models {' '.join(self.models)} where both are given, got"
                f" {self.training.model}"
            )

    def run(self) -> None:
        """Train, evaluate and report."""
        require_seeds(self.seed, self.seeds)
        require_different("--regularizers", self.regularizers)
        strengths = (None,) * len(self.regularizers) if self.strengths is None else self.strengths
        if len(strengths) != len(self.regularizers):
            raise ValueError(
                f"--strengths must be one for each of {', '.join(self.regularizers)}, got {strengths}"
            )
        self.training.check()
        trainings = self._trainings()
        directory = self.output.out or default_directory("compare", *trainings)
        require_own_result(directory, Classifier.experiment, "compare")
        evaluations = chosen(EVALUATIONS, self.evaluations, self.evaluation)
        dataset = load_dataset(self.training)
        networks = [
            Settings(training=training, regularizer=name, strength=strength, seed=seed)
            for training in trainings
            for name, strength in zip(self.regularizers, strengths, strict=True)
            for seed in range(self.seed, self.seed + self.seeds)
        ]
        subjects = [Classifier(each, dataset, is_of_several_models=len(trainings) > 1) for each in networks]
        runs = [
            Run(
                each,
                directory / f"{slug(each.group.replace(' ', '-'))}-seed{each.given.seed}",
                **self.output.of_run,
            )
            for each in subjects
        ]
        about = {"command": "compare", "settings": without_places(to_json(self)), "dataset": described(dataset)}
        with compare(runs, evaluations, directory, force=self.output.force) as finished:
            write_report(directory, finished, evaluations, about=about, title=table_title(dataset))

    def _trainings(self) -> tuple[Training, ...]:
        """One for each model."""
        if not self.models:
            return (self.training,)
        require_different("--models", self.models)
        return tuple(dataclasses.replace(self.training, model=model) for model in self.models)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Train one network; the test images are left alone."""

    network: Annotated[Settings, OmitArgPrefixes] = Settings()
    output: Annotated[RunOutput, OmitArgPrefixes] = RunOutput()

    def check_flags(self, flags: Flags) -> None:
        """Raise ``ValueError`` for a flag that was given and would be left aside."""
        self.network.training.check_flags(flags)

    def run(self) -> None:
        """Train, and say how well."""
        name = f"train-{slug(self.network.regularizer)}"
        directory = self.output.out or default_directory(name, self.network.training)
        subject = Classifier(self.network, load_dataset(self.network.training))
        run = Run(subject, directory, **self.output.of_run)
        last = train_one(run, force=self.output.force).lines[-1]
        if is_main_process():
            accuracy, ratio = last["validation_accuracy"], last["absum_ratio"]
            print(f"validation accuracy {accuracy:.4f}, filter-sum ratio {ratio:.4f}")
            print(f"evaluate it with: python -m experiments.absum evaluate --run {directory}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Attack a network that was trained before, and report."""

    run_directory: Annotated[epath.Path, arg(name="run")]
    """Directory that train wrote, or one network of compare."""
    data_dir: Path | None = None
    """Directory of the run's own data, where it is not the one that it was trained from."""
    other_data: str | None = None
    """Another data set, whose test images are taken in place of the run's own."""
    other_data_dir: Path | None = None
    """Directory of that data set's files."""
    at: At = None
    evaluations: Names = ()
    evaluation: Annotated[Evaluations, arg(name="")] = Evaluations()
    output: Annotated[Output, OmitArgPrefixes] = Output()

    def check_flags(self, flags: Flags) -> None:
        """Raise ``ValueError`` for a flag that was given and would be left aside."""
        require_made(flags, EVALUATIONS, made(EVALUATIONS, self.evaluations))

    def run(self) -> None:
        """Evaluate and report; the run itself is only read where --out is elsewhere."""
        if self.other_data_dir is not None and self.other_data is None:
            raise ValueError(
                f"--other-data must be given with --other-data-dir {self.other_data_dir}, got nothing"
            )
        opened = open_run(self.run_directory, self.data_dir)
        directory = self.output.out or opened.made_of(self.at)
        require_own_result(directory, Classifier.experiment, "evaluate", run=self.run_directory)
        subject = opened.subject
        if self.other_data is not None:
            other = load_images(self.other_data, self.other_data_dir)
            if other.image_shape != subject.dataset.image_shape:
                raise ValueError(
                    f"--other-data {self.other_data} must have images of the run's shape"
                    f" {subject.dataset.image_shape}, got {other.image_shape}"
                )
            subject = dataclasses.replace(subject, dataset=subject.dataset.tested_on(other))
        evaluations = chosen(EVALUATIONS, self.evaluations, self.evaluation)
        finished = [dataclasses.replace(opened, subject=subject).evaluate(evaluations, directory, self.at)]
        about = {"command": "evaluate", "settings": without_places(to_json(self)), "network": subject.identity}
        about["dataset"] = described(subject.dataset)
        write_report(directory, finished, evaluations, about=about, title=table_title(subject.dataset))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Write the parameters of a trained network as msgpack and npz, with the lines that load them."""

    run_directory: Annotated[epath.Path, arg(name="run")]
    """Directory that train wrote, or one network of compare."""
    data_dir: Path | None = None
    """Directory of its data, where it is not the one that it was trained from."""
    at: At = None
    output: Annotated[Output, OmitArgPrefixes] = Output()

    def run(self) -> None:
        """Export."""
        opened = open_run(self.run_directory, self.data_dir)
        trained = opened.load(self.at)
        lines = _LOADING.format(
            arguments=trained.subject.model_arguments, shape=trained.subject.dataset.image_shape
        )
        export(variables(trained), self.output.out or opened.made_of(self.at) / "export", lines)


_LOADING = """\
import pathlib, flax.serialization, numpy as np
from experiments.absum.run import build_model
model = build_model{arguments}
variables = flax.serialization.msgpack_restore((pathlib.Path(__file__).parent / "variables.msgpack").read_bytes())
print(model.apply(variables, np.zeros((1, *{shape}), np.float32)))  # logits of images in [0, 1]
"""

COMMANDS = {
    "compare": Compare,
    "train": Train,
    "evaluate": Evaluate,
    "evaluate-own": EvaluateOwn,
    "select": Select,
    "export": Export,
    "report": Report,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a sub-command; ``compare`` when none is named."""
    command_line.main(COMMANDS, arguments, experiment=Classifier.experiment, description=__doc__)


if __name__ == "__main__":
    main()
