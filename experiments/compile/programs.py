"""What a slice runs: the training steps of both experiments, and the sweep of the single Fourier attack."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from absum_jax import fourier_sweep, frequency_grid
from experiments.absum.adversary import find_adversary
from experiments.absum.regularizers import REGULARIZERS
from experiments.absum.run import build_model
from experiments.absum.task import make_task, predict_fn
from experiments.sigsoftmax.recipes import RECIPES
from experiments.sigsoftmax.run import build_model as build_language_model
from experiments.sigsoftmax.task import make_task as make_language_task
from experiments.training.step import compile_step, create_state
from experiments.training.task import Task

Devices = Sequence[jax.Device]
GREY, COLOUR = (
    ((0.29,), (0.35,)),
    ((0.49, 0.48, 0.45), (0.25, 0.24, 0.26)),
)  # mean and deviation, as of real images
WORDS = {"wikitext2": 33_278}  # vocabularies


class Program(NamedTuple):
    """A compiled-to-be function, and the shapes that it is called with."""

    function: Any
    arguments: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Images:
    """A training step on images.

    Args:
        model: of the table of models.
        shape: of an image.
        per_device: images of a device.
        adversarial: what attacks them.
        batch_norm_statistics: of the whole batch, or of each device's images.
        compute_dtype: what the layers compute in.
    """

    model: str
    shape: tuple[int, int, int]
    per_device: int
    adversarial: str = "none"
    batch_norm_statistics: str = "global"
    compute_dtype: str = "float32"

    def __call__(self, devices: Devices) -> Program:
        """The step over these devices, with Absum's proximal step."""
        mean, std = GREY if self.shape[-1] == 1 else COLOUR
        task = make_task(
            build_model(self.model, "absum", 10, mean, std, self.compute_dtype), REGULARIZERS["absum"], self.shape,
            augment=self.shape[-1] == 3, learning_rate=0.05, momentum=0.9, num_steps=1000,
            adversary=find_adversary(self.adversarial, 8 / 255, 7),
            batch_norm_statistics=self.batch_norm_statistics,
        )  # fmt: skip
        rows = len(devices), self.per_device
        batch = {"images": _shape(jnp.uint8, *rows, *self.shape), "labels": _shape(jnp.int32, *rows)}
        return _step(task, batch, devices, numbers=jnp.float32(0.01))


@dataclasses.dataclass(frozen=True)
class Words:
    """A training step of a language model.

    Args:
        recipe: its name.
        score: the output activation.
        per_device: streams of a device; the recipe's batch is what all have together.
        compute_dtype: what the layers compute in.
    """

    recipe: str
    score: str
    per_device: int = 16
    compute_dtype: str = "float32"

    def __call__(self, devices: Devices) -> Program:
        """The step over these devices, for its longest window."""
        changes: Any = {"batch_size": self.per_device * len(devices), "compute_dtype": self.compute_dtype}
        recipe = dataclasses.replace(RECIPES[self.recipe], **changes)
        model = build_language_model(recipe, self.score, WORDS[recipe.data])
        task = make_language_task(model, recipe, recipe.learning_rate)
        rows = len(devices), self.per_device
        window = *rows, recipe.window_lengths().largest
        batch = {
            "tokens": _shape(jnp.int32, *window), "labels": _shape(jnp.int32, *window),
            "where": _shape(jnp.bool_, *window), "length": _shape(jnp.int32, *rows),
            "reset": _shape(jnp.bool_, *rows),
        }  # fmt: skip
        return _step(task, batch, devices)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The attack at every distinct frequency and four epsilons, on all devices.

    Args:
        model: of the table of models.
        shape: of an image.
        images: how many are attacked.
        compute_dtype: what the layers compute in.
    """

    model: str
    shape: tuple[int, int, int]
    images: int = 10_000
    compute_dtype: str = "float32"

    def __call__(self, devices: Devices) -> Program:
        """The whole sweep in one call."""
        mean, std = GREY if self.shape[-1] == 1 else COLOUR
        model: Any = build_model(self.model, "absum", 10, mean, std, self.compute_dtype)
        predict = predict_fn(model)

        def sweep(variables: Any, images: Any, labels: Any, attacks: Any) -> Any:
            frequencies, phase, epsilons = attacks
            return fourier_sweep(
                predict, variables, images, labels, epsilons, frequencies=frequencies, phase=phase,
                devices=list(devices), batch_size=250, attacks_per_step=8,
            ).correct  # fmt: skip

        variables = jax.eval_shape(model.init, jax.random.key(0), _shape(jnp.float32, 1, *self.shape))
        grid = frequency_grid(*self.shape[:2], half=True)
        attacks = _shape(jnp.int32, *grid.shape), _shape(jnp.float32), _shape(jnp.float32, 4)
        images, labels = _shape(jnp.float32, self.images, *self.shape), _shape(jnp.int32, self.images)
        return Program(jax.jit(sweep), (variables, images, labels, attacks))


PROGRAMS: dict[str, Images | Words | Sweep] = {
    "lenet": Images("lenet", (28, 28, 1), 16),
    "lenet_pgd": Images("lenet", (28, 28, 1), 16, adversarial="pgd"),
    "resnet18": Images("resnet18", (32, 32, 3), 128),
    "resnet18_device": Images("resnet18", (32, 32, 3), 128, batch_norm_statistics="device"),
    "resnet18_pgd": Images("resnet18", (32, 32, 3), 128, adversarial="pgd"),
    "awd_wikitext2": Words("awd_wikitext2", "sigsoftmax", 20),
    "moss_wikitext2": Words("mos_wikitext2", "sigsoftmax", 4),
    "sweep_lenet": Sweep("lenet", (28, 28, 1)),
    "sweep_resnet18": Sweep("resnet18", (32, 32, 3)),
}


def _step(task: Task, batch: dict[str, Any], devices: Devices, numbers: Any = None) -> Program:
    state = jax.eval_shape(lambda: create_state(task, 0, jax.devices()[:1], numbers=numbers))
    return Program(compile_step(task, devices=devices), (state, batch))


def _shape(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)
