r"""Proximal operators, one signature for all: ``prox(x, strength, scaling=1.0)``.

Each gives :math:`\arg\min_u \frac12 \|u - x\|^2 + \text{scaling} \cdot \text{strength} \cdot g(u)`. In a proximal
gradient step ``scaling`` is the learning rate of that step.
"""

import functools
import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from absum_jax._argument_checks import require_nonnegative
from absum_jax._types import ArrayOrNumpy, Mask, Prox, PyTree, SpatialAxes
from absum_jax.kernels import conv_kernel_mask, require_default_layout, resolve_mask, spatial_axes_of


@jax.named_scope("prox_absum")
def prox_absum(
    kernel: ArrayOrNumpy,
    strength: ArrayLike,
    scaling: ArrayLike = 1.0,
    *,
    spatial_axes: SpatialAxes = None,
) -> Float[Array, "..."]:
    r"""Proximal operator of Absum.

    .. math:: \arg\min_u \tfrac12 \|u - K\|^2 + \tau \sum_{i,o} \Big|\sum_{p,q} u_{p,q,i,o}\Big|
              = K - \operatorname{clip}(\bar K, -\tau, \tau), \qquad \tau = \text{scaling} \cdot \text{strength}

    where :math:`\bar K` is the mean over the n spatial taps of each slice. The sum s of a slice becomes
    sign(s) max(\|s\| - n tau, 0); the zero-sum part of the slice stays as it is. For a 1x1 kernel this is
    soft-thresholding.

    Args:
        kernel: float array [spatial..., in, out].
        strength: weight of the penalty, not negative.
        scaling: step size, not negative; default 1.
        spatial_axes: the axes to sum over; ``None`` takes all but the last two. ``(-2, -1)`` is OIHW.

    Returns:
        An array of the kernel's shape and dtype.

    Raises:
        ValueError: if the kernel is not a float array, the axes do not fit it, or a number is negative.

    Example:
        >>> import jax.numpy as jnp
        >>> kernel = jnp.array([3.0, 1.0, 2.0]).reshape(3, 1, 1)
        >>> prox_absum(kernel, strength=0.5).ravel().tolist()
        [2.5, 0.5, 1.5]
        >>> prox_absum(kernel, strength=100.0).ravel().tolist()
        [1.0, -1.0, 0.0]

    References:
        Kanai et al., AAAI 2020, https://arxiv.org/abs/1909.08830
    """
    axes = spatial_axes_of(kernel, spatial_axes)
    threshold = _threshold(kernel, strength, scaling)
    kernel = jnp.asarray(kernel)
    # [h, w, in, out] -> [1, 1, in, out]: each slice has one mean, and all of its taps move by it.
    mean = _sum_over(kernel.astype(threshold.dtype), axes) / math.prod(kernel.shape[axis] for axis in axes)
    return (kernel - jnp.clip(mean, -threshold, threshold)).astype(kernel.dtype)


@jax.named_scope("prox_l1")
def prox_l1(x: ArrayOrNumpy, strength: ArrayLike, scaling: ArrayLike = 1.0) -> Float[Array, "..."]:
    r"""Proximal operator of the L1 norm: soft-thresholding.

    .. math:: \arg\min_u \tfrac12 \|u - x\|^2 + \tau \|u\|_1 = \operatorname{sign}(x) \max(|x| - \tau, 0)

    Args:
        x: float array of any shape.
        strength: weight of the norm, not negative.
        scaling: step size, not negative; tau = scaling * strength.

    Returns:
        An array of the shape and dtype of ``x``.

    Raises:
        ValueError: if ``x`` is not a float array or a number is negative.

    Example:
        >>> import jax.numpy as jnp
        >>> prox_l1(jnp.array([2.0, -0.5]), strength=1.0).tolist()
        [1.0, 0.0]
    """
    threshold = _threshold(x, strength, scaling)
    x = jnp.asarray(x)
    return (x - jnp.clip(x, -threshold, threshold)).astype(x.dtype)


@jax.named_scope("prox_squared_l2")
def prox_squared_l2(x: ArrayOrNumpy, strength: ArrayLike, scaling: ArrayLike = 1.0) -> Float[Array, "..."]:
    r"""Proximal operator of half the squared L2 norm: weight decay as an implicit step.

    .. math:: \arg\min_u \tfrac12 \|u - x\|^2 + \tfrac{\tau}{2} \|u\|_2^2 = \frac{x}{1 + \tau}

    Args:
        x: float array of any shape.
        strength: weight of the term, not negative.
        scaling: step size, not negative; tau = scaling * strength.

    Returns:
        An array of the shape and dtype of ``x``.

    Raises:
        ValueError: if ``x`` is not a float array or a number is negative.

    Example:
        >>> import jax.numpy as jnp
        >>> prox_squared_l2(jnp.array([3.0]), strength=0.5).tolist()
        [2.0]
    """
    threshold = _threshold(x, strength, scaling)
    x = jnp.asarray(x)
    return (x / (1 + threshold)).astype(x.dtype)


def tree_prox(
    prox: Prox,
    params: PyTree,
    strength: ArrayLike,
    scaling: ArrayLike = 1.0,
    *,
    mask: Mask = conv_kernel_mask,
    spatial_axes: SpatialAxes = None,
) -> PyTree:
    """Apply a proximal operator to the masked leaves of a parameter tree.

    Args:
        prox: any function ``(leaf, strength, scaling) -> leaf``, such as :func:`prox_absum`.
        params: linen dict, ``nnx.State``, Haiku or Equinox tree.
        strength: weight of the penalty, not negative.
        scaling: the learning rate of this step, not negative.
        mask: tree of bools, or a callable from ``params`` to one; by default :func:`conv_kernel_mask`.
        spatial_axes: handed on to a prox that takes it, for all leaves; ``(-2, -1)`` for Equinox.

    Returns:
        A tree of the same type; leaves outside the mask are the very same arrays.

    Raises:
        ValueError: as :func:`prox_absum` and :func:`absum_penalty`, and if ``spatial_axes`` is given with a prox
            that does not take it, such as :func:`prox_l1`.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Conv_0": {"kernel": jnp.ones((3, 3, 1, 1)), "bias": jnp.ones(1)}}
        >>> new_params = tree_prox(prox_absum, params, strength=0.25)
        >>> float(new_params["Conv_0"]["kernel"][0, 0, 0, 0]), float(new_params["Conv_0"]["bias"][0])
        (0.75, 1.0)
    """
    prox = with_spatial_axes(prox, spatial_axes)
    flags = resolve_mask(params, mask)
    if _takes_default_axes(prox):
        require_default_layout(params, flags)
    return jax.tree.map(lambda flag, leaf: prox(leaf, strength, scaling) if flag else leaf, flags, params)


def with_spatial_axes(prox: Prox, spatial_axes: SpatialAxes) -> Prox:
    """The prox with its ``spatial_axes`` filled in; the prox itself if they are ``None``.

    Raises:
        ValueError: if the prox does not take them; they would be ignored without a word.
    """
    if spatial_axes is None:
        return prox
    try:
        parameters = list(inspect.signature(prox).parameters.values())
    except (TypeError, ValueError):  # some builtins have no signature
        parameters = []
    if not any(each.name == "spatial_axes" or each.kind is each.VAR_KEYWORD for each in parameters):
        name = getattr(prox, "__name__", repr(prox))
        raise ValueError(f"spatial_axes must be None for {name}, which does not take it, got {spatial_axes}")
    return functools.partial(prox, spatial_axes=tuple(spatial_axes))  # a list would not do for a static argument


def _takes_default_axes(prox: Prox) -> bool:
    """Whether this is ``prox_absum``, jitted or partially applied as it may be, without ``spatial_axes``."""
    given: dict[str, Any] = {}
    while isinstance(prox, functools.partial):
        given |= prox.keywords
        prox = prox.func
    return inspect.unwrap(prox) is inspect.unwrap(prox_absum) and given.get("spatial_axes") is None


def _sum_over(x: Array, axes: tuple[int, ...]) -> Array:
    """Sum over a few short axes, kept with length 1, by adding slices.

    XLA's reduction over leading axes is not vectorised on CPUs; on a large kernel it takes longer than the rest of
    the proximal step (``python -m benchmarks absum_step``).
    """
    for axis in axes:
        # [..., n, ...] -> n slices [..., 1, ...] -> [..., 1, ...]
        slices = (jax.lax.index_in_dim(x, i, axis) for i in range(x.shape[axis]))
        x = functools.reduce(jnp.add, slices)
    return x


def _threshold(x: ArrayOrNumpy, strength: ArrayLike, scaling: ArrayLike) -> Array:
    """scaling * strength in the dtype of ``x``, or in float32 if that is narrower."""
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        raise ValueError(f"x must be a float array, got dtype {jnp.result_type(x)}")
    require_nonnegative("strength", strength)
    require_nonnegative("scaling", scaling)
    wide = jnp.promote_types(jnp.result_type(x), jnp.float32)
    return jnp.asarray(strength, wide) * jnp.asarray(scaling, wide)
