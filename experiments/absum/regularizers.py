"""The regularisers that are compared, as values: what each adds to the loss, the update and the model.

``experiments/absum/task.py`` calls them; ``after_update``, where the proximal step is, is the last part of the
compiled training step (``train_step`` in ``experiments/training/step.py``).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from absum_jax import (
    absum_penalty,
    conv_kernel_mask,
    prox_absum,
    prox_l1,
    prox_squared_l2,
    tree_prox,
)
from experiments.harness.settings import find

State = dict[str, Any]  # holds "strength", traced, and whatever else a regulariser keeps from step to step


def _strength_alone(params: Any, strength: ArrayLike) -> State:
    del params
    return {"strength": strength}


def _no_penalty(params: Any, state: State) -> tuple[Array, State]:
    del params
    return jnp.zeros(()), state


def _no_step(params: Any, state: State, learning_rate: ArrayLike, step: ArrayLike) -> Any:
    del state, learning_rate, step
    return params


def _same_images(keys: Array, images: Array) -> Array:
    del keys
    return images


def _same_model(model: nn.Module) -> nn.Module:
    return model


@dataclasses.dataclass(frozen=True)
class Regularizer:
    """A regulariser, acting on the convolution kernels. All functions but ``wrap_model`` are traced.

    The strength is a number in the state, so that another strength compiles nothing.

    Args:
        init: ``(params, strength) -> state``.
        penalty: ``(params, state) -> (scalar, state)``; the scalar is added to the loss.
        after_update: ``(params, state, learning_rate, step) -> params``, such as a proximal step.
        augment: ``(keys [N], images [N, H, W, C]) -> images`` of the same shape, in training.
        wrap_model: ``model -> model``, in training and everywhere after.
        has_strength: False where there is nothing to weigh, so that the strength is 0.
    """

    init: Callable[[Any, ArrayLike], State] = _strength_alone
    penalty: Callable[[Any, State], tuple[Array, State]] = _no_penalty
    after_update: Callable[[Any, State, ArrayLike, ArrayLike], Any] = _no_step
    augment: Callable[[Array, Array], Array] = _same_images
    wrap_model: Callable[[nn.Module], nn.Module] = _same_model
    has_strength: bool = True


def proximal_step(prox: Callable) -> Regularizer:
    """The proximal operator on every kernel, with the learning rate of the step times the strength."""

    def after_update(params: Any, state: State, learning_rate: ArrayLike, step: ArrayLike) -> Any:
        del step
        return tree_prox(prox, params, state["strength"], learning_rate)

    return Regularizer(after_update=after_update)


def _decayed(params: Any, state: State, learning_rate: ArrayLike, step: ArrayLike) -> Any:
    del step
    flags = conv_kernel_mask(params)
    kept = 1 - learning_rate * state["strength"]
    return jax.tree.map(lambda flag, leaf: kept * leaf if flag else leaf, flags, params)


def _absum_in_the_loss(params: Any, state: State) -> tuple[Array, State]:
    return state["strength"] * absum_penalty(params), state


REGULARIZERS: dict[str, Regularizer] = {
    "none": Regularizer(has_strength=False),
    "weight_decay": proximal_step(prox_squared_l2),
    "l1": proximal_step(prox_l1),
    "absum": proximal_step(prox_absum),
    # Kernels times 1 - learning rate x strength after the update: Loshchilov and Hutter, ICLR 2019.
    "decoupled_weight_decay": Regularizer(after_update=_decayed),
    "absum_penalty": Regularizer(penalty=_absum_in_the_loss),
}


def find_regularizer(name: str) -> Regularizer:
    """The named entry of ``REGULARIZERS``, or a user's own: ``package.module:name`` of a :class:`Regularizer`.

    Raises:
        ValueError: if there is neither.
    """
    found = find(name, REGULARIZERS, "regularizer", own=True)
    if not isinstance(found, Regularizer):
        raise ValueError(f"regularizer {name} must name a Regularizer, got {type(found).__name__}")
    return found


@jax.jit
def absum_ratio(params: Any) -> Array:
    r"""sum |sum K| / sum |K| over the convolution kernels: 0 when all filter sums are, 1 when no tap cancels.

    Unlike the penalty it does not change when a kernel is scaled.
    """
    flags = jax.tree.leaves(conv_kernel_mask(params))
    kernels = [k for k, flag in zip(jax.tree.leaves(params), flags, strict=True) if flag]
    return absum_penalty(params) / sum(jnp.sum(jnp.abs(kernel)) for kernel in kernels)
