"""Checks of arguments before any work is done; values that are being traced pass unchecked."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from absum_jax._types import Bounds, PredictFn, PyTree


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


def check_inputs(predict_fn: PredictFn, params: PyTree, images: Array, labels: Array, bounds: Bounds) -> None:
    """Check what every attack is given: a classifier, images and labels.

    Raises:
        ValueError: unless images are floats [N, H, W, C] within the bounds, labels are integers [N] below the
            number of classes, and ``predict_fn`` returns logits [N, classes].
    """
    if images.ndim != 4 or not images.size:
        raise ValueError(f"images must be a non-empty array [N, H, W, C], got shape {images.shape}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images must be floats in {bounds}, got dtype {images.dtype}; divide by 255 first")
    if labels.shape != images.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels must be {len(images)} integers, one per image, got {labels.shape} of {labels.dtype}"
        )
    logits = jax.jit(predict_fn).eval_shape(params, images)  # jit remembers it; eval_shape traces each time
    if getattr(logits, "ndim", 0) != 2 or len(logits) != len(images):
        raise ValueError(f"predict_fn must return logits [{len(images)}, classes], got {logits}")
    inside = concrete(jnp.all((images >= bounds[0]) & (images <= bounds[1])))  # False at not-a-number
    if inside is not None and not inside:
        raise ValueError(f"images must lie within {bounds} and hold no NaN; they range over "
                         f"{float(images.min())} to {float(images.max())}")  # fmt: skip
    in_range = concrete(jnp.all((labels >= 0) & (labels < logits.shape[1])))
    if in_range is not None and not in_range:
        raise ValueError(f"labels must lie in 0 to {logits.shape[1] - 1}, the classes of predict_fn; they range "
                         f"over {int(labels.min())} to {int(labels.max())}")  # fmt: skip
