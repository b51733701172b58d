"""What is measured of a classifier before it is attacked, and what to do about it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from absum_jax._types import Bounds, PredictFn, PyTree
from absum_jax.attack_losses import margin_loss


@dataclass(frozen=True)
class PredictionFinding:
    """One thing that is wrong with a classifier, or with how it is called.

    Args:
        category: which, one of those that :func:`check_predictions` lists.
        value: how much of it was found.
        advice: what to do.
    """

    category: str
    value: float
    advice: str


class Case(NamedTuple):
    """A classifier as a function of its parameters and images, and what it is tried with."""

    predict_fn: PredictFn
    params: PyTree
    images: Array
    labels: Array
    bounds: Bounds

    def predict(self, images: Array) -> Array:
        """Logits [N, classes], always by the same compiled program."""
        return jax.jit(self.predict_fn)(self.params, images)


def _share_outside(case: Case) -> Array:
    low, high = case.bounds
    return jnp.mean(~((case.images >= low) & (case.images <= high)))  # not-a-number is outside


def _change_at_zero(case: Case) -> Array:
    clipped = jnp.clip(case.images, *case.bounds)
    right, right_clipped = (
        jnp.argmax(case.predict(images), axis=-1) == case.labels for images in (case.images, clipped)
    )
    return jnp.mean(right_clipped.astype(float)) - jnp.mean(right.astype(float))


def _share_not_finite(case: Case) -> Array:
    return jnp.mean(~jnp.all(jnp.isfinite(case.predict(case.images)), axis=-1))


def _are_probabilities(case: Case) -> Array:
    outputs = case.predict(case.images)
    rounding = _rounding(outputs)
    in_range = (outputs >= -rounding) & (outputs <= 1 + rounding)
    return jnp.all(in_range) & jnp.all(jnp.abs(jnp.sum(outputs, axis=-1) - 1) <= rounding)


def _change_when_repeated(case: Case) -> float:
    first, again = case.predict(case.images), case.predict(case.images)

    # A key or NumPy's generator that Python draws from is a constant of a program, until it is traced anew.
    def traced_anew(images: Array) -> Array:
        return case.predict_fn(case.params, images)

    anew = jax.jit(traced_anew)(case.images)
    return max(_change(first, again), _change(first, anew))


def _change_when_permuted(case: Case) -> float:
    return _change(case.predict(case.images), case.predict(case.images[::-1])[::-1])


def _change_with_others(case: Case) -> float:
    half, (low, high) = len(case.images) // 2, case.bounds
    others = case.images.at[half:].set(low + high - case.images[half:])
    return _change(case.predict(case.images)[:half], case.predict(others)[:half])


def _share_without_gradient(case: Case) -> Array:
    def total_margin(images: Array) -> Array:
        logits = case.predict_fn(case.params, images)
        return jnp.sum(margin_loss(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), case.labels))

    gradients = jax.jit(jax.grad(total_margin))(case.images)  # [N, H, W, C]
    pixels = (1, 2, 3)
    usable = jnp.any(gradients != 0, axis=pixels) & jnp.all(jnp.isfinite(gradients), axis=pixels)
    return jnp.mean(~usable)


def _change(logits: Array, others: Array) -> float:
    """Largest difference over the largest magnitude; 0 if it may be rounding, 1 if infinities or NaNs differ."""
    first, second = np.asarray(logits, float), np.asarray(others, float)
    are_finite = np.isfinite(first) & np.isfinite(second)
    if not np.array_equal(first[~are_finite], second[~are_finite], equal_nan=True):
        return 1.0
    first, second = first[are_finite], second[are_finite]
    largest = np.max(np.abs(first), initial=np.finfo(float).tiny)
    change = np.max(np.abs(first - second), initial=0) / largest
    return change if change > _rounding(logits) else 0.0


def _rounding(logits: Array) -> float:
    """Of sums taken in another order, or by hardware of lower precision, relative to the largest."""
    is_float = jnp.issubdtype(logits.dtype, jnp.floating)
    return max(1e-3, 8 * float(jnp.finfo(logits.dtype).eps)) if is_float else 0.0


class _Check(NamedTuple):
    """What is measured, and what to do if it is not 0."""

    measure: Callable[[Case], Array | float]
    advice: str


CHECKS = {
    "out_of_bounds": _Check(
        _share_outside,
        "attacks clip to the bounds: give images on their scale (divide by 255, or say bounds=(0, 255)), "
        "and normalise inside predict_fn",
    ),
    "epsilon_zero": _Check(
        _change_at_zero,
        "an attack of size 0 must not change the accuracy: give images within the bounds, and normalise inside "
        "predict_fn",
    ),
    "not_finite": _Check(
        _share_not_finite,
        "look for overflow (of half precision), divisions by 0 and masked classes: where a logit is not finite, "
        "losses and gradients may be none, and not-a-number is no prediction",
    ),
    "probabilities": _Check(
        _are_probabilities, "return logits: gradients vanish where probabilities are rounded to 0 and 1"
    ),
    "not_deterministic": _Check(
        _change_when_repeated, "switch noise off, or attack the mean over it (expectation over transformation)"
    ),
    "row_order": _Check(
        _change_when_permuted,
        "switch dropout and other noise off (evaluation mode), or draw the same for every image",
    ),
    "other_images": _Check(
        _change_with_others,
        "use the running averages of batch normalisation (evaluation mode), not batch statistics",
    ),
    "zero_gradients": _Check(
        _share_without_gradient,
        "gradient attacks cannot move these images: attack past the rounding or saturation (straight-through "
        "gradients), or without gradients, as fourier_sweep does",
    ),
}
