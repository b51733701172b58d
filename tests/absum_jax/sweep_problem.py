"""A small linear classifier, its images, and the sweep of it by a loop in NumPy."""

import jax.numpy as jnp
import numpy as np

SHAPE = (6, 5, 2)
EPSILONS = (0.0, 0.1, 0.4)


def linear(params, images):
    return jnp.einsum("nhwc,hwck->nk", images - 0.5, params)


def problem():
    """Parameters, 23 images and labels; from NumPy, so that nothing is compiled for them."""
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(23, *SHAPE)).astype(np.float32)
    params = rng.standard_normal((*SHAPE, 4)).astype(np.float32)
    predicted = np.einsum("nhwc,hwck->nk", images - 0.5, params).argmax(axis=-1)
    # A third of the labels are made wrong, so that the clean count is not the number of images.
    return params, images, np.where(np.arange(23) % 3 == 0, (predicted + 1) % 4, predicted)


def clean_count(params, images, labels):
    return np.sum(np.einsum("nhwc,hwck->nk", images - 0.5, params).argmax(axis=-1) == labels)


def reference(params, images, labels, epsilons, frequencies, norm="linf", *, phase=np.pi / 4, signs=None):
    """Correct counts [E, F] by a loop, in float64, with the pattern from the closed form.

    ``signs(frequency)``, if given, are the signs [N, C] of a pattern that has norm epsilon on each channel.
    """
    height, width, channels = images.shape[1:]
    u, v = np.mgrid[:height, :width]
    counts = np.zeros((len(epsilons), len(frequencies)), int)
    for j, (l, m) in enumerate(np.asarray(frequencies)):
        pattern = np.cos(2 * np.pi * (l * u / height + m * v / width) + phase)[..., None]
        pattern = np.repeat(pattern, channels, axis=-1)
        pattern /= np.abs(pattern).max() if norm == "linf" else np.linalg.norm(pattern)
        if signs is not None:
            pattern = np.sqrt(channels) * pattern * np.asarray(signs((l, m)))[:, None, None]
        for i, epsilon in enumerate(epsilons):
            attacked = np.clip(images.astype(np.float64) + epsilon * pattern, 0, 1)
            logits = np.einsum("nhwc,hwck->nk", attacked - 0.5, params)
            counts[i, j] = np.sum(logits.argmax(axis=-1) == labels)
    return counts
