"""Adversarial images by projected gradient descent, and the epsilons at which images are usually attacked."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from absum_jax import cross_entropy_loss, logits_ratio_loss, margin_loss, pgd
from experiments.absum.run import ClassifierRun, variables

LOSSES = {"cross_entropy": cross_entropy_loss, "margin": margin_loss, "logits_ratio": logits_ratio_loss}
GREY = (0.02, 0.05, 0.1, 0.2, 0.3)
COLOUR = (2 / 255, 4 / 255, 8 / 255, 16 / 255)


def default_epsilons(channels: int) -> tuple[float, ...]:
    """L-infinity norms that are usual for grey images, or for those in colour."""
    return GREY if channels == 1 else COLOUR


def adversarial_images(
    trained: ClassifierRun,
    pixels: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float,
    loss: str,
    num_steps: int,
    num_restarts: int = 1,
    seed: int = 0,
    stop_at_success: bool = True,
    batch_size: int,
) -> np.ndarray:
    """What PGD makes of float images [N, H, W, C]; batches do not matter."""
    count = len(pixels)
    size = -(-count // -(-count // batch_size))  # of batches that are all alike: one program
    # Of a named implementation, as others draw other numbers in batches of another size.
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), list(LOSSES).index(loss))
    attack = functools.partial(
        pgd, trained.subject.predict_fn, variables(trained), loss_fn=LOSSES[loss], epsilon=epsilon,
        step_size=min(epsilon, 2.5 * epsilon / num_steps), num_steps=num_steps, num_restarts=num_restarts,
        stop_at_success=stop_at_success,
    )  # fmt: skip
    found = []
    for start in range(0, count, size):
        rows = np.arange(start, start + size) % count  # a last batch is filled with the first images
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(rows))
        found.append(np.asarray(attack(pixels[rows], labels[rows], key=keys)))
    return np.concatenate(found)[:count]
