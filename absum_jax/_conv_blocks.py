"""A circular convolution as one small matrix for each frequency, and the way back to a kernel.

The Fourier transform turns a circular convolution of stride 1 into a product with the matrix K^(omega) [in, out]
at each frequency omega. With stride s the output has N / s frequencies an axis: all omega that differ by multiples
of N / s, its aliases, are added up, and their matrices stand above each other in one block [s^d in, out]. Groups
have a block each. The singular values of the convolution are those of its blocks, as the transform is unitary.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from absum_jax._argument_checks import require_positive_int, require_sizes
from absum_jax._types import ArrayOrNumpy, SpatialAxes, SpatialSize
from absum_jax.kernels import spatial_axes_of

_AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_HIGHEST = jax.lax.Precision.HIGHEST


class Conv(NamedTuple):
    """What the blocks of a convolution depend on besides its kernel; hashable, hence static under jit."""

    order: tuple[int, ...]  # the kernel's axes in the order [spatial..., in, out]
    image_size: SpatialSize
    stride: int = 1
    groups: int = 1

    @property
    def dims(self) -> int:
        """The number of spatial axes."""
        return len(self.image_size)

    @property
    def coarse_size(self) -> SpatialSize:
        """The size of the output, and of its grid of frequencies."""
        return tuple(n // self.stride for n in self.image_size)

    def channels_last(self, kernel: ArrayOrNumpy) -> Array:
        """The kernel as [spatial..., in, out], in float32 if it is narrower."""
        kernel = jnp.asarray(kernel)
        return jnp.transpose(kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32)), self.order)

    def original_layout(self, kernel: Array, dtype: Any) -> Array:
        """What :meth:`channels_last` gave, in the caller's order of the axes and dtype."""
        return jnp.transpose(kernel, np.argsort(self.order).tolist()).astype(dtype)


def check_conv(
    kernel: ArrayOrNumpy, image_size: SpatialSize, *, stride: int, groups: int, spatial_axes: SpatialAxes
) -> Conv:
    """Check a convolution's arguments, before anything is computed.

    Raises:
        ValueError: unless the kernel is a float array of one to three spatial axes and two of channels, no larger
            than the image, the stride divides the image size, and the groups divide the output channels.
    """
    shape = jnp.shape(kernel)
    axes = spatial_axes_of(kernel, spatial_axes)
    if len(axes) not in _AXES or len(shape) != len(axes) + 2 or not math.prod(shape):
        raise ValueError(
            "kernel must have one to three spatial axes and two of channels, none of them empty, got shape "
            f"{shape} with spatial axes {axes}; jax.vmap takes a stack of kernels"
        )
    channels = tuple(axis for axis in range(len(shape)) if axis not in axes)
    if channels not in ((len(axes), len(axes) + 1), (0, 1)):
        raise ValueError(
            "spatial_axes must be the first of the kernel's axes (before in, out) or the last (after out, in), "
            f"got {axes} of shape {shape}"
        )
    order = axes + (channels if channels != (0, 1) else (1, 0))
    require_sizes("image_size", image_size, _AXES[len(axes)])
    require_positive_int("stride", stride)
    require_positive_int("groups", groups)
    conv = Conv(order, tuple(int(n) for n in image_size), int(stride), int(groups))
    taps, num_outputs = tuple(shape[axis] for axis in axes), shape[order[-1]]
    if any(tap > n for tap, n in zip(taps, conv.image_size, strict=True)):
        raise ValueError(f"kernel must be no larger than the image {conv.image_size}, got spatial size {taps}")
    if any(n % stride for n in conv.image_size):
        raise ValueError(f"stride must divide the image size {conv.image_size}, got {stride}")
    if num_outputs % groups:
        raise ValueError(f"groups must divide the {num_outputs} output channels, got {groups}")
    return conv


def conv_blocks(kernel: Array, conv: Conv) -> Array:
    """The blocks of a kernel [taps..., in, out], for half of the frequencies.

    The other half follows by conjugation, as kernels are real: the last frequency axis ends at the middle. The
    real and imaginary parts are separate, as products of real matrices are several times faster.

    Returns:
        A float array [2, coarse..., coarse // 2 + 1, groups, stride^d in, out / groups].
    """
    dims, (num_inputs, num_outputs) = conv.dims, kernel.shape[-2:]
    # A kernel has few taps: a product with so many columns costs less than the transform of a padded kernel.
    blocks = kernel[None]  # [1, taps..., in, out]: real
    for axis in reversed(range(dims)):
        # [part, taps before, taps, done..., in, out] -> [part, taps before, frequency, alias, done..., in, out]
        matrix = jnp.asarray(_fourier_matrix(conv, axis, kernel.shape[axis])[..., : len(blocks), :], kernel.dtype)
        before = "xyz"[:axis]
        blocks = jnp.einsum(f"qfapt,p{before}t...->q{before}fa...", matrix, blocks, precision=_HIGHEST)
    # [2, frequency, alias, frequency, alias, in, out] -> [2, frequencies..., aliases..., in, out]
    frequencies, aliases = range(1, 2 * dims, 2), range(2, 2 * dims + 1, 2)
    blocks = jnp.transpose(blocks, (0, *frequencies, *aliases, 2 * dims + 1, 2 * dims + 2))
    split = conv.stride**dims * num_inputs, conv.groups, num_outputs // conv.groups
    return jnp.moveaxis(blocks.reshape(*blocks.shape[: dims + 1], *split), -2, -3)


def kernel_of_blocks(blocks: Array, conv: Conv, shape: tuple[int, ...]) -> Array:
    """The inverse of :func:`conv_blocks`, cropped to a kernel of ``shape`` [taps..., in, out].

    The transform has orthogonal columns, so that its transpose inverts it. For blocks of no kernel of this shape
    it gives the nearest one.
    """
    # Each frequency between the ends of the half stands for its conjugate too.
    last = conv.coarse_size[-1]
    weights = np.where(2 * np.arange(last // 2 + 1) % last == 0, 1.0, 2.0) / math.prod(conv.coarse_size)
    weights = weights.reshape(*(1,) * conv.dims, -1, 1, 1, 1)  # along the last axis of frequencies
    transposed = jax.linear_transpose(
        lambda kernel: conv_blocks(kernel, conv), jax.ShapeDtypeStruct(shape, blocks.dtype)
    )
    (kernel,) = transposed(jnp.asarray(weights, blocks.dtype) * blocks)
    return kernel


def at_all_frequencies(half: Array, conv: Conv) -> Array:
    """Values at half of the frequencies, [coarse..., coarse // 2 + 1, ...], completed to [coarse..., ...].

    Singular values at minus a frequency are those at the frequency.
    """
    *leading, last = conv.coarse_size
    opposite = [-np.arange(n) % n for n in leading]
    mirrored = half[np.ix_(*opposite, np.arange((last - 1) // 2, 0, -1))]
    return jnp.concatenate([half, mirrored], axis=conv.dims - 1)


def _fourier_matrix(conv: Conv, axis: int, taps: int) -> np.ndarray:
    """exp(-i phase) / sqrt(stride) as [part, frequency, alias, part, tap], phase = 2 pi omega tap / N.

    A complex product is one with the matrix [[cos, sin], [-sin, cos]] of the parts; omega = frequency + alias N /
    stride. Of the last axis half of the frequencies. In double precision, from phases within one period.
    """
    size, coarse = conv.image_size[axis], conv.coarse_size[axis]
    kept = coarse // 2 + 1 if axis == conv.dims - 1 else coarse
    omega = np.arange(kept)[:, None] + coarse * np.arange(conv.stride)
    phase = 2 * np.pi / size * (omega[..., None] * np.arange(taps) % size)  # [frequency, alias, tap]
    cosine, sine = np.cos(phase), np.sin(phase)
    parts = np.array([[cosine, sine], [-sine, cosine]])  # [part, part, frequency, alias, tap]
    return np.moveaxis(parts, 1, 3) / math.sqrt(conv.stride)
