"""The regularisers that are compared, as values: what each adds to the loss, to the update, and after it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from absum_jax import (
    absum_penalty,
    conv_kernel_mask,
    prox_absum,
    prox_l1,
    prox_squared_l2,
    tree_prox,
)
from experiments.training.task import unchanged

# Chosen on validation images of the embedded data: the highest average robust accuracy, mean of seeds 0 and 1, by
#   python3 -m experiments.absum select --regularizer NAME --strengths ... --seeds 2 --attack-images 200
#   absum         0.003: 0.741   0.01: 0.764  0.03: 0.756   0.1: 0.739
#   weight_decay   0.01: 0.699   0.03: 0.726   0.1: 0.700
#   l1           0.0003: 0.689  0.001: 0.724  0.003: 0.701  0.01: 0.714
# The other two forms take the strength of their proximal step. ResNet-18 takes those of LeNet: not tuned.
_LENET = {
    "none": 0.0,
    "weight_decay": 0.03,
    "l1": 0.001,
    "absum": 0.01,
    "decoupled_weight_decay": 0.03,
    "absum_penalty": 0.01,
}
DEFAULT_STRENGTHS: dict[str, dict[str, float]] = {"lenet": _LENET, "resnet18": _LENET}


def _no_penalty(params: Any) -> Array:
    del params
    return jnp.zeros(())


@dataclasses.dataclass(frozen=True)
class Regularizer:
    """A regulariser of a given strength, acting on the convolution kernels.

    Args:
        penalty: ``params -> scalar``, added to the loss.
        decay: optax transformation between momentum and learning rate.
        after_update: ``(params, learning_rate) -> params``, the proximal step.
    """

    penalty: Callable[[Any], Array] = _no_penalty
    decay: optax.GradientTransformation = dataclasses.field(default_factory=optax.identity)
    after_update: Callable[[Any, Array], Any] = unchanged


def _proximal_step(prox: Callable, strength: float) -> Regularizer:
    def after_update(params: Any, learning_rate: Array) -> Any:
        return tree_prox(prox, params, strength, learning_rate)

    return Regularizer(after_update=after_update)


def _none(strength: float) -> Regularizer:
    if strength != 0:
        raise ValueError(f"regularizer 'none' has strength 0, got {strength}")
    return Regularizer()


def _decoupled_weight_decay(strength: float) -> Regularizer:
    return Regularizer(decay=optax.add_decayed_weights(strength, mask=conv_kernel_mask))


def _absum_penalty(strength: float) -> Regularizer:
    return Regularizer(penalty=lambda params: strength * absum_penalty(params))


REGULARIZERS: dict[str, Callable[[float], Regularizer]] = {
    "none": _none,
    "weight_decay": functools.partial(_proximal_step, prox_squared_l2),
    "l1": functools.partial(_proximal_step, prox_l1),
    "absum": functools.partial(_proximal_step, prox_absum),
    "decoupled_weight_decay": _decoupled_weight_decay,
    "absum_penalty": _absum_penalty,
}


def absum_ratio(params: Any) -> Array:
    r"""sum |sum K| / sum |K| over the convolution kernels: 0 when all filter sums are, 1 when no tap cancels.

    Unlike the penalty it does not change when a kernel is scaled.
    """
    flags = jax.tree.leaves(conv_kernel_mask(params))
    kernels = [k for k, flag in zip(jax.tree.leaves(params), flags, strict=True) if flag]
    return absum_penalty(params) / sum(jnp.sum(jnp.abs(kernel)) for kernel in kernels)
