"""What every attack is given: a classifier, images and labels, checked before any work is done."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from absum_jax.checks import concrete

PredictFn = Callable[[Any, Array], Array]


def check_inputs(
    predict_fn: PredictFn, params: Any, images: Array, labels: Array, bounds: tuple[float, float]
) -> None:
    """Check shapes and types, and the values that are not traced.

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
