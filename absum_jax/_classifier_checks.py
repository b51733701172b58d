"""Checks of a classifier, its images and labels and the loss of an attack, before any work is done."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from absum_jax._argument_checks import concrete
from absum_jax._attack_plan import images_per_batch
from absum_jax._types import AttackLoss, Bounds, PredictFn, PyTree


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
    logits = jax.ShapeDtypeStruct((num_images, num_classes), jnp.float32)
    labels = jax.ShapeDtypeStruct((num_images,), jnp.int32)
    takes = f"logits {logits.shape} and labels {labels.shape}"
    loss = _traced("loss_fn", loss_fn, "(logits, labels) -> loss [N]", takes, logits, labels)
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
    takes = f"images [N, height, width, channels], such as {shape},"
    images = jax.ShapeDtypeStruct(shape, dtype)
    logits = _traced("predict_fn", predict_fn, "(params, images) -> logits", takes, params, images)
    is_array = isinstance(logits, jax.ShapeDtypeStruct)
    if not is_array or logits.ndim != 2 or len(logits) != shape[0] or logits.shape[1] < 2:
        found = logits.shape if is_array else jax.tree.map(lambda x: x.shape, logits)
        raise ValueError(f"predict_fn must return logits [{shape[0]}, classes] of 2 or more classes, got {found}")
    if not any(jnp.issubdtype(logits.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        raise ValueError(f"predict_fn must return real logits, got dtype {logits.dtype}")
    return int(logits.shape[1])


def _traced(name: str, function: Callable[..., Any], form: str, takes: str, *arguments: Any) -> Any:
    """The shapes of what a function returns, which is traced but not compiled.

    Args:
        name: of the argument that it is.
        function, arguments: what is called with what.
        form, takes: how it should look and what it is given, in words.
    """
    if not callable(function):
        raise ValueError(f"{name} must be a function {form}, got {function!r}")
    try:
        hash(function)
    except TypeError:
        raise ValueError(f"{name} must be hashable, as functions are, got {type(function).__name__}") from None
    try:
        # jit remembers the shapes; jax.eval_shape would trace each time.
        return jax.jit(function).eval_shape(*arguments)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"{name} must take {takes} under jit, got {type(error).__name__}: {reason}") from error
