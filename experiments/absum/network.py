"""One network of the experiment: its directory, its training and its attack, each done once."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from absum_jax import FourierSweep
from experiments.absum.config import Train, to_json, train_config_from_json
from experiments.absum.evaluation import predicted_classes, sweep_row, sweep_with_progress, timed
from experiments.absum.models import build_model
from experiments.absum.regularizers import REGULARIZERS, absum_ratio
from experiments.absum.task import make_optimizer, make_schedule, make_task
from experiments.data.batches import epoch_batches, padded_batches, steps_per_epoch
from experiments.data.images import ImageDataset, checksum, to_float, train_validation_split
from experiments.training.devices import is_main_process
from experiments.storage import read_json, replacing, write_json
from experiments.training.loop import train
from experiments.training.metrics import read_metrics
from experiments.training.plan import Plan, TrainingData
from experiments.training.run_directory import RunDirectory
from experiments.training.step import TrainState

# Settings that do not change what is trained; a run with other ones goes on from the same network.
_NOT_OF_TRAINING = ("out", "data_dir", "download", "epsilons", "attack_images", "attack_batch_size",
                    "distributed", "force")  # fmt: skip

Attacked = tuple[dict[str, Any], FourierSweep]  # the row of result.json, and the counts behind it


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of one regulariser and one seed.

    Args:
        config: its settings.
        dataset: its data.
        directory: gets config.json, metrics.jsonl, checkpoints/, sweep.npz and row.json.
    """

    config: Train
    dataset: ImageDataset
    directory: Path

    @functools.cached_property
    def model(self) -> Any:
        """The flax module, with the normalisation of the training images inside."""
        statistics = self.dataset.channel_mean, self.dataset.channel_std
        return build_model(self.config.model, self.dataset.num_classes, *statistics)

    @property
    def label(self) -> str:
        """Short name for the progress."""
        return f"{self.config.regularizer}, seed {self.config.seed}"

    @property
    def identity(self) -> dict[str, Any]:
        """What makes the trained network what it is: settings, and the training images themselves."""
        settings = {name: value for name, value in to_json(self.config).items() if name not in _NOT_OF_TRAINING}
        training = checksum(self.dataset.train_images, self.dataset.train_labels)
        return settings | {"strength": self.config.chosen_strength, "training_data_checksum": training}

    @property
    def run_directory(self) -> RunDirectory:
        """The directory with what it is of."""
        return RunDirectory(self.directory, self.identity, _NOT_OF_TRAINING)

    def prepare(self) -> None:
        """Make the directory, or see that what it holds is of this configuration.

        Raises:
            ValueError: if the directory was written with other settings or data, or the batch does not fit.
        """
        if self.config.batch_size % jax.device_count():
            raise ValueError(
                f"--batch-size {self.config.batch_size} is not a multiple of the {jax.device_count()} devices"
            )
        REGULARIZERS[self.config.regularizer](self.config.chosen_strength)
        products = ("checkpoints", "metrics.jsonl", "row.json", "sweep.npz")
        self.run_directory.prepare(to_json(self.config), force=self.config.force, products=products)

    def trained(self) -> TrainState:
        """The trained state: restored if training was finished before, else trained from where it stopped.

        Its arrays are host values, with which each process can compute by itself as well.
        """
        config, dataset = self.config, self.dataset
        regularizer = REGULARIZERS[config.regularizer](config.chosen_strength)
        task = make_task(self.model, regularizer, dataset.image_shape, augment=config.augments)
        data = _training_data(dataset, config)
        schedule = make_schedule(config, data.units_per_epoch // config.batch_size)
        optimizer = make_optimizer(schedule, config.momentum, regularizer)
        plan = Plan(config.epochs, config.seed, self.directory, label=f"train {self.label}")
        state = train(task, optimizer, schedule, data, plan)
        return jax.tree.map(np.asarray, state)

    def attacked(self, state: TrainState, test_images: np.ndarray, test_labels: np.ndarray) -> Attacked:
        """The attack on the first of the test images; read from disk if it was made before on the same ones."""
        row_path, sweep_path = self.directory / "row.json", self.directory / "sweep.npz"
        config = to_json(self.config)
        settings = {name: config[name] for name in ("epsilons", "attack_images")}
        settings |= {"test_data_checksum": checksum(test_images, test_labels)}
        if row_path.exists() and sweep_path.exists() and (saved := read_json(row_path))["settings"] == settings:
            return saved["row"], load_sweep(sweep_path)
        row, sweep = self._attack(state, to_float(test_images), test_labels)
        if is_main_process():
            save_sweep(sweep_path, sweep)
            write_json(row_path, {"settings": settings, "row": row})
        return row, sweep

    def _attack(self, state: TrainState, images: np.ndarray, labels: np.ndarray) -> Attacked:
        count = self.config.attack_images
        sweep, seconds = timed(lambda: self.sweep(state, images[:count], labels[:count]))
        lines = read_metrics(self.directory / "metrics.jsonl")
        row = {
            "regularizer": self.config.regularizer,
            "strength": self.config.chosen_strength,
            "seed": self.config.seed,
            **sweep_row(sweep),
            "test_accuracy": float(np.mean(self.predictions(state, images) == labels)),
            "test_images": len(labels),
            "train_seconds": round(sum(line["seconds"] for line in lines), 3),
            "attack_seconds": round(seconds, 3),
            "absum_ratio": float(absum_ratio(state.params)),
        }
        return row, sweep

    def sweep(self, state: TrainState, images: np.ndarray, labels: np.ndarray) -> FourierSweep:
        """The single Fourier attack at every frequency and epsilon of the config."""
        return sweep_with_progress(
            self.model, _variables(state), images, labels, self.config.epsilons,
            batch_size=self.config.attack_batch_size, label=f"attack {self.label}",
        )  # fmt: skip

    def validation_sweep(self, state: TrainState) -> FourierSweep:
        """The same attack on validation images."""
        _, validation = train_validation_split(self.dataset, self.config.validation_size, self.config.seed)
        count = self.config.attack_images
        return self.sweep(state, to_float(validation["images"])[:count], validation["labels"][:count])

    def predictions(self, state: TrainState, images: np.ndarray) -> np.ndarray:
        """Predicted classes of float images."""
        return predicted_classes(self.model, _variables(state), images, self.config.attack_batch_size)


def open_network(directory: Path) -> Train:
    """The config of a network that was trained before.

    Raises:
        ValueError: if the directory holds no network.
    """
    for name in ("config.json", "checkpoints"):
        if not (directory / name).exists():
            raise ValueError(f"{directory} holds no trained network: it has no {name}")
    path = directory / "config.json"
    values = read_json(path)
    values.pop("training_data_checksum", None)
    try:
        return train_config_from_json(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the config of a network: {error}") from error


def save_sweep(path: Path, sweep: FourierSweep) -> None:
    """Write the counts of a sweep as npz, whole or not at all."""
    arrays = {field.name: getattr(sweep, field.name) for field in dataclasses.fields(sweep)}
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_sweep(path: Path) -> FourierSweep:
    """Read what :func:`save_sweep` wrote."""
    with np.load(path) as arrays:
        return FourierSweep(**{name: jnp.asarray(values) for name, values in arrays.items()})


def _training_data(dataset: ImageDataset, config: Train) -> TrainingData:
    training, validation = train_validation_split(dataset, config.validation_size, config.seed)
    share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    return TrainingData(
        epoch=lambda epoch, start: epoch_batches(
            training, config.batch_size, seed=config.seed, epoch=epoch, start=start, **share
        ),
        validation=lambda: padded_batches(validation, config.batch_size, **share),
        units_per_epoch=steps_per_epoch(len(training["labels"]), config.batch_size) * config.batch_size,
        count=lambda batch: config.batch_size,
        unit="images",
    )


def _variables(state: TrainState) -> dict[str, Any]:
    return {"params": state.params, **state.model_state}
