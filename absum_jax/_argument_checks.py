"""Checks of numbers, keys and devices before any work is done; values that are being traced pass unchecked."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def concrete(value: Any) -> np.ndarray | None:
    """The value as a NumPy array, or ``None`` while it is being traced (jit, vmap, grad)."""
    try:
        return np.asarray(value)
    except jax.errors.TracerArrayConversionError:
        return None


def as_array(name: str, value: Any) -> Array | np.ndarray:
    """JAX arrays as they are, anything else as a NumPy array of the type that JAX would give it.

    Nothing is copied to a device or compiled for it, so that it can be checked first. Integers that are too large
    for that type, such as counts of over 2^31 trials, keep theirs.

    Raises:
        ValueError: if it is not made of numbers, or ragged.
    """
    found = _numbers(name, value)
    if isinstance(found, jax.Array):
        return found
    narrow = found.astype(jax.dtypes.canonicalize_dtype(found.dtype), copy=False)
    is_cut = jnp.issubdtype(found.dtype, jnp.integer) and np.any(narrow != found)
    return found if is_cut else narrow


def _numbers(name: str, value: Any) -> Array | np.ndarray:
    """The same in the type that NumPy gives it, in which Python's floats keep all of their digits."""
    try:
        found = value if isinstance(value, jax.Array) else np.asarray(value)
    except jax.errors.TracerArrayConversionError:
        return jnp.asarray(value)  # a list of traced numbers
    except ValueError:
        raise ValueError(f"{name} must be an array of numbers, got a ragged list") from None
    if not any(jnp.issubdtype(found.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise ValueError(f"{name} must be an array of numbers, got {type(value).__name__} of dtype {found.dtype}")
    return found


def require_finite(name: str, value: Any) -> None:
    """Raise ``ValueError`` if an entry of ``value`` is infinite or not a number."""
    known = concrete(_numbers(name, value))
    if known is not None and not np.all(np.isfinite(known)):
        raise ValueError(f"{name} must be finite, got {known}")


def require_nonnegative(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless every entry of ``value`` is a finite number, zero or more."""
    known = concrete(_numbers(name, value))
    if known is not None and not (np.all(np.isfinite(known)) and np.all(known >= 0)):
        raise ValueError(f"{name} must be finite and not negative, got {known}")


def require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of the ``allowed`` words."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def require_positive_int(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless ``value`` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")


def require_sizes(name: str, value: Any, words: tuple[str, ...]) -> None:
    """Raise ``ValueError`` unless ``value`` is a tuple of positive integers, one for each of the ``words``."""
    is_size = isinstance(value, Sequence) and len(value) == len(words)
    if not is_size or any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1 for n in value):
        raise ValueError(f"{name} must be ({', '.join(words)}), integers of at least 1, got {value!r}")


def require_bounds(bounds: Any) -> None:
    """Raise ``ValueError`` unless ``bounds`` are two numbers, the smaller first."""
    try:
        low, high = (float(bound) for bound in bounds)
    except (TypeError, ValueError, jax.errors.ConcretizationTypeError):
        raise ValueError(f"bounds must be two numbers (lowest, highest pixel), got {bounds}") from None
    if not low < high:
        raise ValueError(f"bounds must be two numbers, the smaller first, got {bounds}")


def require_key(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless ``value`` is one PRNG key, typed or as raw integers."""
    if _key_shape(value) != ():
        raise ValueError(f"{name} must be one key, such as jax.random.key(0), got {_kind_of_key(value)}")


def require_keys(name: str, value: Any, num_images: int) -> None:
    """Raise ``ValueError`` unless ``value`` is one PRNG key, or an array of one for each image."""
    if _key_shape(value) not in ((), (num_images,)):
        raise ValueError(
            f"{name} must be one key, such as jax.random.key(0), or one for each of the {num_images} images, "
            f"got {_kind_of_key(value)}"
        )


def _key_shape(value: Any) -> tuple[int, ...] | None:
    """Of an array of PRNG keys, typed or as raw integers of the default generator; ``None`` of anything else."""
    if not isinstance(value, jax.Array | np.ndarray):
        return None
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value.shape
    raw = jax.eval_shape(jax.random.PRNGKey, 0)
    is_raw = value.dtype == raw.dtype and value.shape[-1:] == raw.shape
    return value.shape[:-1] if is_raw else None


def _kind_of_key(value: Any) -> str:
    is_array = isinstance(value, jax.Array | np.ndarray)
    return f"{value.dtype} of shape {value.shape}" if is_array else repr(value)


def check_epsilons(name: str, values: ArrayLike | Sequence[float]) -> Array | np.ndarray:
    """Norms of perturbations, float [] or [E]; raise ``ValueError`` for other shapes and numbers below 0."""
    found = as_array(name, values).astype(jax.dtypes.canonicalize_dtype(float))
    if found.ndim > 1 or not found.size:
        raise ValueError(f"{name} must be a number or a non-empty list of numbers, got shape {found.shape}")
    require_nonnegative(name, found)
    return found


def as_number(name: str, value: ArrayLike) -> Array | np.ndarray:
    """One number, as :func:`as_array`; raise ``ValueError`` for several."""
    found = as_array(name, value)
    if found.shape != ():
        raise ValueError(f"{name} must be one number, got shape {found.shape}; jax.vmap takes several")
    return found


def check_length(name: str, value: ArrayLike) -> Array | np.ndarray:
    """The norm of one perturbation; raise ``ValueError`` unless it is one finite number, zero or more."""
    found = as_number(name, value)
    require_nonnegative(name, found)
    return found


def require_devices(devices: Any) -> None:
    """Raise ``ValueError`` unless ``devices`` is a list of different devices, at least one."""
    if not isinstance(devices, Sequence) or any(not isinstance(device, jax.Device) for device in devices):
        raise ValueError(f"devices must be a list of jax.Device, such as jax.devices(), got {devices!r}")
    if not devices or len(set(devices)) != len(devices):
        raise ValueError(f"devices must be different and at least one, got {list(devices)}")
