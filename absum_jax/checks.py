"""Validation of values that are known before anything runs; traced values pass unchecked."""

from typing import Any

import jax
import numpy as np


def concrete(value: Any) -> np.ndarray | None:
    """The value as a NumPy array, or ``None`` while it is being traced (jit, vmap, grad)."""
    try:
        return np.asarray(value)
    except jax.errors.TracerArrayConversionError:
        return None


def require_finite(name: str, value: Any) -> None:
    """Raise ``ValueError`` if an entry of ``value`` is infinite or not a number."""
    known = concrete(value)
    if known is not None and not np.all(np.isfinite(known)):
        raise ValueError(f"{name} must be finite, got {known}")


def require_nonnegative(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless every entry of ``value`` is a finite number, zero or more."""
    known = concrete(value)
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
