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
    clip_singular_values,
    conv_kernel_mask,
    conv_power_iteration,
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


def _same_images(keys: Array, images: Array, state: State) -> Array:
    del keys, state
    return images


def _same_model(model: nn.Module) -> nn.Module:
    return model


@dataclasses.dataclass(frozen=True)
class Regularizer:
    """A regulariser, or a control that it is held against. All functions but ``wrap_model`` are traced.

    The strength is a number in the state, so that another strength compiles nothing.

    Args:
        init: ``(params, strength) -> state``.
        penalty: ``(params, state) -> (scalar, state)``; the scalar is added to the loss.
        after_update: ``(params, state, learning_rate, step) -> params``, such as a proximal step.
        augment: ``(keys [N], images [N, H, W, C], state) -> images`` of the same shape, in training.
        wrap_model: ``model -> model``, in training and everywhere after.
        has_strength: False where there is nothing to weigh, so that the strength is 0.
    """

    init: Callable[[Any, ArrayLike], State] = _strength_alone
    penalty: Callable[[Any, State], tuple[Array, State]] = _no_penalty
    after_update: Callable[[Any, State, ArrayLike, ArrayLike], Any] = _no_step
    augment: Callable[[Array, Array, State], Array] = _same_images
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


_GRID = 16  # side of the images on which spectra are taken, whatever a layer's own; larger for larger kernels
_CLIP_EVERY = 100  # steps


def _image_size(kernel: Array) -> tuple[int, ...]:
    return tuple(max(_GRID, taps) for taps in kernel.shape[:-2])


def _with_power_vectors(params: Any, strength: ArrayLike) -> State:
    """An image for each kernel, from which its norm is found: random at first, then that of the last step."""
    leaves, tree = jax.tree.flatten(params)
    flags = jax.tree.leaves(conv_kernel_mask(params))
    keys = jax.random.split(jax.random.key(0), len(leaves))
    vectors = [
        jax.random.normal(key, (*_image_size(leaf), leaf.shape[-2])) if flag else jnp.zeros(())
        for key, leaf, flag in zip(keys, leaves, flags, strict=True)
    ]
    return {"strength": strength, "vectors": jax.tree.unflatten(tree, vectors)}


def _squared_norms_in_the_loss(params: Any, state: State) -> tuple[Array, State]:
    """Half of the squared operator norms, by one power iteration a step."""
    leaves, tree = jax.tree.flatten(params)
    flags, vectors = jax.tree.leaves(conv_kernel_mask(params)), jax.tree.leaves(state["vectors"])
    total, found = jnp.zeros(()), []
    for leaf, flag, vector in zip(leaves, flags, vectors, strict=True):
        norm, new = conv_power_iteration(leaf, vector) if flag else (0.0, vector)
        total += norm**2 / 2
        found.append(new)
    return state["strength"] * total, state | {"vectors": jax.tree.unflatten(tree, found)}


def _clipped(params: Any, state: State, learning_rate: ArrayLike, step: ArrayLike) -> Any:
    """Every hundredth step no singular value is left above the strength, but for what the crop brings back."""
    del learning_rate
    flags = conv_kernel_mask(params)

    def clip(params: Any) -> Any:
        return jax.tree.map(
            lambda flag, leaf: clip_singular_values(leaf, _image_size(leaf), state["strength"]) if flag else leaf,
            flags, params,
        )  # fmt: skip

    return jax.lax.cond(jnp.asarray(step) % _CLIP_EVERY == _CLIP_EVERY - 1, clip, lambda params: params, params)


def _brighter_or_darker(keys: Array, images: Array, state: State) -> Array:
    """One number, uniform within +-strength, added to all pixels of an image."""
    shifts = jax.vmap(lambda key: jax.random.uniform(key, minval=-1.0))(keys)
    return jnp.clip(images + state["strength"] * shifts[:, None, None, None], 0.0, 1.0)


def _noisy(keys: Array, images: Array, state: State) -> Array:
    """White noise of a standard deviation that is uniform in [0, strength] for each image."""

    def noise(key: Array) -> Array:
        scale_key, noise_key = jax.random.split(key)
        return jax.random.uniform(scale_key) * jax.random.normal(noise_key, images.shape[1:])

    return jnp.clip(images + state["strength"] * jax.vmap(noise)(keys), 0.0, 1.0)


class WithoutMean(nn.Module):
    """A model that is given images less their own mean: no uniform change of brightness reaches it.

    Args:
        inner: the model.
    """

    inner: nn.Module

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False, axis_name: Any = None) -> Array:
        """Logits of images [N, H, W, C]."""
        centred = images - jnp.mean(images, axis=(1, 2, 3), keepdims=True)
        logits: Array = self.inner(centred, train=train, axis_name=axis_name)
        return logits


REGULARIZERS: dict[str, Regularizer] = {
    "none": Regularizer(has_strength=False),
    "weight_decay": proximal_step(prox_squared_l2),
    "l1": proximal_step(prox_l1),
    "absum": proximal_step(prox_absum),
    # Kernels times 1 - learning rate x strength after the update: Loshchilov and Hutter, ICLR 2019.
    "decoupled_weight_decay": Regularizer(after_update=_decayed),
    "absum_penalty": Regularizer(penalty=_absum_in_the_loss),
    # Strength / 2 times the squared operator norms: Yoshida and Miyato, 2017, there of the kernels as matrices.
    "spectral_norm": Regularizer(init=_with_power_vectors, penalty=_squared_norms_in_the_loss),
    # Singular values clipped to the strength: Sedghi, Gupta and Long, ICLR 2019.
    "spectral_clip": Regularizer(after_update=_clipped),
    # Controls. A filter sum of zero is blind to brightness: what of Absum's effect is no more than that?
    "mean_subtraction": Regularizer(wrap_model=WithoutMean, has_strength=False),
    "brightness": Regularizer(augment=_brighter_or_darker),
    # Yin et al., NeurIPS 2019.
    "gaussian_noise": Regularizer(augment=_noisy),
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
