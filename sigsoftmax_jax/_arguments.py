"""What the public functions take: its types, the dtype to compute in, and errors known before anything runs."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

# What public functions take: labels and masks often come from a data loader as NumPy arrays.
AnyArray = Array | np.ndarray
Shape = tuple[Any, ...]  # integers, or symbols where a program is exported for any size
Axis = int | tuple[int, ...] | None
# Hidden states [..., d], embedding [V, d] and bias [V].
Head = tuple[Array, Array, Array | None]


def compute_dtype(*arrays: AnyArray | None) -> jnp.dtype:
    """The dtype that sums, logarithms and losses of these arrays have: float32, or wider if one of them is."""
    wide = any(array is not None and jnp.result_type(array) == jnp.float64 for array in arrays)
    return jnp.dtype(jnp.float64 if wide else jnp.float32)


def known_values(array: AnyArray | float | int) -> np.ndarray | None:
    """The values of an array that is not being traced and lies on this process's devices, else None."""
    if isinstance(array, jax.core.Tracer) or not getattr(array, "is_fully_addressable", True):
        return None
    # Asked for by name, which jax.transfer_guard("disallow") permits.
    return np.asarray(jax.device_get(array) if isinstance(array, jax.Array) else array)


def check_floating(**arrays: AnyArray | None) -> None:
    """Each array, named by its keyword, holds floating-point numbers."""
    for name, array in arrays.items():
        if array is not None and not jnp.issubdtype(jnp.result_type(array), jnp.floating):
            raise ValueError(f"{name} must be floating-point, got {jnp.result_type(array)}")


def as_floating(name: str, array: AnyArray | float) -> Array:
    """An array, or what can be one, of floating-point numbers, as a JAX array."""
    found = jnp.asarray(array)
    check_floating(**{name: found})
    return found


def check_axis(axis: Axis, ndim: int) -> Shape:
    """The axes as distinct non-negative integers; ``None`` is all of them."""
    try:
        given = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        axes = tuple(map(operator.index, given))
    except TypeError:
        raise ValueError(f"axis must be an integer, a tuple of integers or None, got {axis!r}") from None
    if bad := [a for a in axes if not -ndim <= a < ndim]:
        raise ValueError(f"axis must be in [{-ndim}, {ndim}) for {ndim} dimensions, got {bad[0]}")
    positive = tuple(a % ndim for a in axes)
    if len(set(positive)) < len(positive):
        raise ValueError(f"axis must be distinct dimensions of {ndim}, got {axis}")
    return positive


def check_class_axis(axis: int, ndim: int) -> int:
    """The one axis of the classes, as a non-negative integer."""
    if axis is None or isinstance(axis, tuple):
        raise ValueError(f"axis must be one integer, got {axis!r}")
    return check_axis(axis, ndim)[0]


def check_where(where: AnyArray | None, name: str, shape: Shape) -> None:
    """``where`` holds booleans and broadcasts to the shape of the array called ``name``."""
    if where is None:
        return
    if jnp.result_type(where) != jnp.bool_:
        raise ValueError(f"where must be boolean, got {jnp.result_type(where)}")
    _check_broadcast("where", jnp.shape(where), name, shape)


def check_shape(name: str, shape: Shape, expected: Shape, why: str) -> None:
    """``shape`` is what ``why`` says it must be."""
    if shape != expected:
        raise ValueError(f"{name} must have shape {expected}, {why}, got {shape}")


def as_head(hidden: AnyArray, embedding: AnyArray, bias: AnyArray | None) -> Head:
    """Hidden states [..., d], embedding [V, d] and bias [V] that fit together, as JAX arrays."""
    hidden, embedding = jnp.asarray(hidden), jnp.asarray(embedding)
    bias = None if bias is None else jnp.asarray(bias)
    check_floating(hidden=hidden, embedding=embedding, bias=bias)
    shapes = f"got {hidden.shape} and {embedding.shape}"
    if hidden.ndim < 1 or embedding.ndim != 2 or 0 in embedding.shape:
        raise ValueError(f"hidden and embedding must be [..., d] and [V, d] with V and d at least 1, {shapes}")
    if hidden.shape[-1] != embedding.shape[1]:
        raise ValueError(f"hidden and embedding must be equal in their last dimension, {shapes}")
    if bias is not None:
        check_shape("bias", bias.shape, embedding.shape[:1], "one entry per row of the embedding")
    return hidden, embedding, bias


def as_mixture_logits(mixture_logits: AnyArray, hidden: Array) -> Array:
    """Mixture logits [..., K] for the experts of hidden states [..., K, d], as a JAX array."""
    mixture_logits = jnp.asarray(mixture_logits)
    check_floating(mixture_logits=mixture_logits)
    if hidden.ndim < 2 or hidden.shape[-2] < 1:
        raise ValueError(f"hidden must be [..., K, d] with K at least 1, got {hidden.shape}")
    why = f"one logit per expert of hidden {hidden.shape}"
    check_shape("mixture_logits", mixture_logits.shape, hidden.shape[:-1], why)
    return mixture_logits


def check_block_size(block_size: int | None) -> int | None:
    """The size as an integer: a block holds at least one row of the vocabulary."""
    if block_size is None:
        return None
    try:
        size = operator.index(block_size)
    except TypeError:
        raise ValueError(f"block_size must be an integer known before tracing, got {block_size!r}") from None
    if size < 1:
        raise ValueError(f"block_size must be at least 1, got {size}")
    return size


def check_smoothing(label_smoothing: float) -> float:
    """The weight of the uniform distribution as a number: in [0, 1)."""
    smoothing = _known_number("label_smoothing", label_smoothing)
    if not 0 <= smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
    return smoothing


def check_z_loss(z_loss: float) -> float:
    """The weight of the squared log normaliser as a number: finite and not negative."""
    weight = _known_number("z_loss", z_loss)
    if not 0 <= weight < np.inf:
        raise ValueError(f"z_loss must be finite and not negative, got {z_loss}")
    return weight


def _known_number(name: str, value: float) -> float:
    """A weight that is compiled in."""
    if (known := known_values(value)) is None or known.shape != ():
        raise ValueError(f"{name} must be a number known before tracing, got {value!r}")
    return float(known)


def _check_broadcast(name: str, shape: Shape, other: str, target: Shape) -> None:
    """``shape`` broadcasts to ``target`` without changing it."""
    aligned = zip(reversed(shape), reversed(target), strict=False)
    if len(shape) > len(target) or any(a not in (1, b) for a, b in aligned):
        raise ValueError(f"{name} must broadcast to {other} of shape {target}, got {shape}")
