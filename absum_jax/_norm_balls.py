"""The ball of a norm around every image, cut by the bounds of the pixels: points in it, steps, and the way back.

Arrays are [N, H, W, C]; epsilon, the radius, is one number for all images.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from absum_jax._types import Bounds, Key

_PIXELS = (1, 2, 3)

# Passes in which an L2 projection finds the pixels that the bounds cut off; one finds none.
_NUM_PASSES = 3


def random_offset(key: Key, image_shape: tuple[int, ...], epsilon: Array, norm: str) -> Float[Array, "H W C"]:
    """A point of the ball around the origin, all of them equally likely."""
    if norm == "linf":
        return jax.random.uniform(key, image_shape, epsilon.dtype, -1, 1) * epsilon
    for_direction, for_radius = jax.random.split(key)
    direction = jax.random.normal(for_direction, image_shape, epsilon.dtype)
    # The share of a ball of dimension d within radius r of 1 is r^d.
    radius = jax.random.uniform(for_radius, (), epsilon.dtype) ** (1 / math.prod(image_shape))
    return direction / jnp.linalg.norm(direction.reshape(-1)) * radius * epsilon


def steepest_ascent(
    gradients: Array, attacked: Array, images: Array, norm: str, bounds: Bounds
) -> Float[Array, "N H W C"]:
    """The direction of length 1 in the norm that raises a loss fastest; 0 where there is no gradient.

    In L2 without the pixels of ``images`` that lie on a bound, are still there and would be moved out: their
    share of the length would be lost.
    """
    # A not-a-number pixel would stay one for ever, and an infinite one would leave the others no share.
    gradients = jnp.where(jnp.isfinite(gradients), gradients, 0)
    if norm == "linf":
        return jnp.sign(gradients)  # clipping has the same effect: no pixel's step depends on another's
    low, high = bounds
    leads_out = ((images <= low) & (gradients < 0)) | ((images >= high) & (gradients > 0))
    gradients = jnp.where(leads_out & (attacked == images), 0, gradients)
    scaled, _ = _over_largest(gradients)
    return scaled / jnp.maximum(_l2_norm(scaled), 1)  # a norm of 1 or more, or 0


def project(attacked: Array, images: Array, epsilon: Array, norm: str, bounds: Bounds) -> Float[Array, "N H W C"]:
    """Move back into the ball around ``images`` and within the bounds.

    In L2 the nearest point of both is ``clip(images + factor * offset)`` with the factor of 0 to 1 at which it has
    the norm epsilon. Each pass gives the pixels that are not cut off what the others leave of epsilon. Thereby the
    factor grows, to the right one as soon as no further pixel is cut off; if the passes end before, the point is
    one of both, but not quite the nearest.
    """
    low, high = bounds
    if norm == "linf":
        return jnp.clip(attacked, jnp.maximum(images - epsilon, low), jnp.minimum(images + epsilon, high))
    offset = attacked - images
    scaled, largest = _over_largest(offset)
    radius = _safe_radius(epsilon, images.shape[1:], bounds)
    factor = jnp.zeros_like(images, shape=(len(images), 1, 1, 1))
    for _ in range(_NUM_PASSES):
        moved = images + factor * offset
        is_cut = (moved < low) | (moved > high)
        of_cut = _l2_norm(jnp.where(is_cut, jnp.clip(moved, low, high) - images, 0))
        left = jnp.sqrt(jnp.maximum(radius**2 - of_cut**2, 0))
        of_others = jnp.maximum(largest * _l2_norm(jnp.where(is_cut, 0, scaled)), jnp.finfo(offset.dtype).tiny)
        factor = jnp.maximum(factor, jnp.minimum(left / of_others, 1))
    return jnp.clip(images + factor * offset, low, high)


def _over_largest(x: Array) -> tuple[Float[Array, "N H W C"], Float[Array, "N 1 1 1"]]:
    """Entries over the largest magnitude, and that, or 1 if all are 0.

    In float32 squares below 1e-38, as of the gradients of confident networks, would be 0, and above 1e38 infinite.
    """
    largest = jnp.max(jnp.abs(x), axis=_PIXELS, keepdims=True)
    largest = jnp.where(largest > 0, largest, 1)
    return x / largest, largest


def _l2_norm(x: Array) -> Float[Array, "N 1 1 1"]:
    return jnp.sqrt(jnp.sum(x * x, axis=_PIXELS, keepdims=True))


def _safe_radius(epsilon: Array, image_shape: tuple[int, ...], bounds: Bounds) -> Float[Array, ""]:
    """Epsilon less what rounding may add to the L2 norm: units in its last place, half a unit of each pixel.

    At most twice the distance from corner to corner of the bounds, so that its square is finite.
    """
    unit = float(jnp.finfo(epsilon.dtype).eps)
    diagonal = math.sqrt(math.prod(image_shape))  # of the unit cube
    of_pixels = diagonal * unit / 2 * max(map(abs, bounds))
    corner_to_corner = diagonal * (bounds[1] - bounds[0])
    return jnp.clip(epsilon * (1 - 8 * unit) - of_pixels, 0, 2 * corner_to_corner)
