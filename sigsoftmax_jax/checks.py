"""Errors that can be known before anything runs: each names the offending argument and what was expected."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

# What public functions take: labels and masks often come from a data loader as NumPy arrays.
AnyArray = Array | np.ndarray


def check_floating(**arrays: AnyArray | None) -> None:
    """Each array, named by its keyword, holds floating-point numbers."""
    for name, array in arrays.items():
        if array is not None and not jnp.issubdtype(jnp.result_type(array), jnp.floating):
            raise ValueError(f"{name} must be floating-point, got {jnp.result_type(array)}")


def check_axis(axis: int | tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """The axes as distinct non-negative integers; ``None`` is all of them."""
    axes = tuple(range(ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if bad := [a for a in axes if not -ndim <= a < ndim]:
        raise ValueError(f"axis {bad[0]} is out of range for {ndim} dimensions")
    positive = tuple(a % ndim for a in axes)
    if len(set(positive)) < len(positive):
        raise ValueError(f"axis {axis} names a dimension twice")
    return positive


def check_where(where: AnyArray | None, name: str, shape: tuple[int, ...]) -> None:
    """``where`` holds booleans and broadcasts to the shape of the array called ``name``."""
    if where is None:
        return
    if jnp.result_type(where) != jnp.bool_:
        raise ValueError(f"where must be boolean, got {jnp.result_type(where)}")
    _check_broadcast("where", jnp.shape(where), name, shape)


def check_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...], why: str) -> None:
    """``shape`` is what ``why`` says it must be."""
    if shape != expected:
        raise ValueError(f"{name} has shape {shape}, expected {expected}: {why}")


def check_labels(labels: AnyArray, shape: tuple[int, ...], classes: int, where: AnyArray | None = None) -> None:
    """Integer labels of this shape; the counted ones in [0, classes) if their values are known."""
    if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise ValueError(f"labels must be integers, got {jnp.result_type(labels)}")
    check_shape("labels", jnp.shape(labels), shape, "one label per example")
    counted = _known(labels), True if where is None else _known(where)
    if counted[0] is None or counted[1] is None or not math.prod(shape):
        return
    values = counted[0][np.broadcast_to(counted[1], shape)]
    if values.size and not (values.min() >= 0 and values.max() < classes):
        raise ValueError(f"labels lie in [{values.min()}, {values.max()}], expected [0, {classes - 1}]")


def check_head(hidden: AnyArray, embedding: AnyArray, bias: AnyArray | None) -> None:
    """Hidden states [..., d], embedding [V, d] and bias [V] fit together."""
    check_floating(hidden=hidden, embedding=embedding, bias=bias)
    if jnp.ndim(hidden) < 1 or jnp.ndim(embedding) != 2 or 0 in jnp.shape(embedding):
        raise ValueError(
            f"hidden has shape {jnp.shape(hidden)} and embedding {jnp.shape(embedding)}, "
            "expected [..., d] and [V, d] with V and d at least 1"
        )
    if jnp.shape(hidden)[-1] != jnp.shape(embedding)[1]:
        raise ValueError(
            f"hidden has shape {jnp.shape(hidden)} and embedding {jnp.shape(embedding)}: "
            "their last dimensions must be equal"
        )
    if bias is not None:
        check_shape("bias", jnp.shape(bias), jnp.shape(embedding)[:1], "one entry per row of the embedding")


def check_mixture(hidden: AnyArray, mixture_logits: AnyArray) -> None:
    """Hidden states [..., K, d] and mixture logits [..., K] name the same experts."""
    check_floating(mixture_logits=mixture_logits)
    if jnp.ndim(hidden) < 2 or jnp.shape(hidden)[-2] < 1:
        raise ValueError(f"hidden has shape {jnp.shape(hidden)}, expected [..., K, d] with K at least 1")
    why = f"one logit per expert of hidden {jnp.shape(hidden)}"
    check_shape("mixture_logits", jnp.shape(mixture_logits), jnp.shape(hidden)[:-1], why)


def check_block_size(block_size: int | None) -> None:
    """A block holds at least one row of the vocabulary."""
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")


def _check_broadcast(name: str, shape: tuple[int, ...], other: str, target: tuple[int, ...]) -> None:
    """``shape`` broadcasts to ``target`` without changing it."""
    aligned = zip(reversed(shape), reversed(target), strict=False)
    if len(shape) > len(target) or any(a not in (1, b) for a, b in aligned):
        raise ValueError(f"{name} of shape {shape} does not broadcast to {other} of shape {target}")


def _known(array: AnyArray) -> np.ndarray | None:
    """The values of an array that is not being traced and lies on this process's devices, else None."""
    if isinstance(array, jax.core.Tracer) or not getattr(array, "is_fully_addressable", True):
        return None
    return np.asarray(array)
