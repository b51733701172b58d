"""Adversarial training as a value: which attack runs inside the training step, and what is said of its success."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from jax import Array

from absum_jax import pgd
from experiments.training.phase import Line

METHODS = ("none", "pgd", "fgsm")


@dataclasses.dataclass(frozen=True)
class Adversary:
    """What attacks the training images, each step anew, in L-infinity.

    The network is attacked in evaluation mode: batch normalisation by its running averages, no dropout. What an
    image becomes depends on its own key alone then, and not on the batch or the number of devices. The attacked
    images are what the network is trained on, in training mode.

    Args:
        epsilon: radius of the ball, on the pixel scale.
        num_steps: of projected gradient descent from a random start; all of it raises the loss to the last step.
        step_size: of each.

    References:
        Madry et al., ICLR 2018, https://arxiv.org/abs/1706.06083; one step: Wong, Rice and Kolter, Fast is better
        than free, ICLR 2020, https://arxiv.org/abs/2001.03994
    """

    epsilon: float
    num_steps: int
    step_size: float

    def attack(
        self, predict_fn: Callable[[Any, Array], Array], variables: Any, images: Array, labels: Array, keys: Array
    ) -> Array:
        """Images [N, H, W, C] that are harder than the given ones; ``keys`` [N] are those of the random starts."""
        return pgd(
            predict_fn, variables, images, labels, epsilon=self.epsilon, step_size=self.step_size,
            num_steps=self.num_steps, key=keys, stop_at_success=False,
        )  # fmt: skip

    def evaluate(
        self, predict_fn: Callable[[Any, Array], Array], variables: Any, images: Array, labels: Array
    ) -> Array:
        """Validation images, attacked by ten steps from the clean ones, which needs no key."""
        return pgd(
            predict_fn, variables, images, labels, epsilon=self.epsilon, step_size=self.epsilon / 4, num_steps=10,
            key=None, random_start=False,
        )  # fmt: skip


@functools.cache
def find_adversary(method: str, epsilon: float, num_steps: int) -> Adversary | None:
    """The adversary of a training: ``none``; ``pgd``; ``fgsm``, one step of 1.25 epsilon from a random start.

    The steps of ``pgd`` are 2.5 epsilon / num_steps long, so that they could cross the ball.

    Raises:
        ValueError: for another name.
    """
    if method not in METHODS:
        raise ValueError(f"--adversarial must be one of {', '.join(METHODS)}, got {method!r}")
    if method == "none":
        return None
    if method == "fgsm":
        return Adversary(epsilon, 1, 1.25 * epsilon)
    return Adversary(epsilon, num_steps, 2.5 * epsilon / num_steps)


_COLLAPSE = 0.5  # of the best accuracy so far


def overfitting(lines: Sequence[Line]) -> str | None:
    """A warning if the last epoch lost most of its accuracy under attack; ``None`` where it did not.

    Training with one step can end in a network that withstands this one step alone, from one epoch to the next:
    catastrophic overfitting (Wong, Rice and Kolter, 2020).
    """
    name = "validation_pgd_accuracy"
    found = [line[name] for line in lines if name in line]
    if len(found) < 2 or found[-1] >= _COLLAPSE * max(found):
        return None
    return (
        f"catastrophic overfitting: the accuracy under PGD fell to {found[-1]:.3f} from {max(found):.3f};"
        " train with --adversarial pgd, a smaller --adversarial-epsilon or fewer --epochs"
    )
