"""Random crops and flips, one key for each image, so that they do not depend on the number of devices."""

import jax
import jax.numpy as jnp
from jax import Array

PADDING = 4


def random_crop_and_flip(keys: Array, images: Array) -> Array:
    """Shift each image by up to 4 pixels, with zeros from outside, and mirror every other one.

    Args:
        keys: [N].
        images: [N, H, W, C].

    Returns:
        Images of the same shape.
    """
    return jax.vmap(_crop_and_flip)(keys, images)


def _crop_and_flip(key: Array, image: Array) -> Array:
    crop_key, flip_key = jax.random.split(key)
    padded = jnp.pad(image, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    row, column = jax.random.randint(crop_key, (2,), 0, 2 * PADDING + 1)
    cropped = jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)
    return jnp.where(jax.random.bernoulli(flip_key), cropped[:, ::-1], cropped)
