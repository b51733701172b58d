"""Classifiers, images and settings that the tests of gradient attacks share, so that few programs are compiled."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from absum_jax import pgd

SHAPE = (5, 4, 2)
N = 16


def linear(params, images):
    """Two classes; the gradient of every loss has the direction of the template."""
    score = jnp.sum((images - 0.5) * params[None], axis=(1, 2, 3))
    return jnp.stack([-score, score], axis=-1)


def two_layers(params, images):
    """Four classes, with gradients that change from step to step."""
    first, second = params
    return jnp.tanh((images.reshape(len(images), -1) - 0.5) @ first) @ second


def small_problem(dtype=np.float32):
    """Parameters of two_layers, images and the labels that it predicts, a quarter of them wrong."""
    rng = np.random.default_rng(2)
    first, second = rng.standard_normal((40, 16)), rng.standard_normal((16, 4))
    images = rng.uniform(size=(N, *SHAPE)).astype(dtype)
    predicted = (np.tanh((images.reshape(N, -1) - 0.5) @ first) @ second).argmax(axis=-1)
    labels = np.where(np.arange(N) % 4 == 0, (predicted + 1) % 4, predicted)
    return (first.astype(dtype), second.astype(dtype)), images, labels


def template_problem(margin_scale=0.05):
    """Template, images near mid-grey and right labels of the linear classifier."""
    rng = np.random.default_rng(3)
    template = rng.standard_normal(SHAPE).astype(np.float32)
    images = (0.5 + margin_scale * rng.standard_normal((N, *SHAPE)).clip(-2, 2)).astype(np.float32)
    labels = (np.sum((images - 0.5) * template, axis=(1, 2, 3)) > 0).astype(np.int32)
    return template, images, labels


def is_wrong(predict_fn, params, images, labels):
    return np.asarray(predict_fn(params, jnp.asarray(images)).argmax(axis=-1)) != labels


small_pgd = functools.partial(pgd, two_layers, epsilon=0.08, step_size=0.02, num_steps=5, key=jax.random.key(5))
