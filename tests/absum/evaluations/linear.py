"""A linear classifier as a trained run, and its attack by a loop in NumPy, in float64."""

from types import SimpleNamespace

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from absum_jax import frequency_grid
from experiments.absum.task import predict_fn

SHAPE = (8, 8, 2)  # 34 frequencies, of which 10 are binary
EPSILONS = (0.1, 0.3)
FREQUENCIES = np.asarray(frequency_grid(*SHAPE[:2], half=True))
# +-epsilon everywhere: both are multiples of a quarter of the size, at odd multiples of pi/4.
IS_BINARY = (FREQUENCIES % 2 == 0).all(axis=1)


class Linear(nn.Module):
    """Logits that are linear in the images."""

    @nn.compact
    def __call__(self, images):
        weights = self.param("weights", nn.initializers.zeros, (*images.shape[1:], 4))
        return jnp.einsum("nhwc,hwck->nk", images - 0.5, weights)


MODEL = Linear()


def trained(name="absum", seed=0, shape=SHAPE):
    """What an evaluation needs to know of a trained run: 41 test images, 30 for validation."""
    rng = np.random.default_rng([seed, len(name)])
    weights = rng.standard_normal((*shape, 4)).astype(np.float32)
    splits = {}
    for split, count in (("test", 41), ("validation", 30)):
        images = np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)
        right = classes(weights, images / 255)
        # Some labels are made wrong, so that the clean count is not the number of images.
        splits[split] = images, np.where(np.arange(count) % 5 == 0, (right + 1) % 4, right).astype(np.int32)
    subject = SimpleNamespace(
        predict_fn=predict_fn(MODEL), variables=lambda run: {"params": run.params}, group=name,
        images=splits.__getitem__, label=f"{name}, seed {seed}",
        dataset=SimpleNamespace(image_shape=shape), facts={"regularizer": name, "strength": 0.1, "seed": seed},
    )  # fmt: skip
    state = SimpleNamespace(model_state={"statistics": {}})
    return SimpleNamespace(
        subject=subject,
        params={"weights": weights},
        final_phase="train",
        phases={"train": SimpleNamespace(state=state)},
    )


def classes(weights, images):
    return np.einsum("nhwc,hwck->nk", images - 0.5, weights.astype(np.float64)).argmax(axis=-1)


def attacked(images, frequency, epsilon, *, phase=np.pi / 4, norm="linf"):
    """uint8 images under one wave, by its formula."""
    height, width, channels = images.shape[1:]
    u, v = np.mgrid[:height, :width]
    l, m = frequency
    wave = np.cos(2 * np.pi * (l * u / height + m * v / width) + phase)[..., None].repeat(channels, axis=-1)
    size = np.abs(wave).max() if norm == "linf" else np.linalg.norm(wave)
    return np.clip(images / 255 + epsilon * wave / size, 0, 1)


def right(run, split, frequency, epsilon, **options):
    """Which images of a split stay right: bool [N]."""
    images, labels = run.subject.images(split)
    return classes(run.params["weights"], attacked(images, frequency, epsilon, **options)) == labels


def counts(run, split, number, phases, epsilons=EPSILONS, norm="linf"):
    """Correct ones [E, P, F] of the first images of a split."""
    found = [
        [
            [right(run, split, each, epsilon, phase=phase, norm=norm)[:number].sum() for each in FREQUENCIES]
            for phase in phases
        ]
        for epsilon in epsilons
    ]
    return np.array(found)
