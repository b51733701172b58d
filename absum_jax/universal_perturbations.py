"""What is predicted under universal perturbations: which images an attack fools, not only how many."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Int

from absum_jax._argument_checks import as_array, require_bounds, require_finite, require_positive_int
from absum_jax._attack_loop import padded_batches, predicted_classes
from absum_jax._attack_plan import images_per_batch
from absum_jax._classifier_checks import check_model
from absum_jax._types import Bounds, PredictFn, PyTree


def attack_predictions(
    predict_fn: PredictFn,
    params: PyTree,
    images: ArrayLike,
    perturbations: ArrayLike,
    *,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
) -> Int[Array, "A N"]:
    r"""Predicted class of every image under each of several universal perturbations.

    .. math:: \operatorname{argmax} f(\operatorname{clip}(x + v_a,\ \text{bounds}))

    A sweep counts; this tells which images, as :func:`fooling_rate`, :func:`worst_case`, :func:`mcnemar_test` and
    transfer from one network to another need it. A perturbation of zeros gives the clean predictions.

    Args:
        predict_fn: ``(params, images) -> logits [N, classes]``, in evaluation mode, with its normalisation inside.
        params: whatever ``predict_fn`` takes; traced, as images and perturbations are.
        images: float array [N, H, W, C] within ``bounds``.
        perturbations: float array [A, H, W, C], for example the :func:`fourier_perturbation` of the worst
            frequencies of a sweep, or :func:`random_perturbation`.
        bounds: smallest and largest pixel value; attacked images are clipped to them.
        batch_size: the largest number of images in one forward pass. Predictions do not depend on it.

    Returns:
        int32 array [A, N]; -1, which is no class, where a logit is not a number.

    Raises:
        ValueError: before anything is compiled, if images are not floats [N, H, W, C] within the bounds,
            perturbations are not finite numbers [A, H, W, C], ``predict_fn`` cannot be traced with the images or
            returns anything but logits, or an option is unknown.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def predict_fn(params, images):
        ...     score = (images - 0.5).sum(axis=(1, 2, 3))
        ...     return jnp.stack([-score, score], axis=-1)
        >>> images = jnp.linspace(0.3, 0.7, 4).reshape(4, 1, 1, 1)
        >>> attack_predictions(predict_fn, None, images, jnp.array([0.0, 0.1, -0.3]).reshape(3, 1, 1, 1)).tolist()
        [[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]]
    """
    require_bounds(bounds)
    require_positive_int("batch_size", batch_size)
    images, perturbations = as_array("images", images), as_array("perturbations", perturbations)
    check_model(predict_fn, params, images, bounds=bounds, batch_size=batch_size)
    if perturbations.ndim != 4 or not len(perturbations) or perturbations.shape[1:] != images.shape[1:]:
        expected = f"[A, {', '.join(map(str, images.shape[1:]))}]"
        raise ValueError(f"perturbations must have shape {expected} with A > 0, got {perturbations.shape}")
    require_finite("perturbations", perturbations)
    low, high = map(float, bounds)
    return _predictions(
        params, images, perturbations,
        predict_fn=predict_fn, bounds=(low, high), batch_size=images_per_batch(len(images), batch_size),
    )  # fmt: skip


@functools.partial(jax.jit, static_argnames=("predict_fn", "bounds", "batch_size"))
def _predictions(
    params: PyTree,
    images: Array,
    perturbations: Array,
    *,
    predict_fn: PredictFn,
    bounds: Bounds,
    batch_size: int,
) -> Int[Array, "A N"]:
    @jax.named_scope("universal_attack")
    def classes(images: Array, perturbation: Array) -> Array:  # [n, H, W, C], [H, W, C] -> [n]
        return predicted_classes(predict_fn, params, images, perturbation[None], bounds=bounds)

    def classes_of_batch(images: Array) -> Array:  # -> [A, n]
        return jax.lax.map(lambda perturbation: classes(images, perturbation), perturbations)

    found = jax.lax.map(classes_of_batch, padded_batches(images, batch_size=batch_size))  # [B, A, n]
    return jnp.moveaxis(found, 0, 1).reshape(len(perturbations), -1)[:, : len(images)]
