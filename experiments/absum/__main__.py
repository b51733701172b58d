"""Train CNNs with each regulariser and attack them at every Fourier frequency."""

import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from typing_extensions import Doc
from tyro.conf import OmitArgPrefixes, arg

from experiments.absum.config import Settings, Training
from experiments.absum.evaluations import EVALUATIONS
from experiments.absum.own_classifier import Given, OwnClassifier, load_params
from experiments.absum.regularizers import REGULARIZERS
from experiments.absum.run import Classifier, load_dataset, open_run, variables
from experiments.data.image_sets import image_set_names
from experiments.data.images import ImageDataset, load_images
from experiments.harness import command_line
from experiments.harness.command_line import Output, RunOutput
from experiments.harness.directory import held
from experiments.harness.evaluation import check, chosen, evaluate
from experiments.harness.export import export
from experiments.harness.page import Report
from experiments.harness.report import require_own_result, write_report
from experiments.harness.run import Run, compare, train_one
from experiments.harness.settings import (
    choices,
    evaluation_settings,
    find,
    require_different,
    require_seeds,
    require_strength,
    to_json,
    without_places,
)
from experiments.storage import require_writable, write_json
from experiments.training.devices import is_main_process

Evaluations: Any = evaluation_settings(EVALUATIONS)
Names = Annotated[
    tuple[str, ...],
    arg(
        help=f"Which to make, of {', '.join(EVALUATIONS)}; when none is named,"
        f" {', '.join(name for name, each in EVALUATIONS.items() if each.by_default)}."
    ),
]
Regularizers = Annotated[tuple[str, ...], arg(help=f"Which to compare, of {choices(REGULARIZERS, own=True)}.")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare:
    """Train a network with each regulariser, attack each at every frequency, and compare them."""

    training: Annotated[Training, OmitArgPrefixes] = Training()
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

    def run(self) -> None:
        """Train, evaluate and report."""
        require_seeds(self.seed, self.seeds)
        require_different("--regularizers", self.regularizers)
        strengths = self.strengths or (None,) * len(self.regularizers)
        if len(strengths) != len(self.regularizers):
            raise ValueError(
                f"--strengths must be one for each of {len(self.regularizers)} regularizers, got {strengths}"
            )
        self.training.check()
        directory = self.output.out or default_directory("compare", self.training)
        require_own_result(directory, Classifier.experiment, "compare")
        evaluations = chosen(EVALUATIONS, self.evaluations, self.evaluation)
        dataset = load_dataset(self.training)
        networks = [
            Settings(training=self.training, regularizer=name, strength=strength, seed=seed)
            for name, strength in zip(self.regularizers, strengths, strict=True)
            for seed in range(self.seed, self.seed + self.seeds)
        ]
        runs = [
            Run(
                Classifier(each, dataset),
                directory / f"{_slug(each.regularizer)}-seed{each.seed}",
                **self.output.checkpoints,
            )
            for each in networks
        ]
        finished = compare(runs, evaluations, force=self.output.force)
        about = {"command": "compare", "settings": without_places(to_json(self)), "dataset": _described(dataset)}
        write_report(directory, finished, evaluations, about=about, title=_title(dataset))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Train one network; the test images are left alone."""

    network: Annotated[Settings, OmitArgPrefixes] = Settings()
    output: Annotated[RunOutput, OmitArgPrefixes] = RunOutput()

    def run(self) -> None:
        """Train, and say how well."""
        name = f"train-{_slug(self.network.regularizer)}"
        directory = self.output.out or default_directory(name, self.network.training)
        subject = Classifier(self.network, load_dataset(self.network.training))
        run = Run(subject, directory, **self.output.checkpoints)
        last = train_one(run, force=self.output.force).lines[-1]
        if is_main_process():
            accuracy, ratio = last["validation_accuracy"], last["absum_ratio"]
            print(f"validation accuracy {accuracy:.4f}, filter-sum ratio {ratio:.4f}")
            print(f"evaluate it with: python -m experiments.absum evaluate --run {directory}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Attack a network that was trained before, and report."""

    run_directory: Annotated[Path, arg(name="run")]
    """Directory that train wrote, or one network of compare."""
    data_dir: Path | None = None
    """Directory of the run's own data, where it is not the one that it was trained from."""
    other_data: str | None = None
    """Another data set, whose test images are taken in place of the run's own."""
    other_data_dir: Path | None = None
    """Directory of that data set's files."""
    evaluations: Names = ()
    evaluation: Annotated[Evaluations, arg(name="")] = Evaluations()
    output: Annotated[Output, OmitArgPrefixes] = Output()

    def run(self) -> None:
        """Evaluate and report; the run itself is only read where --out is elsewhere."""
        if self.other_data_dir is not None and self.other_data is None:
            raise ValueError(
                f"--other-data must be given with --other-data-dir {self.other_data_dir}, got nothing"
            )
        directory = self.output.out or self.run_directory
        require_own_result(directory, Classifier.experiment, "evaluate", run=self.run_directory)
        opened = open_run(self.run_directory, self.data_dir)
        subject = opened.subject
        if self.other_data is not None:
            other = load_images(self.other_data, self.other_data_dir)
            dataset = dataclasses.replace(
                subject.dataset, name=other.name, test_images=other.test_images, test_labels=other.test_labels
            )
            subject = dataclasses.replace(subject, dataset=dataset)
        evaluations = chosen(EVALUATIONS, self.evaluations, self.evaluation)
        finished = [dataclasses.replace(opened, subject=subject).evaluate(evaluations, directory)]
        about = {"command": "evaluate", "settings": without_places(to_json(self)), "network": subject.identity}
        about["dataset"] = _described(subject.dataset)
        write_report(directory, finished, evaluations, about=about, title=_title(subject.dataset))


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOwn:
    """Attack a classifier that was trained elsewhere, given as a function and its parameters, and report."""

    predict: str
    """package.module:function of (params, images [N, H, W, C] in [0, 1]) that gives logits."""
    params: str
    """Their file: msgpack, npz, or a directory that orbax wrote; or package.module:function that returns them."""
    data: Annotated[str, Doc(f"Its images, one of {', '.join(image_set_names())}.")] = "embedded"
    data_dir: Path | None = None
    """Directory of the data set's files."""
    evaluations: Names = ()
    evaluation: Annotated[Evaluations, arg(name="")] = Evaluations()
    output: Annotated[Output, OmitArgPrefixes] = Output()

    def run(self) -> None:
        """Evaluate and report."""
        directory = self.output.out or Path("runs") / f"evaluate-own-{_slug(self.predict)}-{_slug(self.data)}"
        require_own_result(directory, OwnClassifier.experiment, "evaluate-own")
        predict_fn: Any = find(self.predict, {}, "--predict", own=True)
        dataset = load_images(self.data, self.data_dir)
        given: Any = Given(OwnClassifier(self.predict, predict_fn, load_params(self.params), dataset))
        given.subject.check()
        evaluations = chosen(EVALUATIONS, self.evaluations, self.evaluation)
        check(given.subject, evaluations)
        require_writable(directory)
        with held(directory):
            finished = [(given, evaluate(given, evaluations, directory))]
        about = {"command": "evaluate-own", "settings": without_places(to_json(self))}
        about["dataset"] = _described(dataset)
        write_report(directory, finished, evaluations, about=about, title=_title(dataset))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Select:
    """Choose a regulariser's strength by the attack on validation images; test images are not looked at."""

    training: Annotated[Training, OmitArgPrefixes] = Training()
    regularizer: Annotated[str, arg(help=f"One of {choices(REGULARIZERS, own=True)}.")] = "absum"
    strengths: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    """Which to try."""
    seed: int = 0
    """The first, as in compare."""
    seeds: int = 1
    """How many seeds, counted from --seed; the strength with the best mean is chosen."""
    evaluation: Annotated[Evaluations, arg(name="")] = Evaluations()
    output: Annotated[RunOutput, OmitArgPrefixes] = RunOutput()

    def run(self) -> None:
        """Train and attack for every strength, and name the one with the best average robust accuracy."""
        require_seeds(self.seed, self.seeds)
        if not self.strengths:
            raise ValueError("--strengths must be at least one number, got none")
        for strength in self.strengths:
            require_strength("--strengths", strength)
        require_different("--strengths", tuple(f"{strength:g}" for strength in self.strengths))
        directory = self.output.out or default_directory(f"select-{_slug(self.regularizer)}", self.training)
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
                **self.output.checkpoints,
            )
            for each in networks
        ]
        fourier = dataclasses.replace(self.evaluation.fourier, split="validation")
        evaluations = {"fourier": (EVALUATIONS["fourier"], fourier)}
        finished = compare(runs, evaluations, force=self.output.force)
        numbers = [measured["fourier"].numbers for _, measured in finished]
        rows = [
            {"strength": strength}
            | {
                name: statistics.mean(each[name] for each in numbers[i * self.seeds : (i + 1) * self.seeds])
                for name in ("clean_accuracy", "average_robust_accuracy")
            }
            for i, strength in enumerate(self.strengths)
        ]
        best = max(rows, key=lambda row: row["average_robust_accuracy"])["strength"]
        if is_main_process():
            for row in rows:
                print(json.dumps(row))
            selection = {"settings": without_places(to_json(self)), "rows": rows, "best": best}
            write_json(directory / "selection.json", selection)
            print(f"best strength of {self.regularizer}: {best:g}; wrote {directory / 'selection.json'}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Write the parameters of a trained network as msgpack and npz, with the lines that load them."""

    run_directory: Annotated[Path, arg(name="run")]
    """Directory that train wrote, or one network of compare."""
    data_dir: Path | None = None
    """Directory of its data, where it is not the one that it was trained from."""
    output: Annotated[Output, OmitArgPrefixes] = Output()

    def run(self) -> None:
        """Export."""
        trained = open_run(self.run_directory, self.data_dir).load()
        lines = _LOADING.format(
            arguments=trained.subject.model_arguments, shape=trained.subject.dataset.image_shape
        )
        export(variables(trained), self.output.out or self.run_directory / "export", lines)


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


def default_directory(name: str, training: Training) -> Path:
    """Where results go when no --out is given."""
    return Path("runs") / f"{name}-{_slug(training.data)}-{_slug(training.model)}"


def _described(dataset: ImageDataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "train_images": len(dataset.train_labels),
        "test_images": len(dataset.test_labels),
        "image_shape": list(dataset.image_shape),
        "num_classes": dataset.num_classes,
    }


def _title(dataset: ImageDataset) -> str:
    return (
        f"{dataset.name}; test: accuracy on all {len(dataset.test_labels)} test images; worst: the most harmful"
        " frequency of the attack, with its (l,m) and [95 % interval at it]"
    )


def _slug(name: str) -> str:
    """A name as part of a path."""
    return name.replace(":", "-").replace("/", "-")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a sub-command; ``compare`` when none is named."""
    command_line.main(COMMANDS, arguments, experiment=Classifier.experiment, description=__doc__)


if __name__ == "__main__":
    main()
