"""One language model of the experiment: its directory, and its two phases of training, each done once."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from experiments.data.batches import Batch
from experiments.data.streams import WindowLengths, evaluation_batches, window_batches
from experiments.data.text import Corpus, checksum, load_corpus
from experiments.sigsoftmax.models import LanguageModel
from experiments.sigsoftmax.recipes import Recipe
from experiments.sigsoftmax.settings import Settings, build_model
from experiments.sigsoftmax.task import make_optimizer, make_task
from experiments.training.averaging import Averaging
from experiments.storage import read_json
from experiments.training.loop import best_state, train
from experiments.training.metrics import read_metrics
from experiments.training.plan import Plan, TrainingData
from experiments.training.run_directory import RunDirectory, require_finished

_PRODUCTS = ("checkpoints", "best", "metrics.jsonl", "finetune", "row.json")
_CHECKSUMS = ("training_data_checksum", "validation_data_checksum")

Params = Any


@dataclasses.dataclass(frozen=True)
class Network:
    """A language model of one output activation and one seed.

    Args:
        settings: what it is.
        corpus: its text.
        directory: gets config.json, metrics.jsonl, checkpoints/, best/, finetune/ and row.json.
        checkpoint_every: steps between checkpoints within an epoch.
        is_finished: whether it was trained to its end before, and is only read.
    """

    settings: Settings
    corpus: Corpus
    directory: Path
    checkpoint_every: int | None = None
    is_finished: bool = False

    @property
    def recipe(self) -> Recipe:
        """Of the settings."""
        return self.settings.recipe

    @functools.cached_property
    def model(self) -> LanguageModel:
        """The flax module."""
        return build_model(self.recipe, self.settings.score, len(self.corpus.vocabulary))

    @property
    def label(self) -> str:
        """For the progress."""
        return f"{self.settings.name}, seed {self.settings.seed}"

    @property
    def run_directory(self) -> RunDirectory:
        """The directory with what it is of."""
        texts = self.corpus.train, self.corpus.valid
        checksums = [checksum(self.corpus.vocabulary, text) for text in texts]
        identity = self.settings.to_json() | dict(zip(_CHECKSUMS, checksums, strict=True))
        return RunDirectory(self.directory, identity)

    def prepare(self, *, force: bool) -> None:
        """Make the directory, or see that what it holds is of these settings.

        Raises:
            ValueError: if it was written with other settings or data, or the recipe does not fit.
        """
        self.check()
        self.run_directory.prepare({}, force=force, products=_PRODUCTS)

    def check(self) -> None:
        """Raise ``ValueError`` if the recipe does not fit the devices, the corpus or itself."""
        _ = self.model
        devices = jax.device_count()
        if self.recipe.batch_size % devices:
            raise ValueError(f"--batch-size {self.recipe.batch_size} is not a multiple of the {devices} devices")
        self.training_windows(self.settings.seed, 0, 0)
        for split in ("valid", "test"):
            if len(getattr(self.corpus, split)) < 2:
                raise ValueError(f"the {split} split of {self.corpus.name} has one token, expected at least 2")

    def training_windows(self, seed: int, epoch: int, start: int) -> Iterator[Batch]:
        """This process's windows of an epoch of the phase with this seed."""
        bptt, spread = self.recipe.bptt, self.recipe.bptt_spread
        lengths = WindowLengths(base=bptt, spread=spread, smallest=min(5, bptt), largest=bptt + round(3 * spread))
        share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        tokens, rows = self.corpus.train, self.recipe.batch_size
        return window_batches(tokens, rows, lengths, seed=seed, epoch=epoch, start=start, **share)

    def trained(self) -> dict[str, Params]:
        """The parameters after each phase, as host values; what was trained before is read."""
        recipe, directory = self.recipe, self.directory
        averages = recipe.optimizer == "sgd"
        found = {
            "base": self._phase(
                "train", directory, self.settings.seed, recipe.learning_rate, recipe.epochs,
                averaging=Averaging(recipe.patience) if averages else None,
            )
        }  # fmt: skip
        if recipe.finetune_epochs:
            # A seed of its own: with the first phase's it would see the same windows and dropout masks again.
            seed = (self.settings.seed + 2**30) % 2**31
            found["finetuned"] = self._phase(
                "fine-tune", directory / "finetune", seed, recipe.finetune_learning_rate, recipe.finetune_epochs,
                averaging=Averaging(recipe.patience, from_start=True), initial_params=found["base"],
            )  # fmt: skip
        return found

    def _phase(
        self, name: str, directory: Path, seed: int, learning_rate: float, epochs: int, **options: Any
    ) -> Params:
        schedule = _constant_schedule(learning_rate)
        plan = Plan(
            epochs, seed, directory, label=f"{name} {self.label}",
            keep_best=True, checkpoint_every=self.checkpoint_every, **options,
        )  # fmt: skip
        task, optimizer = make_task(self.model, self.recipe), make_optimizer(self.recipe, schedule)
        if self.is_finished:
            state = best_state(task, optimizer, plan)
        else:
            state = train(task, optimizer, schedule, self._training_data(seed), plan)
        return jax.tree.map(np.asarray, state.evaluated_params)

    def _training_data(self, seed: int) -> TrainingData:
        rows = self.recipe.batch_size
        return TrainingData(
            epoch=functools.partial(self.training_windows, seed),
            validation=self._validation_windows,
            units_per_epoch=rows * (len(self.corpus.train) // rows - 1),
            count=lambda batch: int(batch["length"][0]) * rows,
            unit="tokens",
        )

    def _validation_windows(self) -> Iterator[Batch]:
        """This process's rows, with as many empty ones as make them a multiple of the devices."""
        rows, devices, processes = self.recipe.evaluation_batch_size, jax.device_count(), jax.process_count()
        share = -(-rows // devices) * devices // processes
        first = jax.process_index() * share
        for batch in evaluation_batches(self.corpus.valid, rows, self.recipe.bptt):
            padded = {name: _with_rows(values, share * processes) for name, values in batch.items()}
            yield {name: values[first : first + share] for name, values in padded.items()}

    def log(self) -> list[dict[str, Any]]:
        """The lines of both phases, the second's epochs counted on."""
        base = read_metrics(self.directory / "metrics.jsonl")
        tuned = read_metrics(self.directory / "finetune" / "metrics.jsonl")
        return base + [line | {"epoch": line["epoch"] + len(base)} for line in tuned]

    def final_phase(self) -> str:
        """The phase whose best validation loss is the smaller."""
        if not self.recipe.finetune_epochs:
            return "base"
        base = [line["validation_loss"] for line in read_metrics(self.directory / "metrics.jsonl")]
        tuned = [line["validation_loss"] for line in read_metrics(self.directory / "finetune" / "metrics.jsonl")]
        return "finetuned" if min(tuned) < min(base) else "base"

    def require_finished(self) -> None:
        """Raise ``ValueError`` unless both phases came to their end."""
        base = read_metrics(self.directory / "metrics.jsonl")
        tuned = read_metrics(self.directory / "finetune" / "metrics.jsonl")
        losses = [line["validation_loss"] for line in tuned]
        stopped = Averaging(self.recipe.patience, from_start=True).is_triggered(losses)
        require_finished(self.directory, len(base), self.recipe.epochs)
        if not stopped:
            require_finished(self.directory / "finetune", len(tuned), self.recipe.finetune_epochs)


_constant_schedule = functools.cache(optax.constant_schedule)


def _with_rows(values: np.ndarray, rows: int) -> np.ndarray:
    """The array with empty rows at its end."""
    return np.concatenate([values, np.zeros((rows - len(values), *values.shape[1:]), values.dtype)])


def open_network(directory: Path, data_dir: Path | None) -> Network:
    """A language model that was trained to its end before.

    Raises:
        ValueError: if the directory holds none, or one that is not finished, or of another corpus.
    """
    for name in ("config.json", "checkpoints", "best"):
        if not (directory / name).exists():
            raise ValueError(f"{directory} holds no trained language model: it has no {name}")
    values = read_json(directory / "config.json")
    trained_on = [values.pop(name, None) for name in _CHECKSUMS]
    try:
        settings = Settings.from_json(values)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{directory / 'config.json'} is not the config of a language model: {error}") from error
    corpus = load_corpus(settings.recipe.data, data_dir)
    network = Network(settings, corpus, directory, is_finished=True)
    if [network.run_directory.identity[name] for name in _CHECKSUMS] != trained_on:
        differs = "its vocabulary, train or valid split differs"
        raise ValueError(f"{directory} was trained on another {corpus.name}: {differs}")
    network.require_finished()
    for name in ("checkpoints", "best") if settings.recipe.finetune_epochs else ():
        if not (directory / "finetune" / name).exists():
            raise ValueError(f"{directory} is damaged: it has no finetune/{name}")
    return network
