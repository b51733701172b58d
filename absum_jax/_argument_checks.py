"""Checks of arguments before any work is done; values that are being traced pass unchecked."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from absum_jax._attack_plan import images_per_batch
from absum_jax._types import AttackLoss, Bounds, PredictFn, PyTree


def concrete(value: Any) -> np.ndarray | None:
    """The value as a NumPy array, or ``None`` while it is being traced (jit, vmap, grad)."""
    try:
        return np.asarray(value)
    except jax.errors.TracerArrayConversionError:
        return None


def as_array(name: str, value: Any) -> Array | np.ndarray:
    """JAX arrays as they are, anything else as a NumPy array of the type that JAX would give it.

    Nothing is copied to a device or compiled for it, so that it can be checked first.

    Raises:
        ValueError: if it is not made of numbers, or ragged.
    """
    found = _numbers(name, value)
    if isinstance(found, jax.Array):
        return found
    return found.astype(jax.dtypes.canonicalize_dtype(found.dtype), copy=False)


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


def require_devices(devices: Any) -> None:
    """Raise ``ValueError`` unless ``devices`` is a list of different devices, at least one."""
    if not isinstance(devices, Sequence) or any(not isinstance(device, jax.Device) for device in devices):
        raise ValueError(f"devices must be a list of jax.Device, such as jax.devices(), got {devices!r}")
    if not devices or len(set(devices)) != len(devices):
        raise ValueError(f"devices must be different and at least one, got {list(devices)}")


def check_model(
    predict_fn: PredictFn, params: PyTree, images: Array | np.ndarray, *, bounds: Bounds, batch_size: int
) -> int:
    """Check a classifier and the images that it is to be given; nothing is compiled for it.

    Args:
        predict_fn, params, images, bounds, batch_size: as in :func:`fourier_sweep`.

    Returns:
        The number of classes.

    Raises:
        ValueError: unless images are floats [N, H, W, C] within the bounds, and ``predict_fn`` can be traced with
            them and returns logits [N, classes].
    """
    check_image_layout(images, bounds)
    batch_shape = (images_per_batch(len(images), batch_size), *images.shape[1:])
    num_classes = count_classes(predict_fn, params, batch_shape, images.dtype)
    if _is_within(images, *bounds) is False:
        raise ValueError(f"images must lie within {bounds} and hold no NaN, got pixels from "
                         f"{float(images.min())} to {float(images.max())}")  # fmt: skip
    return num_classes


def check_classifier(
    predict_fn: PredictFn,
    params: PyTree,
    images: Array | np.ndarray,
    labels: Array | np.ndarray,
    *,
    bounds: Bounds,
    batch_size: int,
) -> int:
    """Check what every attack is given: a classifier, images and labels.

    Args:
        predict_fn, params, images, labels, bounds, batch_size: as in :func:`fourier_sweep`.

    Returns:
        The number of classes.

    Raises:
        ValueError: as :func:`check_model`, and unless labels are integers [N] below the number of classes.
    """
    num_classes = check_model(predict_fn, params, images, bounds=bounds, batch_size=batch_size)
    require_classes("labels", labels, len(images), num_classes)
    return num_classes


def require_classes(name: str, values: Array | np.ndarray, num_images: int, num_classes: int) -> None:
    """Raise ``ValueError`` unless ``values`` are integers [num_images] from 0 to below the number of classes."""
    if values.shape != (num_images,) or not jnp.issubdtype(values.dtype, jnp.integer):
        raise ValueError(
            f"{name} must be {num_images} integers, one per image, got {values.shape} of {values.dtype}"
        )
    if _is_within(values, 0, num_classes - 1) is False:
        raise ValueError(f"{name} must lie in 0 to {num_classes - 1}, the classes of predict_fn, got "
                         f"{int(values.min())} to {int(values.max())}")  # fmt: skip


def _is_within(values: Array | np.ndarray, low: float | int, high: float | int) -> bool | None:
    """Whether all values lie from low to high (a not-a-number does not); ``None`` while they are being traced."""
    # What lies on a device is looked at there, by one program: op by op it would be four.
    known = concrete((_are_within_on_device if isinstance(values, jax.Array) else _are_within)(values, low, high))
    return None if known is None else bool(known)


def _are_within(values: Any, low: ArrayLike, high: ArrayLike) -> Any:
    if jnp.issubdtype(values.dtype, jnp.integer):
        values = values.astype(np.int32)  # bytes could not be compared with 1,000 classes
    return ((values >= low) & (values <= high)).all()


_are_within_on_device = jax.jit(_are_within)


def check_loss(loss_fn: AttackLoss, num_images: int, num_classes: int) -> None:
    """Raise ``ValueError`` unless ``loss_fn`` can be traced with logits and labels and gives N losses."""
    if not callable(loss_fn):
        raise ValueError(f"loss_fn must be a function (logits, labels) -> loss [N], got {loss_fn!r}")
    try:
        hash(loss_fn)
    except TypeError:
        raise ValueError(f"loss_fn must be hashable, as functions are, got {type(loss_fn).__name__}") from None
    logits = jax.ShapeDtypeStruct((num_images, num_classes), jnp.float32)
    labels = jax.ShapeDtypeStruct((num_images,), jnp.int32)
    try:
        loss = jax.jit(loss_fn).eval_shape(logits, labels)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"loss_fn must take logits {logits.shape} and labels {labels.shape} under jit, "
            f"got {type(error).__name__}: {reason}"
        ) from error
    is_array = isinstance(loss, jax.ShapeDtypeStruct)
    if not is_array or loss.shape != labels.shape or not jnp.issubdtype(loss.dtype, jnp.floating):
        found = f"{loss.shape} of {loss.dtype}" if is_array else type(loss).__name__
        raise ValueError(f"loss_fn must give {num_images} real losses, one per image, got {found}")


def check_image_layout(images: Array | np.ndarray, bounds: Bounds) -> None:
    """Raise ``ValueError`` unless images are floats [N, height, width, channels]."""
    layout = "[N, height, width, channels]"
    if images.ndim != 4 or not images.size:
        raise ValueError(f"images must be a non-empty array {layout}, got shape {images.shape}")
    _, height, width, channels = images.shape
    # A square image with as many channels as columns, and one or three rows: nobody's channels-last image.
    if height in (1, 3) and width == channels > 4:
        raise ValueError(f"images must be {layout}, got shape {images.shape}: [N, channels, height, width]?")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images must be floats in {bounds}, got dtype {images.dtype}; divide by 255 first")


def count_classes(predict_fn: PredictFn, params: PyTree, shape: tuple[int, ...], dtype: Any) -> int:
    """The number of classes of ``predict_fn``, which is traced but not compiled."""
    try:
        hash(predict_fn)
    except TypeError:
        kind = type(predict_fn).__name__
        raise ValueError(f"predict_fn must be hashable, as functions are, got {kind}") from None
    if not callable(predict_fn):
        raise ValueError(f"predict_fn must be a function (params, images) -> logits, got {predict_fn!r}")
    try:
        # jit remembers the shape; jax.eval_shape would trace each time.
        logits = jax.jit(predict_fn).eval_shape(params, jax.ShapeDtypeStruct(shape, dtype))
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"predict_fn must take images [N, height, width, channels] under jit, got {type(error).__name__} "
            f"for a batch of shape {shape}: {reason}"
        ) from error
    is_array = isinstance(logits, jax.ShapeDtypeStruct)
    if not is_array or logits.ndim != 2 or len(logits) != shape[0] or logits.shape[1] < 2:
        found = logits.shape if is_array else jax.tree.map(lambda x: x.shape, logits)
        raise ValueError(f"predict_fn must return logits [{shape[0]}, classes] of 2 or more classes, got {found}")
    if not any(jnp.issubdtype(logits.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        raise ValueError(f"predict_fn must return real logits, got dtype {logits.dtype}")
    return int(logits.shape[1])
