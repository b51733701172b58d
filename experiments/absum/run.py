"""A network of the experiment, as what a run is of: a model, a regulariser, a seed and its images."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from etils import epath

from experiments.absum.adversary import Adversary
from experiments.absum.config import Settings
from experiments.absum.datasets import load_dataset
from experiments.absum.models import find_model
from experiments.absum.regularizers import Regularizer, find_regularizer
from experiments.absum.task import make_task, predict_fn
from experiments.data.batches import Batch, epoch_rows, padded_batches, steps_per_epoch, validation_split
from experiments.data.streamed import Images
from experiments.harness.directory import read_config
from experiments.harness.run import Run, TrainedRun
from experiments.harness.settings import from_json, to_json
from experiments.harness.stored import Measured
from experiments.harness.subject import PhaseMaker
from experiments.training.devices import devices_for
from experiments.training.phase import Phase, TrainingData
from experiments.training.precision import layer_dtype

# Settings that do not bear on what is trained, or for which something else stands: the checksum of the images for
# where they lie and how they are read, the schedule for the number of epochs, the adversary for what asked for it.
_NOT_OF_IDENTITY = ("data_dir", "download", "stream", "epochs", "adversarial_epsilon", "adversarial_steps")
# Settings that runs from before them do not have: left out at the value that those had.
_USUAL = {"batch_norm_statistics": "global", "compute_dtype": "float32"}


@dataclasses.dataclass(frozen=True)
class Classifier:
    """An image classifier that is trained with one regulariser.

    Args:
        given: its settings.
        dataset: its images.
        is_of_several_models: whether it is compared with networks of other models, so that its own is named.
    """

    given: Settings
    dataset: Images
    is_of_several_models: bool = False

    experiment = "absum"

    @functools.cached_property
    def model(self) -> nn.Module:
        """The flax module, with the normalisation by the training images inside."""
        return build_model(*self.model_arguments)

    @property
    def model_arguments(self) -> tuple[Any, ...]:
        """What :func:`build_model` makes the module from, as plain values."""
        mean, std = (tuple(map(float, each)) for each in (self.dataset.channel_mean, self.dataset.channel_std))
        training = self.given.training
        return training.model, self.given.regularizer, self.dataset.num_classes, mean, std, training.compute_dtype

    @property
    def predict_fn(self) -> Callable[[Any, jax.Array], jax.Array]:
        """``(variables, images in [0, 1]) -> logits``, in evaluation mode; one function for all of its model."""
        return predict_fn(self.model)

    def variables(self, trained: "ClassifierRun") -> dict[str, Any]:
        """What it is applied to: parameters and batch statistics."""
        statistics = trained.phases[trained.final_phase].state.model_state["statistics"]
        return {"params": trained.params, **statistics}

    @functools.cached_property
    def regularizer(self) -> Regularizer:
        """The entry of the table, or the user's own."""
        return find_regularizer(self.given.regularizer)

    @property
    def adversary(self) -> Adversary | None:
        """What attacks its training images."""
        return self.given.training.adversary(self.dataset.image_shape[-1])

    @property
    def strength(self) -> float:
        """The strength given, or the default of the model."""
        name, model = self.given.regularizer, self.given.training.model
        if not self.regularizer.has_strength:
            if self.given.strength:
                raise ValueError(
                    f"regularizer {name!r} takes no --strength, got {self.given.strength}; leave it out"
                )
            return 0.0
        if self.given.strength is not None:
            return self.given.strength
        strengths = find_model(model).strengths
        if name not in strengths:
            raise ValueError(
                f"no strength of regularizer {name!r} was chosen for model {model!r}: give --strength, or"
                " --strengths with one for each of --regularizers"
            )
        return strengths[name]

    @property
    def label(self) -> str:
        """Short name for the progress."""
        return f"{self.group}, seed {self.given.seed}"

    @property
    def group(self) -> str:
        """What it is one seed of."""
        name = self.given.regularizer
        return f"{self.given.training.model} {name}" if self.is_of_several_models else name

    @property
    def settings(self) -> Mapping[str, Any]:
        """Plain values from which it can be made again."""
        return to_json(self.given)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The settings with the strength in full, and the training images themselves."""
        settings = to_json(self.given) | {"strength": self.strength}
        adversary = self.adversary and dataclasses.asdict(self.adversary)
        training = settings["training"] | {"augment": self.given.training.augments, "adversarial": adversary}
        settings["training"] = {
            name: value
            for name, value in training.items()
            if name not in _NOT_OF_IDENTITY and (name, value) not in _USUAL.items()
        }
        # In words, as they are what a run that is asked for more epochs is refused with.
        schedule = f"the learning rate falls over all of {training['epochs']} epochs"
        return settings | {"schedule": schedule, "train_checksum": self.dataset.checksum("train")}

    @property
    def facts(self) -> Mapping[str, Any]:
        """The first columns of its row."""
        model = {"model": self.given.training.model} if self.is_of_several_models else {}
        of_network = {"regularizer": self.given.regularizer, "strength": self.strength, "seed": self.given.seed}
        return model | of_network

    def check(self) -> None:
        """Raise ``ValueError`` if the settings do not fit the data, the devices or each other."""
        self.given.check()
        _ = self.strength
        batch_size = self.given.training.batch_size
        devices_for(batch_size)
        steps = steps_per_epoch(len(self._rows[0]), batch_size)
        if self.given.training.epochs * steps >= 2**31:  # counted in 32 bits
            most, epochs = (2**31 - 1) // steps, self.given.training.epochs
            raise ValueError(f"--epochs must be at most {most}, of {steps} steps each, got {epochs}")
        shape = (1, *self.dataset.image_shape)
        images = jax.ShapeDtypeStruct(shape, np.float32)
        variables = jax.eval_shape(self.model.init, jax.random.key(0), images)
        if self.given.training.batch_norm_statistics != "global" and variables.keys() == {"params"}:
            raise ValueError(
                "--batch-norm-statistics must be global for a model without batch normalisation, such as"
                f" {self.given.training.model}, got {self.given.training.batch_norm_statistics}"
            )

    def phases(self) -> Mapping[str, PhaseMaker]:
        """One phase."""
        return {"train": self._phase}

    def images(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """The images, uint8 [N, H, W, C], and labels of a split: "test" or "validation"."""
        if split == "test":
            return self.dataset.test_images, self.dataset.test_labels
        return self._validation["images"], self._validation["labels"]

    @functools.cached_property
    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Which of the training images are for training, and which for validation."""
        return validation_split(self.dataset.train_count, self.given.training.validation_size, self.given.seed)

    @functools.cached_property
    def _validation(self) -> Batch:
        """The validation images, which are in memory."""
        return next(iter(self.dataset.train_batches([self._rows[1]])))

    def _phase(self, initial_params: Any) -> Phase:
        training, data = self.given.training, self._training_data()
        task = make_task(
            self.model, self.regularizer, self.dataset.image_shape,
            augment=training.augments, learning_rate=training.learning_rate, momentum=training.momentum,
            num_steps=training.epochs * data.units_per_epoch // training.batch_size, adversary=self.adversary,
            batch_norm_statistics=training.batch_norm_statistics,
        )  # fmt: skip
        return Phase(
            task, data, training.epochs, self.given.seed,
            label=f"train {self.label}", numbers=np.float32(self.strength), initial_params=initial_params,
        )  # fmt: skip

    def _training_data(self) -> TrainingData:
        training, batch_size, seed = self._rows[0], self.given.training.batch_size, self.given.seed
        share = {"process_index": jax.process_index(), "process_count": jax.process_count()}

        def epoch(number: int, start: int) -> Iterator[Batch]:
            rows = epoch_rows(len(training), batch_size, seed=seed, epoch=number, start=start, **share)
            return self.dataset.train_batches(training[rows])

        return TrainingData(
            epoch=epoch,
            validation=lambda: padded_batches(self._validation, batch_size, **share),
            units_per_epoch=steps_per_epoch(len(training), batch_size) * batch_size,
            count=lambda batch: batch_size,
            unit="images",
            rows=batch_size,
        )


ClassifierRun = TrainedRun[Classifier]
Finished = Sequence[tuple[ClassifierRun, Measured]]  # runs, with what an evaluation gave of each


def build_model(  # noqa: PLR0917  # an exported network is loaded by these arguments in their order
    model: str,
    regularizer: str,
    num_classes: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    compute_dtype: str = "float32",
) -> nn.Module:
    """The flax module of a model trained with a regulariser; ``mean`` and ``std`` of its training images.

    Raises:
        ValueError: for an unknown name, or if the model cannot be computed in this precision.
    """
    module, dtype = find_model(model).build(num_classes, mean, std), layer_dtype(compute_dtype)
    if dtype is not None:
        if not hasattr(module, "dtype"):
            raise ValueError(
                f"--compute-dtype must be float32 for a model without a field dtype, such as {model}, got"
                f" {compute_dtype}"
            )
        module = module.clone(dtype=dtype)
    return find_regularizer(regularizer).wrap_model(module)


def variables(trained: ClassifierRun) -> dict[str, Any]:
    """What the model is applied to."""
    return trained.subject.variables(trained)


def open_run(directory: epath.Path, data_dir: Path | None = None) -> Run[Classifier]:
    """The run in a directory, with its own data.

    Args:
        directory: of the run.
        data_dir: where its images lie now; ``None`` looks where they lay when it was trained.

    Raises:
        ValueError: if the directory holds no run of this experiment, or its images are not there or others now.
    """
    values = read_config(directory, Classifier.experiment)
    settings = from_json(Settings, values["settings"], f"{directory / 'config.json'}: settings")
    training = settings.training
    if data_dir is not None:
        training = dataclasses.replace(training, data_dir=data_dir)
    try:
        dataset = load_dataset(training)
    except ValueError as error:
        raise ValueError(f"{error}; --data-dir must be where the images of {directory} lie now") from error
    run = Run(Classifier(dataclasses.replace(settings, training=training), dataset), directory)
    run.run_directory.require_own()
    return run
