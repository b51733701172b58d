"""A language model of the experiment, as what a run is of: a recipe, a score, a seed and a corpus."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath

from experiments.data.batches import Batch
from experiments.data.corpus import Corpus
from experiments.data.streams import evaluation_batches, window_batches
from experiments.data.text import load_corpus
from experiments.data.window_lengths import WindowLengths
from experiments.harness.directory import read_config
from experiments.harness.run import Run, TrainedRun
from experiments.harness.settings import from_json, to_json
from experiments.harness.subject import PhaseMaker
from experiments.sigsoftmax.config import Settings, find_score
from experiments.sigsoftmax.heads import TiedHead
from experiments.sigsoftmax.models import BODIES, LanguageModel, num_parameters
from experiments.sigsoftmax.recipes import Recipe
from experiments.sigsoftmax.task import make_task
from experiments.training.averaging import Averaging
from experiments.training.devices import devices_for
from experiments.training.phase import Phase, TrainingData
from experiments.training.precision import layer_dtype
from experiments.training.task import Task

# Settings that do not bear on what is trained: both phases have a constant rate, so that a run can be made longer.
# Those of fine-tuning alone are its own, so that another one can follow the same first phase.
_OF_FINE_TUNING = ("finetune_learning_rate", "finetune_bptt_excess")
_NOT_OF_IDENTITY = ("epochs", "finetune_epochs", "test_batch_size", "dynamic", *_OF_FINE_TUNING)
# Settings that runs from before them do not have: left out at the value that those had.
_USUAL = {"compute_dtype": "float32"}


@dataclasses.dataclass(frozen=True)
class WordModel:
    """A word-level language model that is trained on a corpus by a recipe.

    Args:
        given: its settings.
        corpus: its text.
    """

    given: Settings
    corpus: Corpus

    experiment = "sigsoftmax"

    @property
    def recipe(self) -> Recipe:
        """Of the settings."""
        return self.given.recipe

    @functools.cached_property
    def model(self) -> LanguageModel:
        """The flax module."""
        return build_model(self.recipe, self.given.score, len(self.corpus.vocabulary))

    @property
    def label(self) -> str:
        """Short name for the progress."""
        return f"{self.given.name}, seed {self.given.seed}"

    @property
    def group(self) -> str:
        """What it is one seed of."""
        return self.given.name

    @property
    def settings(self) -> Mapping[str, Any]:
        """Plain values from which it can be made again."""
        return to_json(self.given)

    @functools.cached_property
    def identity(self) -> Mapping[str, Any]:
        """The settings but for how long it is trained and those of fine-tuning, and the texts themselves."""
        settings = to_json(self.given)
        settings["recipe"] = {
            name: value
            for name, value in settings["recipe"].items()
            if name not in _NOT_OF_IDENTITY and (name, value) not in _USUAL.items()
        }
        return settings | _checksums(self.corpus)

    @functools.cached_property
    def facts(self) -> Mapping[str, Any]:
        """The first columns of its row."""
        return {
            "network": self.given.name,
            "experts": self.recipe.num_experts,
            "parameters": num_parameters(self.model),
            "seed": self.given.seed,
        }

    def check(self) -> None:
        """Raise ``ValueError`` if the recipe does not fit the devices, the corpus or itself."""
        self.given.check()
        _ = self.model
        devices_for(self.recipe.batch_size)
        self.training_windows(self.recipe.window_lengths(), self.given.seed, 0, 0)
        for split in ("valid", "test"):
            if (size := len(getattr(self.corpus, split))) < 2:
                raise ValueError(
                    f"the {split} split of {self.corpus.name} must have at least 2 tokens, got {size}"
                )

    def phases(self) -> Mapping[str, PhaseMaker]:
        """Training, and fine-tuning, which may have no epochs."""
        return {"base": self._base, "finetune": self._finetuning}

    def training_windows(self, lengths: WindowLengths, seed: int, epoch: int, start: int) -> Iterator[Batch]:
        """This process's windows of an epoch of the phase with these lengths and this seed."""
        sizes = lengths.padded_sizes(self.recipe.window_sizes)
        share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        tokens, streams = self.corpus.train, self.recipe.batch_size
        return window_batches(tokens, streams, lengths, sizes=sizes, seed=seed, epoch=epoch, start=start, **share)

    def validation_windows(self) -> Iterator[Batch]:
        """This process's streams, with as many empty ones as make them a multiple of the devices."""
        streams, processes = self.recipe.evaluation_batch_size, jax.process_count()
        devices = len(devices_for(self.recipe.batch_size))
        share = -(-streams // devices) * devices // processes
        first = jax.process_index() * share
        for batch in evaluation_batches(self.corpus.valid, streams, self.recipe.bptt):
            padded = {name: _with_empty(values, share * processes) for name, values in batch.items()}
            yield {name: values[first : first + share] for name, values in padded.items()}

    def _base(self, initial_params: Any) -> Phase:
        averages = self.recipe.optimizer == "sgd"
        return Phase(
            self._task(self.recipe.learning_rate),
            self._training_data(self.recipe.window_lengths(), self.given.seed),
            self.recipe.epochs, self.given.seed,
            label=f"train {self.label}", initial_params=initial_params, keep_best=True,
            averaging=Averaging(self.recipe.patience) if averages else None,
        )  # fmt: skip

    def _finetuning(self, initial_params: Any) -> Phase:
        # A seed of its own: with the first phase's it would see the same windows and dropout masks again.
        seed = (self.given.seed + 2**30) % 2**31
        return Phase(
            self._task(self.recipe.finetune_learning_rate),
            self._training_data(self.recipe.window_lengths(finetune=True), seed),
            self.recipe.finetune_epochs, seed,
            label=f"fine-tune {self.label}", initial_params=initial_params, keep_best=True,
            averaging=Averaging(self.recipe.patience, from_start=True),
            own={name: getattr(self.recipe, name) for name in _OF_FINE_TUNING},
        )  # fmt: skip

    def _task(self, learning_rate: float) -> Task:
        # The same task for any length, as it decides what is compiled.
        return make_task(self.model, dataclasses.replace(self.recipe, epochs=1, finetune_epochs=1), learning_rate)

    def _training_data(self, lengths: WindowLengths, seed: int) -> TrainingData:
        streams = self.recipe.batch_size
        return TrainingData(
            epoch=functools.partial(self.training_windows, lengths, seed),
            validation=self.validation_windows,
            units_per_epoch=streams * (len(self.corpus.train) // streams - 1),
            count=lambda batch: int(batch["length"][0]) * streams,
            unit="tokens",
            rows=streams,
        )


WordModelRun = TrainedRun[WordModel]


def build_model(recipe: Recipe, score: str, vocab_size: int) -> LanguageModel:
    """The flax module of a recipe."""
    head = TiedHead(
        vocab_size, recipe.embedding_size, recipe.last_size, recipe.num_experts, find_score(score),
        latent_dropout=recipe.dropouts.latent, dtype=layer_dtype(recipe.compute_dtype),
    )  # fmt: skip
    return LanguageModel(BODIES[recipe.body](recipe), head, recipe.dropouts)


def corpus_of(recipe: Recipe, data_dir: Path | None) -> Corpus:
    """The corpus that a recipe names, with the words that it takes."""
    rule = {"minimum_count": recipe.minimum_count, "vocabulary_size": recipe.vocabulary_size}
    return load_corpus(recipe.data, data_dir, **rule)


def open_run(directory: epath.Path, data_dir: Path | None) -> Run[WordModel]:
    """The run in a directory, with its corpus.

    Raises:
        ValueError: if the directory holds no run of this experiment, or its corpus is another.
    """
    values = read_config(directory, WordModel.experiment)
    settings = from_json(Settings, values["settings"], f"{directory / 'config.json'}: settings")
    settings.check()
    corpus = corpus_of(settings.recipe, data_dir)
    run = Run(WordModel(settings, corpus), directory)
    checksums = _checksums(corpus)
    if any(values["identity"].get(name) != checksum for name, checksum in checksums.items()):
        raise ValueError(
            f"{directory} was trained on another {corpus.name}: its vocabulary, train or valid split differs;"
            " --data-dir must be the directory of that one"
        )
    run.run_directory.require_own()  # and not whether it could be trained here, which only takes more
    return run


def _checksums(corpus: Corpus) -> dict[str, str]:
    """Of what a model is trained and chosen by."""
    return {f"{split}_checksum": corpus.checksum(split) for split in ("train", "valid")}


def _with_empty(values: np.ndarray, count: int) -> np.ndarray:
    """The array with as many zeros at its end as make it ``count`` long."""
    return np.concatenate([values, np.zeros((count - len(values), *values.shape[1:]), values.dtype)])
