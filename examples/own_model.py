"""Absum and the single Fourier attack for a model of your own, in nnx, linen, Haiku and Equinox.

``python3 examples/own_model.py`` takes one proximal step on each model and attacks it at four frequencies. The
libraries ask two things of a model: ``params``, a tree with its arrays, and ``predict_fn(params, images)``, which
gives logits [N, classes] of images [N, H, W, C] in [0, 1]. Each of the four takes three lines; how it is trained
is yours.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
from flax import nnx

from absum_jax import absum_penalty, fourier_sweep, prox_absum, tree_prox

PredictFn = Callable[[Any, jax.Array], jax.Array]
CLASSES = 3
FREQUENCIES = [[0, 0], [0, 1], [2, 1], [4, 4]]


class Own(NamedTuple):
    """What the libraries ask of a model, and over which axes its kernels are summed.

    Args:
        predict_fn: ``(params, images) -> logits``.
        params: a tree of arrays.
        spatial_axes: None for kernels [spatial..., in, out]; ``(-2, -1)`` for Equinox's [out, in, spatial...].
    """

    predict_fn: PredictFn
    params: Any
    spatial_axes: tuple[int, int] | None = None


class NnxModel(nnx.Module):
    """A convolution with batch normalisation, in nnx."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dense = nnx.Linear(4, CLASSES, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits [N, classes]."""
        return self.dense(nnx.relu(self.norm(self.conv(images))).mean((1, 2)))


class LinenModel(nn.Module):
    """The same in linen."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits [N, classes]."""
        x = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(images))
        return nn.Dense(CLASSES)(nn.relu(x).mean((1, 2)))


def haiku_model(images: jax.Array) -> jax.Array:
    """Logits [N, classes], in Haiku."""
    return hk.Linear(CLASSES)(jax.nn.relu(hk.Conv2D(4, 3)(images)).mean((1, 2)))


class EquinoxModel(eqx.Module):
    """A convolution in Equinox, which takes one image [C, H, W]."""

    conv: eqx.nn.Conv2d
    dense: eqx.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        one, other = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(1, 4, 3, key=one)
        self.dense = eqx.nn.Linear(4, CLASSES, key=other)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Logits [classes]."""
        return self.dense(jax.nn.relu(self.conv(image)).mean((1, 2)))


def own_nnx(images: jax.Array) -> Own:
    """The state of an nnx module; batch statistics lie in it, and are left alone as they are no kernels."""
    del images
    model = NnxModel(nnx.Rngs(0))
    model.eval()
    graph, params = nnx.split(model)
    return Own(lambda params, images: nnx.merge(graph, params)(images), params)


def own_linen(images: jax.Array) -> Own:
    """The variables of a linen module, ``batch_stats`` included."""
    model = LinenModel()
    params = model.init(jax.random.key(0), images)
    return Own(model.apply, params)


def own_haiku(images: jax.Array) -> Own:
    """The parameters of a Haiku function."""
    model = hk.without_apply_rng(hk.transform(haiku_model))
    params = model.init(jax.random.key(0), images)
    return Own(model.apply, params)


def own_equinox(images: jax.Array) -> Own:
    """The arrays of an Equinox module; its images are [C, H, W]."""
    del images
    params, static = eqx.partition(EquinoxModel(jax.random.key(0)), eqx.is_array)
    predict = lambda params, images: jax.vmap(eqx.combine(params, static))(images.transpose(0, 3, 1, 2))  # noqa: E731
    return Own(predict, params, spatial_axes=(-2, -1))


MODELS: dict[str, Callable[[jax.Array], Own]] = {
    "nnx": own_nnx,
    "linen": own_linen,
    "haiku": own_haiku,
    "equinox": own_equinox,
}


def main() -> dict[str, tuple[float, float]]:
    """Print and return each model's penalty before and after a proximal step that takes all filter sums to 0."""
    images = jax.random.uniform(jax.random.key(1), (16, 8, 8, 1))
    labels, penalties = jnp.arange(16) % CLASSES, {}
    for name, make in MODELS.items():
        predict_fn, params, axes = make(images)
        prox = functools.partial(prox_absum, spatial_axes=axes)
        smoothed = tree_prox(prox, params, strength=10.0, scaling=0.1)  # scaling: the learning rate
        before, after = (float(absum_penalty(each, spatial_axes=axes)) for each in (params, smoothed))
        penalties[name] = before, after
        sweep = fourier_sweep(predict_fn, smoothed, images, labels, [0.1], frequencies=FREQUENCIES)
        print(f"{name:<8} penalty {before:.3f} -> {after:.1e}, worst accuracy {sweep.worst_accuracy[0]:.2f}")
    return penalties


if __name__ == "__main__":
    main()
