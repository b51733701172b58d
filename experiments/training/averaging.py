"""Averages of the parameters over the steps, begun or ended when the validation loss stops improving.

Non-monotonically triggered averaged SGD (NT-ASGD): Merity, Keskar and Socher, "Regularizing and Optimizing LSTM
Language Models", ICLR 2018, arXiv:1708.02182, algorithm 1.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array


@dataclasses.dataclass(frozen=True)
class Averaging:
    """When to average.

    Args:
        patience: validations in which the loss may fail to improve.
        from_start: average from the first step, and end training when the loss stops improving (fine-tuning);
            otherwise averaging begins when it stops improving, and training goes on.
    """

    patience: int = 5
    from_start: bool = False

    def __post_init__(self) -> None:
        """Refuse a patience without meaning."""
        if self.patience < 1:
            raise ValueError(f"patience must be at least 1, got {self.patience}")

    def is_triggered(self, losses: Sequence[float]) -> bool:
        """Whether the newest of all validation losses is above the best of those before the last ``patience``.

        >>> averaging = Averaging(patience=2)
        >>> averaging.is_triggered([5, 4, 3, 4]), averaging.is_triggered([3, 4, 4, 4])
        (False, True)
        """
        *past, newest = losses or [0.0]
        return len(past) > self.patience and newest > min(past[: -self.patience])


class Average(flax.struct.PyTreeNode):
    """The mean of the parameters after each step since averaging began; before that, the parameters."""

    params: Any
    count: Array
    is_active: Array


def start_average(params: Any, *, active: bool) -> Average:
    """An average of nothing yet."""
    # A copy: the average and the parameters are both donated to the step.
    return Average(jax.tree.map(jnp.copy, params), jnp.zeros((), jnp.int32), jnp.asarray(active))


def update_average(average: Average, params: Any) -> Average:
    """Take the parameters after a step into the average."""
    count = jnp.where(average.is_active, average.count + 1, 0)

    def mean(before: Array, newest: Array) -> Array:
        return jnp.where(count <= 1, newest, before + (newest - before) / jnp.maximum(count, 1))

    return Average(jax.tree.map(mean, average.params, params), count, average.is_active)
