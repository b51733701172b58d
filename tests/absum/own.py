"""What a user may bring: a model with dropout, a regulariser that uses every hook, an evaluation."""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from absum_jax import absum_penalty
from experiments.absum.models import LeNet, Model
from experiments.absum.regularizers import Regularizer
from experiments.data.images import to_float
from experiments.harness.evaluation import Cell, Evaluation
from experiments.harness.settings import require_at_least
from experiments.harness.stored import Measured


def waves(key, shape, dtype):
    """Initial weights without random numbers, of about the usual size."""
    return jnp.sin(jnp.arange(math.prod(shape), dtype=dtype)).reshape(shape) / math.sqrt(math.prod(shape[:-1]))


class Net(nn.Module):
    """One convolution, dropout and a linear layer."""

    num_classes: int
    mean: tuple
    std: tuple
    dropout: float = 0.5

    @nn.compact
    def __call__(self, images, *, train=False, axis_name=None):
        x = nn.relu(nn.Conv(4, (3, 3), strides=(2, 2), kernel_init=waves)(images - 0.5))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=waves)(x.reshape(len(x), -1))


plain = Model(functools.partial(Net, dropout=0.0), strengths={"absum": 0.125})
noisy = Model(Net, strengths={"absum": 0.125})


class Doubled(nn.Module):
    """Twice the logits of another module."""

    inner: nn.Module

    @nn.compact
    def __call__(self, images, *, train=False, axis_name=None):
        return 2 * self.inner(images, train=train, axis_name=axis_name)


def _init(params, strength):
    return {"strength": strength, "penalties": jnp.zeros((), jnp.int32)}


def _penalty(params, state):
    return state["strength"] * absum_penalty(params), state | {"penalties": state["penalties"] + 1}


def _after_update(params, state, learning_rate, step):
    """Leave in the model how often this was called, as the state and the step know it."""
    bias = params["inner"]["Dense_0"]["bias"].at[0].set(state["penalties"]).at[1].set(step)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: bias if jax.tree_util.keystr(path) == "['inner']['Dense_0']['bias']" else leaf, params
    )


def _augment(keys, images, state):
    """Noise, by a key for each image, on nothing else: the images themselves are not looked at."""
    return jax.vmap(lambda key: jax.random.uniform(key, images.shape[1:]))(keys)


every_hook = Regularizer(
    init=_init, penalty=_penalty, after_update=_after_update, augment=_augment, wrap_model=Doubled
)

not_a_regularizer = "a text"


def _not_a_number(params, state, learning_rate, step):
    """Kernels that are not numbers after the fourth step."""
    factor = jnp.where(step == 3, jnp.nan, 1.0)
    return jax.tree.map(lambda leaf: factor * leaf if leaf.ndim == 4 else leaf, params)


breaks_kernels = Regularizer(after_update=_not_a_number)


@dataclasses.dataclass(frozen=True)
class Brightness:
    """Settings of an evaluation."""

    images: int = 3
    """How many images."""


def _measure(trained, settings, partial):
    images, labels = trained.subject.images("test")
    brightness = float(to_float(images[: settings.images]).mean())
    return Measured({"brightness": brightness, "label": int(labels[0])})


brightness = Evaluation(
    measure=_measure,
    settings=Brightness(),
    data=lambda trained, settings: trained.subject.dataset.checksum("test"),
    check=lambda subject, settings: require_at_least(settings, 1, ("images",), prefix="brightness."),
    cells=lambda numbers: {"how bright": Cell(numbers["brightness"], "of 1")},
    products=lambda group: {"brightness.txt": ", ".join(group)},
)


def predict(variables, images):
    """A classifier as a user brings it: that of the narrow network in tests/absum/conftest.py."""
    model = LeNet(10, (0.3,), (0.35,), features=(2, 3, 8))
    return model.apply(variables, images)


def variables():
    """Parameters for it, by a function."""
    model = LeNet(10, (0.3,), (0.35,), features=(2, 3, 8))
    return model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))


def predict_five(variables, images):
    """Too few classes."""
    return predict(variables, images)[:, :5]
