r"""The spectrum of a convolution: frequency response, singular values, operator norm, clipping.

All of it is for circular padding, where the Fourier transform makes a convolution a product with one matrix
:math:`\hat K(\omega)` [in, out] for each frequency; with zero padding the norm is as a rule a little smaller. What
deep learning calls a convolution is a cross-correlation: it has the conjugate response, and the same singular
values. They belong to the operator on whole images; the norm of the kernel written as one matrix [taps * in, out],
which is what spectral normalisation layers take, is another number, and as a rule a smaller one.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Complex, Float

from absum_jax._argument_checks import require_nonnegative, require_one_of, require_positive_int
from absum_jax._block_norms import clip_blocks, exact_norm, gram_norm
from absum_jax._conv_blocks import Conv, at_all_frequencies, check_conv, conv_blocks, kernel_of_blocks
from absum_jax._power_iteration import power_iteration
from absum_jax._types import ArrayOrNumpy, SpatialAxes, SpatialSize

_NUM_ITERATIONS = {"exact": None, "gram": 5, "power": 30}


@jax.named_scope("frequency_response")
def frequency_response(
    kernel: ArrayOrNumpy, image_size: SpatialSize, *, spatial_axes: SpatialAxes = None
) -> Complex[Array, "..."]:
    r"""The discrete Fourier transform of a kernel that is padded with zeros to the size of the image.

    .. math:: \hat K(l, m)_{io} = \sum_{p,q} K_{p,q,i,o}\, e^{-2 \pi i (l p / H + m q / W)}

    Its singular values at one frequency are the gains of the convolution there; at frequency zero it is the matrix
    of the sums that :func:`absum` penalises.

    Args:
        kernel: float array [spatial..., in, out] of one to three spatial axes; ``in`` is per group.
        image_size: sizes of the image along the spatial axes, such as (height, width), no smaller than the kernel.
        spatial_axes: the kernel's spatial axes, as in :func:`conv_singular_values`; ``(-2, -1)`` is OIHW.

    Returns:
        complex64 array [*image_size, in, out] (complex128 for float64) whatever the order of the kernel's axes;
        frequencies as in ``jnp.fft.fftn``.

    Raises:
        ValueError: if the kernel is not a float array or is larger than the image, or the axes do not fit it.

    Example:
        >>> import jax.numpy as jnp
        >>> difference = jnp.array([1.0, -1.0]).reshape(2, 1, 1)
        >>> abs(frequency_response(difference, (4,))).ravel().round(3).tolist()
        [0.0, 1.4140000343322754, 2.0, 1.4140000343322754]
    """
    conv = check_conv(kernel, image_size, stride=1, groups=1, spatial_axes=spatial_axes)
    return jnp.fft.fftn(conv.channels_last(kernel), conv.image_size, axes=tuple(range(conv.dims)))


@jax.named_scope("conv_singular_values")
def conv_singular_values(
    kernel: ArrayOrNumpy,
    image_size: SpatialSize,
    *,
    stride: int = 1,
    groups: int = 1,
    spatial_axes: SpatialAxes = None,
) -> Float[Array, "..."]:
    r"""All singular values of a convolution with circular padding, frequency by frequency.

    Those of :math:`\hat K(\omega)` (:func:`frequency_response`). A stride s folds the frequencies: the matrices of
    the :math:`s^d` frequencies that become one stand above each other, divided by :math:`s^{d/2}`. Each group is a
    block of its own. Together they are the singular values of the matrix that takes images to outputs; that matrix
    has no others but zeros.

    Only half of the frequencies are decomposed, as a real kernel has the same values at the other half. Gradients
    are finite where singular values are equal.

    Args:
        kernel: float array [spatial..., in, out] of one to three spatial axes; ``in`` is per group.
        image_size: sizes of the image along the spatial axes, such as (height, width).
        stride: of the convolution, the same along each axis; divides the image size.
        groups: number of feature groups; divides ``out``. For a depthwise kernel, in = 1, that of the channels.
        spatial_axes: the kernel's spatial axes: the first ones, followed by in and out, or the last ones, after
            out and in; ``None`` takes all but the last two. ``(-2, -1)`` is OIHW.

    Returns:
        float32 array (float64 for float64) [H / s, W / s, min(s^2 in, out)] for two spatial axes; with groups > 1
        [H / s, W / s, groups, min(s^2 in, out / groups)]. Descending along the last axis; frequencies as in
        ``jnp.fft.fftn``.

    Raises:
        ValueError: if the kernel is not a float array or is larger than the image, or stride, groups or axes do
            not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> laplacian = jnp.array([[0., 1., 0.], [1., -4., 1.], [0., 1., 0.]])[:, :, None, None]
        >>> values = conv_singular_values(laplacian, (4, 4))
        >>> values.shape, round(float(values[0, 0, 0]), 3), round(float(values.max()), 3)
        ((4, 4, 1), 0.0, 8.0)

    References:
        Sedghi, Gupta and Long, The Singular Values of Convolutional Layers, ICLR 2019,
        https://arxiv.org/abs/1805.10408
    """
    conv = check_conv(kernel, image_size, stride=stride, groups=groups, spatial_axes=spatial_axes)
    values = _singular_values(conv.channels_last(kernel), conv)
    return values if groups > 1 else jnp.squeeze(values, axis=-2)


@functools.partial(jax.jit, static_argnames="conv")
def _singular_values(kernel: Array, conv: Conv) -> Array:
    """[coarse..., groups, number] for a kernel [taps..., in, out]."""
    blocks = jax.lax.complex(*conv_blocks(kernel, conv))
    return at_all_frequencies(jnp.linalg.svd(blocks, compute_uv=False), conv)


@jax.named_scope("conv_spectral_norm")
def conv_spectral_norm(
    kernel: ArrayOrNumpy,
    image_size: SpatialSize,
    *,
    method: str = "exact",
    num_iterations: int | None = None,
    stride: int = 1,
    groups: int = 1,
    spatial_axes: SpatialAxes = None,
) -> Float[Array, ""]:
    r"""The largest singular value of a convolution with circular padding.

    ``method`` says how, and on which side of the truth the result lies (up to rounding):

    - ``"exact"``: the largest of :func:`conv_singular_values`. Its gradient is :math:`\Re(u^H d\hat K v)` of one
      largest pair of singular vectors: one of the subgradients where several are equal.
    - ``"gram"``: an upper bound from t = ``num_iterations`` squarings (5 by default) of the Gram matrix G of each
      frequency, :math:`\max_\omega \|G^{2^{t-1}}\|_F^{2^{-t}}`; at most rank^(2^-(t+1)) times the norm (for rank
      64 and t = 5, 1.07), as a rule much closer. Neither overflows nor starts at random; differentiable.
    - ``"power"``: a lower bound from so many steps of power iteration (30 by default), always from the same random
      image. In training, where a step suffices if it starts where the last one ended, take
      :func:`conv_power_iteration`.

    Gradients are those of first order; they are finite for equal singular values, and for a kernel of zeros. For a
    kernel with an entry that is no number the norm is none either.

    Args:
        kernel: float array [spatial..., in, out] of one to three spatial axes; ``in`` is per group.
        image_size: sizes of the image along the spatial axes, such as (height, width).
        method: "exact", "gram" or "power".
        num_iterations: at least 1, for "gram" and "power" alone; ``None`` takes the default of the method.
        stride, groups, spatial_axes: as in :func:`conv_singular_values`.

    Returns:
        A scalar, in float32 for float16 and bfloat16 kernels, else in the kernel's dtype.

    Raises:
        ValueError: as :func:`conv_singular_values`, for another method, for a number of iterations below 1, and if
            one is given with "exact".

    Example:
        >>> import jax.numpy as jnp
        >>> kernel = jnp.array([1.0, 2.0, -1.0]).reshape(3, 1, 1)
        >>> round(float(conv_spectral_norm(kernel, (4,))), 4)
        2.8284
        >>> round(float(conv_spectral_norm(kernel, (4,), method="gram")), 4)
        2.8284

    References:
        Sedghi, Gupta and Long, ICLR 2019, https://arxiv.org/abs/1805.10408; Delattre et al., Efficient Bound of
        Lipschitz Constant for Convolutional Layers by Gram Iteration, ICML 2023, https://arxiv.org/abs/2305.16173
    """
    require_one_of("method", method, tuple(_NUM_ITERATIONS))
    if num_iterations is None:
        num_iterations = _NUM_ITERATIONS[method]
    elif method == "exact":
        raise ValueError(f"num_iterations must be None for method 'exact', got {num_iterations!r}")
    else:
        require_positive_int("num_iterations", num_iterations)
    conv = check_conv(kernel, image_size, stride=stride, groups=groups, spatial_axes=spatial_axes)
    return _norm(conv.channels_last(kernel), conv, method, num_iterations)


@functools.partial(jax.jit, static_argnames=("conv", "method", "num_iterations"))
def _norm(kernel: Array, conv: Conv, method: str, num_iterations: int | None) -> Array:
    kernel, scale = _scaled(kernel)
    if num_iterations is None:
        return scale * exact_norm(conv_blocks(kernel, conv))
    if method == "gram":
        return scale * gram_norm(conv_blocks(kernel, conv), num_iterations)
    start = jax.random.normal(jax.random.key(0), (*conv.image_size, kernel.shape[-2] * conv.groups), kernel.dtype)
    return scale * power_iteration(kernel, start, conv, num_iterations)[0]


@jax.named_scope("conv_power_iteration")
def conv_power_iteration(
    kernel: ArrayOrNumpy,
    vector: ArrayOrNumpy,
    *,
    num_iterations: int = 1,
    stride: int = 1,
    groups: int = 1,
    spatial_axes: SpatialAxes = None,
) -> tuple[Float[Array, ""], Float[Array, "..."]]:
    r"""A lower bound of the norm of a convolution by power iteration, from where the last call ended.

    With A the convolution (circular padding), one iteration is

    .. math:: u = \frac{A v}{\|A v\|}, \qquad \sigma = \|A^\top u\|, \qquad v \leftarrow \frac{A^\top u}{\sigma}

    and sigma is at most the norm. Kernels change little from one training step to the next: keep v with the
    training state, and one iteration a step follows the norm. The gradient of sigma with respect to the kernel
    holds u and v fixed, as in spectral normalisation; v itself has none.

    Args:
        kernel: float array [spatial..., in, out] of one to three spatial axes; ``in`` is per group.
        vector: an image [height, width, in * groups] (or with one or three spatial axes) that is not zero: at
            first a random one, then that of the last call. It sets the size of the images.
        num_iterations: at least 1; each costs two convolutions of one image. They are unrolled: for very many,
            call this function many times.
        stride, groups, spatial_axes: as in :func:`conv_singular_values`.

    Returns:
        The bound, a scalar, and the next vector, of unit norm; in float32 for narrower kernels, else in the
        kernel's dtype.

    Raises:
        ValueError: as :func:`conv_singular_values`, for a number of iterations below 1, and if the vector is not a
            float array of the kernel's input channels.

    Example:
        >>> import jax
        >>> kernel = jax.random.normal(jax.random.key(0), (3, 3, 4, 8))
        >>> vector = jax.random.normal(jax.random.key(1), (16, 16, 4))
        >>> for _ in range(50):
        ...     norm, vector = conv_power_iteration(kernel, vector)
        >>> 0.99 < float(norm / conv_spectral_norm(kernel, (16, 16))) < 1.00001
        True

    References:
        Miyato et al., Spectral Normalization for Generative Adversarial Networks, ICLR 2018,
        https://arxiv.org/abs/1802.05957, there of the kernel as one matrix; of the convolution itself: Ryu et al.,
        Plug-and-Play Methods Provably Converge with Properly Trained Denoisers, ICML 2019,
        https://arxiv.org/abs/1905.05406
    """
    require_positive_int("num_iterations", num_iterations)
    image_size = tuple(jnp.shape(vector)[:-1])
    conv = check_conv(kernel, image_size, stride=stride, groups=groups, spatial_axes=spatial_axes)
    num_inputs = jnp.shape(kernel)[conv.order[-2]] * conv.groups
    if jnp.shape(vector)[-1] != num_inputs or not jnp.issubdtype(jnp.result_type(vector), jnp.floating):
        raise ValueError(
            f"vector must be a float image of {num_inputs} channels, the kernel's inputs times groups, got shape "
            f"{jnp.shape(vector)} and dtype {jnp.result_type(vector)}"
        )
    kernel = conv.channels_last(kernel)
    return _power(kernel, jnp.asarray(vector, kernel.dtype), conv, num_iterations)


@functools.partial(jax.jit, static_argnames=("conv", "num_iterations"))
def _power(kernel: Array, vector: Array, conv: Conv, num_iterations: int) -> tuple[Array, Array]:
    kernel, scale = _scaled(kernel)
    norm, vector = power_iteration(kernel, _scaled(vector)[0], conv, num_iterations)
    return scale * norm, vector


def _scaled(x: Array) -> tuple[Array, Array]:
    """A kernel or image of largest entry 1, whose squares neither overflow nor vanish, and its divisor.

    The norm is homogeneous in the kernel, so that its gradient is right with the divisor held fixed.
    """
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    scale = jnp.where(largest == 0, 1.0, largest)  # a not-a-number goes through
    return x / scale, scale


@jax.named_scope("clip_singular_values")
def clip_singular_values(
    kernel: ArrayOrNumpy,
    image_size: SpatialSize,
    max_norm: ArrayLike,
    *,
    num_iterations: int = 1,
    stride: int = 1,
    groups: int = 1,
    spatial_axes: SpatialAxes = None,
) -> Float[Array, "..."]:
    r"""Clip the singular values of a convolution with circular padding, and crop to the kernel's support.

    At each frequency :math:`U \Sigma V^H` becomes :math:`U \min(\Sigma, c) V^H`, the nearest matrix of norm at
    most c. The inverse transform of these has taps all over the image; those outside the kernel's support are
    dropped.

    Before the crop no singular value exceeds ``max_norm``. The crop is the orthogonal projection onto kernels of
    this support, and lifts some values again. What it leaves is seen below: an excess of 33 % after one iteration,
    of 3 % after ten, of less than 0.1 % after a hundred. Where the bound must hold, scale the kernel by
    ``max_norm`` / :func:`conv_spectral_norm` at the end. Nothing is left where there is nothing to crop: 1x1
    kernels, and kernels of the size of the image. A kernel within the bound stays as it is, up to rounding.

    The derivative of the clipped matrices is taken as a whole, not through the singular vectors, so that it is
    finite where singular values are equal.

    Args:
        kernel: float array [spatial..., in, out] of one to three spatial axes; ``in`` is per group.
        image_size: sizes of the image along the spatial axes, such as (height, width).
        max_norm: the bound c, not negative; may be traced.
        num_iterations: how often to clip and crop, at least 1.
        stride, groups, spatial_axes: as in :func:`conv_singular_values`.

    Returns:
        An array of the kernel's shape and dtype.

    Raises:
        ValueError: as :func:`conv_singular_values`, if ``max_norm`` is not one number that is finite and not
            negative, or for a number of iterations below 1.

    Example:
        >>> import jax
        >>> kernel = jax.random.normal(jax.random.key(0), (3, 3, 4, 8))
        >>> round(float(conv_spectral_norm(kernel, (16, 16))), 2)
        13.56
        >>> for n in (1, 10, 100):
        ...     clipped = clip_singular_values(kernel, (16, 16), max_norm=4.0, num_iterations=n)
        ...     print(n, round(float(conv_spectral_norm(clipped, (16, 16))), 2))
        1 5.32
        10 4.13
        100 4.0

    References:
        Sedghi, Gupta and Long, ICLR 2019, https://arxiv.org/abs/1805.10408
    """
    require_nonnegative("max_norm", max_norm)
    if jnp.ndim(max_norm):
        raise ValueError(f"max_norm must be one number, got shape {jnp.shape(max_norm)}")
    require_positive_int("num_iterations", num_iterations)
    conv = check_conv(kernel, image_size, stride=stride, groups=groups, spatial_axes=spatial_axes)
    wide = conv.channels_last(kernel)
    clipped = _clipped(wide, jnp.asarray(max_norm, wide.dtype), conv, num_iterations)
    return conv.original_layout(clipped, jnp.result_type(kernel))


@functools.partial(jax.jit, static_argnames=("conv", "num_iterations"))
def _clipped(kernel: Array, max_norm: Array, conv: Conv, num_iterations: int) -> Array:
    def clip_and_crop(_: Any, kernel: Array) -> Array:
        clipped = clip_blocks(jax.lax.complex(*conv_blocks(kernel, conv)), max_norm)
        return kernel_of_blocks(jnp.stack([clipped.real, clipped.imag]), conv, kernel.shape)

    return jax.lax.fori_loop(0, num_iterations, clip_and_crop, kernel)
