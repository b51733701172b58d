"""Absum: the absolute value of the sum of each convolution filter."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from absum_jax._types import ArrayOrNumpy, Mask, PyTree, SpatialAxes
from absum_jax.kernels import conv_kernel_mask, require_default_layout, resolve_mask, spatial_axes_of


@jax.named_scope("absum")
def absum(kernel: ArrayOrNumpy, *, spatial_axes: SpatialAxes = None) -> Float[Array, ""]:
    r"""Absum of one convolution kernel.

    .. math:: \sum_{i,o} \Big| \sum_{p,q} K_{p,q,i,o} \Big|

    one absolute value for every pair of input and output channel. It is the entrywise L1 norm of the layer's
    response to a constant image (the zero-frequency block of its Fourier transform). Where a sum is exactly 0
    the gradient is 0.

    Args:
        kernel: float array [spatial..., in, out], as in Flax. For grouped convolutions ``in`` is per group.
        spatial_axes: the axes to sum over; ``None`` takes all but the last two. ``(-2, -1)`` is OIHW.

    Returns:
        A scalar, in float32 for float16 and bfloat16 kernels, else in the kernel's dtype.

    Raises:
        ValueError: if the kernel is not a float array or the axes do not fit it.

    Example:
        >>> import jax.numpy as jnp
        >>> laplacian = jnp.array([[0., 1., 0.], [1., -4., 1.], [0., 1., 0.]])[:, :, None, None]
        >>> float(absum(laplacian)), float(absum(abs(laplacian)))
        (0.0, 8.0)

    References:
        Kanai et al., Absum: Simple Regularization Method for Reducing Structural Sensitivity of Convolutional
        Neural Networks, AAAI 2020, https://arxiv.org/abs/1909.08830
    """
    axes = spatial_axes_of(kernel, spatial_axes)
    kernel = jnp.asarray(kernel)
    # [h, w, in, out] -> [in, out]
    sums = jnp.sum(kernel, axis=axes, dtype=jnp.promote_types(kernel.dtype, jnp.float32))
    # |s| as s sign(s): the gradient of jnp.abs is not 0 at 0.
    total = sums * jax.lax.stop_gradient(jnp.sign(sums))
    # One axis at a time: a short sum of short sums rounds less than one long sum.
    while total.ndim:
        total = jnp.sum(total, axis=-1)
    return total


@jax.named_scope("absum_penalty")
def absum_penalty(
    params: PyTree, *, mask: Mask = conv_kernel_mask, spatial_axes: SpatialAxes = None
) -> Float[Array, ""]:
    """Sum of :func:`absum` over the convolution kernels of a parameter tree, without a weight.

    To minimise it by gradient descent, add ``strength * absum_penalty(params)`` to the loss; the gradient then
    oscillates about a zero sum without reaching it. :func:`prox_absum` reaches it.

    Args:
        params: linen dict, ``nnx.State``, Haiku or Equinox tree.
        mask: tree of bools, or a callable from ``params`` to one; by default :func:`conv_kernel_mask`.
        spatial_axes: as in :func:`absum`, for all kernels; ``(-2, -1)`` for Equinox.

    Returns:
        A scalar.

    Raises:
        ValueError: if the mask is empty or does not fit, a kernel may be a stack of layers, or a kernel is
            named as Equinox names it and ``spatial_axes`` is not given.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Conv_0": {"kernel": jnp.ones((3, 3, 1, 2))}, "Dense_0": {"kernel": jnp.ones((4, 4))}}
        >>> float(absum_penalty(params))
        18.0

    References:
        Kanai et al., AAAI 2020, https://arxiv.org/abs/1909.08830
    """
    flags = resolve_mask(params, mask)
    if spatial_axes is None:
        require_default_layout(params, flags)
    kernels = [leaf for leaf, flag in zip(jax.tree.leaves(params), jax.tree.leaves(flags), strict=True) if flag]
    return jnp.sum(jnp.stack([absum(kernel, spatial_axes=spatial_axes) for kernel in kernels]))
