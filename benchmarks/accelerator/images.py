"""ResNet-18 on CIFAR-10 with several regularisers, and the whole single Fourier attack on each network."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.accelerator.packed_images import check_readable, read_images
from benchmarks.accelerator.timed_runs import in_time, train_in_time
from benchmarks.accelerator.work import Call, LeftOutError, Pieces
from experiments.absum.config import Settings, Training
from experiments.absum.evaluations.fourier import FOURIER, Fourier
from experiments.absum.run import Classifier, build_model
from experiments.data.images import ImageDataset
from experiments.harness.evaluation import evaluate
from experiments.harness.run import Run

# The strength that is usual for ResNets on CIFAR-10; those of the table were chosen for LeNet.
STRENGTHS: dict[str, float | None] = {"none": None, "weight_decay": 5e-4, "absum": None}
EPSILONS = tuple(levels / 255 for levels in (4, 8, 12, 16))


def pieces(call: Call) -> Pieces:
    """Train each network; attack each in bfloat16, and the last one in float32 to compare with."""
    if call.cifar is None:
        raise LeftOutError("it needs CIFAR-10 by --cifar")
    check_readable(call.cifar)
    names = ("absum",) if call.tiny else tuple(STRENGTHS)
    found = {f"train {name}": functools.partial(_train, call, name) for name in names}
    for name in names:
        found[f"attack {name}, bfloat16"] = functools.partial(_attack, call, name, BFloat16Classifier)
    last = names[-1]
    return found | {f"attack {last}, float32": functools.partial(_attack, call, last, Classifier)}


@dataclasses.dataclass(frozen=True)
class BFloat16Model:
    """A flax module that is applied in bfloat16; near ties between classes may be decided otherwise."""

    model: Any

    def apply(self, variables: Any, images: Array) -> Array:
        """Logits [N, classes] of images [N, H, W, C]."""
        return self.model.apply(*jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (variables, images)))


class BFloat16Classifier(Classifier):
    """A classifier that was trained in float32 and is evaluated in bfloat16."""

    @functools.cached_property
    def model(self) -> Any:
        """In place of the flax module."""
        return BFloat16Model(build_model(*self.model_arguments))


def _dataset(call: Call) -> ImageDataset:
    assert call.cifar is not None
    dataset = read_images(call.cifar)
    return _few(dataset) if call.tiny else dataset


@functools.cache
def _few(dataset: ImageDataset) -> ImageDataset:
    """A few of the images, the middle of each."""
    middle = slice(8, 24)
    return dataclasses.replace(
        dataset,
        train_images=dataset.train_images[:48, middle, middle], train_labels=dataset.train_labels[:48],
        test_images=dataset.test_images[:16, middle, middle], test_labels=dataset.test_labels[:16],
    )  # fmt: skip


def _settings(call: Call, name: str) -> Settings:
    training = Training(
        data=_dataset(call).name, model="resnet18", epochs=20, batch_size=128, learning_rate=0.1, augment=True,
        validation_size=5_000,
    )  # fmt: skip
    if call.tiny:
        training = dataclasses.replace(training, model="lenet", epochs=2, batch_size=16, validation_size=16)
    return Settings(training=training, regularizer=name, strength=STRENGTHS[name])


def _directory(call: Call, name: str) -> Path:
    return call.out / "images" / name


def _train(call: Call, name: str) -> dict[str, Any]:
    subject = Classifier(_settings(call, name), _dataset(call))
    return {"strength": subject.strength, **train_in_time(subject, _directory(call, name), call.budget)}


def _attack(call: Call, name: str, kind: type[Classifier]) -> dict[str, Any]:
    """Every test image at every distinct frequency and epsilon; the seconds hold the compilation."""
    settings_and_images, directory = (_settings(call, name), _dataset(call)), _directory(call, name)
    trained = Run(Classifier(*settings_and_images), directory).load()
    trained = dataclasses.replace(trained, run=Run(kind(*settings_and_images), directory))
    count = len(trained.subject.dataset.test_labels)
    settings = Fourier(epsilons=EPSILONS, images=count, batch_size=16 if call.tiny else 250)
    evaluations = {"fourier": (in_time(FOURIER, call.budget), settings)}
    numbers = evaluate(trained, evaluations, directory / kind.__name__)["fourier"].numbers
    seconds, attacks = sum(numbers["part_seconds"]), numbers["frequencies"] * len(EPSILONS)
    attacked = count + numbers["chosen_on_validation"]["validation_images"]  # each split by all attacks
    return {**numbers, "seconds": seconds, "attacked_images_per_second": attacked * attacks / seconds}
