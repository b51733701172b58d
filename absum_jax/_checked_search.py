"""Checks of the arguments of a search for the worst attack, and the search made of them."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from absum_jax._argument_checks import (
    as_array,
    concrete,
    require_bounds,
    require_finite,
    require_key,
    require_positive_int,
)
from absum_jax._attack_plan import images_per_batch
from absum_jax._classifier_checks import check_classifier
from absum_jax._elimination import Rule
from absum_jax._outcome_blocks import Problem, Program
from absum_jax._types import ArrayOrNumpy, Bounds, ImageShape, PredictFn, PyTree
from absum_jax._worst_search import WorstPerturbation, WorstSearch

R = TypeVar("R")
W = TypeVar("W", bound=WorstPerturbation)


def check_images(
    predict_fn: PredictFn,
    params: PyTree,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    bounds: Bounds,
    batch_size: int,
) -> tuple[ArrayOrNumpy, ArrayOrNumpy, ImageShape]:
    """The images and labels as arrays, checked together with what classifies them, and the shape of an image."""
    require_bounds(bounds)
    require_positive_int("batch_size", batch_size)
    images, labels = as_array("images", images), as_array("labels", labels)
    check_classifier(predict_fn, params, images, labels, bounds=bounds, batch_size=batch_size)
    _, height, width, channels = images.shape
    return images, labels, (height, width, channels)


def check_phase(phase: ArrayLike) -> ArrayOrNumpy:
    """Float array []."""
    found = as_array("phase", phase)
    if found.shape != ():
        raise ValueError(f"phase must be one number, got shape {found.shape}")
    require_finite("phase", found)
    return found


def check_perturbations(
    perturbations: ArrayLike | Callable[[Array], Array], num_perturbations: int | None, image_shape: ImageShape
) -> tuple[jax.tree_util.Partial, int]:
    """A function of a number, as a pytree, and how many numbers there are."""
    if not callable(perturbations):
        return _check_perturbation_array(perturbations, num_perturbations, image_shape)
    if num_perturbations is None:
        raise ValueError("num_perturbations must be given where perturbations are a function, got None")
    require_positive_int("num_perturbations", num_perturbations)
    is_partial = isinstance(perturbations, jax.tree_util.Partial)
    make: jax.tree_util.Partial = perturbations if is_partial else jax.tree_util.Partial(perturbations)  # type: ignore[assignment]
    try:
        # As an operand, as it will be: the numbers in it are traced.
        made = jax.eval_shape(lambda make, number: make(number), make, jax.ShapeDtypeStruct((), jnp.int32))
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"perturbations must take a number under jit, got {type(error).__name__}: {reason}"
        ) from error
    if getattr(made, "shape", None) != image_shape:
        found = jax.tree.map(lambda x: x.shape, made)
        raise ValueError(f"perturbations must make arrays of the images' shape {image_shape}, got {found}")
    return make, num_perturbations


def _check_perturbation_array(
    perturbations: ArrayLike, num_perturbations: int | None, image_shape: ImageShape
) -> tuple[jax.tree_util.Partial, int]:
    found = as_array("perturbations", perturbations)
    if num_perturbations is not None:
        raise ValueError(f"num_perturbations must be None where they are an array, got {num_perturbations}")
    if found.shape[1:] != image_shape or not len(found):
        raise ValueError(
            f"perturbations must have shape [A, {', '.join(map(str, image_shape))}] with A > 0, got {found.shape}"
        )
    known = concrete(found)
    if known is not None and not np.all(np.isfinite(known)):
        raise ValueError(f"perturbations must be finite, got {np.sum(~np.isfinite(known))} pixels that are not")
    return jax.tree_util.Partial(_row, found), len(found)


def _row(perturbations: Array, number: Array) -> Array:
    return perturbations[number]


def make_search(
    predict_fn: PredictFn,
    problem: Problem,
    sizes: tuple[int, int],
    to_result: Callable[[WorstPerturbation], R],
    *,
    tolerance: float,
    confidence: float | None,
    key: Array | None,
    bounds: Bounds,
    batch_size: int,
    attacks_per_step: int | None,
) -> WorstSearch[R]:
    """Check the rest, and only then copy to the device.

    Args:
        predict_fn, problem: what is attacked, and how; checked before.
        sizes: number of searches, and of the attacks of each.
        to_result: what is made of what was found.
        tolerance, confidence, key, bounds, batch_size, attacks_per_step: as in :func:`find_worst_frequency`.
    """
    rule = _checked_rule(tolerance, confidence, key, len(problem.images))
    if attacks_per_step is None:
        attacks_per_step = 1 if jax.default_backend() == "cpu" else 32
    require_positive_int("attacks_per_step", attacks_per_step)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((problem, key))):
        raise ValueError("arguments must be known, got traced ones: a search asks for results as it goes")
    total = len(problem.images)
    order = np.arange(total) if key is None else np.asarray(jax.random.permutation(key, total))
    return WorstSearch(
        jax.device_put(problem),
        Program(
            predict_fn,
            bounds=(float(bounds[0]), float(bounds[1])),
            batch_size=images_per_batch(total, batch_size),
            attacks_per_step=attacks_per_step,
        ),
        order.astype(np.int32),
        *sizes,
        rule=rule,
        to_result=to_result,
    )


def _checked_rule(tolerance: float, confidence: float | None, key: Array | None, total: int) -> Rule:
    if not _is_number(tolerance) or not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be a number of at least 0, below 1, got {tolerance!r}")
    if confidence is not None and (not _is_number(confidence) or not 0 < confidence < 1):
        raise ValueError(f"confidence must be None or lie between 0 and 1, got {confidence!r}")
    if confidence is not None and key is None:
        raise ValueError("key must be a PRNG key where a confidence is given, got None")
    if key is not None:
        require_key("key", key)
    # In float arithmetic 0.07 * 100 is more than 7, and 0.29 * 100 less than 29.
    return Rule(math.floor(tolerance * total + 1e-9), None if confidence is None else float(confidence))


def _is_number(value: Any) -> bool:
    known = concrete(value)
    return known is not None and known.shape == () and known.dtype.kind in "iuf"


def without_axis(found: W) -> W:
    """A result without its leading axis, of one search."""
    fields = {name: value if name == "total" else value[0, ...] for name, value in vars(found).items()}
    return type(found)(**fields)
