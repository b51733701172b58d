"""Power iteration with a circular convolution and its transpose, in the space of images."""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from absum_jax._conv_blocks import Conv


def power_iteration(kernel: Array, vector: Array, conv: Conv, num_iterations: int) -> tuple[Array, Array]:
    """A lower bound of the operator norm, and the image at which it was found.

    Args:
        kernel: [taps..., in, out].
        vector: [image..., in groups], the image to start from; its largest entry is of size 1.
        conv: the convolution.
        num_iterations: each is a convolution and a transposed one.

    Returns:
        The bound, whose gradient holds the images fixed, and an image of unit norm.
    """
    fixed, vector = jax.lax.stop_gradient((kernel, vector / _safe(jnp.linalg.norm(vector))))
    # Unrolled, as convolutions inside a loop take more than twice the time on a CPU.
    for _ in range(num_iterations):
        norm, vector, direction = _power_step(fixed, vector, conv)
    return _with_gradient(norm, kernel, vector, direction, conv), vector


def _power_step(kernel: Array, vector: Array, conv: Conv) -> tuple[Array, Array, Array]:
    """|A^T u| of u = A v / |A v|, which is no less than |A v|; the next image A^T u / |A^T u|; and u."""
    output, transposed = jax.vjp(lambda image: _circular_conv(image, kernel, conv), vector)
    direction = output / _safe(jnp.linalg.norm(output))
    (image,) = transposed(direction)
    norm = jnp.linalg.norm(image)
    # A kernel of zeros or not-a-numbers leaves the image as it was, so that a later one finds one to start from.
    return norm, jnp.where(norm > 0, image / _safe(norm), vector), direction


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _with_gradient(norm: Array, kernel: Array, vector: Array, direction: Array, conv: Conv) -> Array:
    """The norm u^T A v with the derivative u^T dA v.

    That of A^T u with respect to the kernel is the same, and takes many times as long on a CPU.
    """
    del kernel, vector, direction, conv
    return norm


@_with_gradient.defjvp
def _with_gradient_jvp(conv: Conv, primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    norm, _, vector, direction = primals
    return norm, jnp.sum(direction * _circular_conv(vector, tangents[1], conv))


def _circular_conv(image: Array, kernel: Array, conv: Conv) -> Array:
    """y[n, o] = sum_p,i K[p, i, o] x[stride n + p mod N, i] for an image [image..., in groups]."""
    letters = "DHW"[-conv.dims :]
    # Only behind the image: that the window starts at the pixel itself shifts the result, and no norm.
    behind = [(0, taps - 1) for taps in kernel.shape[:-2]]
    output = jax.lax.conv_general_dilated(
        jnp.pad(image, [*behind, (0, 0)], mode="wrap")[None],
        kernel,
        window_strides=(conv.stride,) * conv.dims,
        padding="VALID",
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        feature_group_count=conv.groups,
        precision=jax.lax.Precision.HIGHEST,
    )
    return output[0]


def _safe(norm: Array) -> Array:
    return jnp.where(norm == 0, 1.0, norm)
