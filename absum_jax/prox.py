r"""Proximal operators, one signature for all: ``prox(x, strength, scaling=1.0, *, metric=None)``.

Each gives :math:`\arg\min_u \frac12 \sum_i d_i (u_i - x_i)^2 + \text{scaling} \cdot \text{strength} \cdot g(u)`
with d = ``metric``, or 1. In a proximal gradient step ``scaling`` is the learning rate of that step; the metric
is what the optimiser divides its step by: nothing with SGD, the root of the second moments with Adam.
"""

import functools
import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from absum_jax._argument_checks import as_array, concrete, require_nonnegative
from absum_jax._types import ArrayOrNumpy, Mask, Prox, PyTree, SpatialAxes
from absum_jax.kernels import conv_kernel_mask, require_default_layout, resolve_mask, spatial_axes_of


@jax.named_scope("prox_absum")
def prox_absum(
    kernel: ArrayOrNumpy,
    strength: ArrayLike,
    scaling: ArrayLike = 1.0,
    *,
    spatial_axes: SpatialAxes = None,
    metric: ArrayOrNumpy | None = None,
) -> Float[Array, "..."]:
    r"""Proximal operator of Absum.

    .. math:: \arg\min_u \tfrac12 \|u - K\|^2 + \tau \sum_{i,o} \Big|\sum_{p,q} u_{p,q,i,o}\Big|
              = K - \operatorname{clip}(\bar K, -\tau, \tau), \qquad \tau = \text{scaling} \cdot \text{strength}

    where :math:`\bar K` is the mean over the n spatial taps of each slice. The sum s of a slice becomes
    sign(s) max(\|s\| - n tau, 0); the zero-sum part of the slice stays as it is. For a 1x1 kernel this is
    soft-thresholding. In a metric d > 0 the squared distance weighs tap j by d_j, and

    .. math:: u_j = K_j - \operatorname{clip}(s / D, -\tau, \tau) / d_j, \qquad D = \sum_{p,q} 1 / d_{p,q}

    so that the sum becomes sign(s) max(\|s\| - D tau, 0).

    Args:
        kernel: float array [spatial..., in, out].
        strength: weight of the penalty, not negative.
        scaling: step size, not negative; default 1.
        spatial_axes: the axes to sum over; ``None`` takes all but the last two. ``(-2, -1)`` is OIHW.
        metric: d, positive, of the kernel's shape; ``None`` is 1 everywhere.

    Returns:
        An array of the kernel's shape and dtype.

    Raises:
        ValueError: if the kernel is not a float array, the axes do not fit it, a number is negative, a strength or
            scaling has entries for single taps, or the metric is not positive or has another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> kernel = jnp.array([3.0, 1.0, 2.0]).reshape(3, 1, 1)
        >>> prox_absum(kernel, strength=0.5).ravel().tolist()
        [2.5, 0.5, 1.5]
        >>> prox_absum(kernel, strength=100.0).ravel().tolist()
        [1.0, -1.0, 0.0]
        >>> prox_absum(kernel, strength=100.0, metric=jnp.array([1.0, 1.0, 0.5]).reshape(3, 1, 1)).ravel().tolist()
        [1.5, -0.5, -1.0]

    References:
        Kanai et al., AAAI 2020, https://arxiv.org/abs/1909.08830
    """
    axes = spatial_axes_of(kernel, spatial_axes)
    # One threshold for all taps of a slice, else the sum would not be what is shrunk.
    slices = tuple(1 if axis in axes else n for axis, n in enumerate(np.shape(kernel)))
    threshold = _threshold(kernel, strength, scaling, slices)
    metric = _checked_metric(metric, kernel)
    kernel = jnp.asarray(kernel)
    if metric is not None:
        # [h, w, in, out]: 1 / d times the smallest d of the slice, which does not overflow where d is tiny.
        smallest = jnp.min(metric, axis=axes, keepdims=True)
        mobility = smallest / metric
        total_mobility = _sum_over(mobility, axes)
        excess = threshold * total_mobility / smallest  # D tau: what the sum can lose
        correction = jnp.clip(_sum_over(kernel.astype(threshold.dtype), axes), -excess, excess)
        return (kernel - correction * (mobility / total_mobility)).astype(kernel.dtype)
    # [h, w, in, out] -> [1, 1, in, out]: each slice has one mean, and all of its taps move by it.
    mean = _sum_over(kernel.astype(threshold.dtype), axes) / math.prod(kernel.shape[axis] for axis in axes)
    return (kernel - jnp.clip(mean, -threshold, threshold)).astype(kernel.dtype)


@jax.named_scope("prox_l1")
def prox_l1(
    x: ArrayOrNumpy, strength: ArrayLike, scaling: ArrayLike = 1.0, *, metric: ArrayOrNumpy | None = None
) -> Float[Array, "..."]:
    r"""Proximal operator of the L1 norm: soft-thresholding.

    .. math:: \arg\min_u \tfrac12 \|u - x\|^2 + \tau \|u\|_1 = \operatorname{sign}(x) \max(|x| - \tau, 0)

    In a metric d the threshold of an entry is tau / d.

    Args:
        x: float array of any shape.
        strength: weight of the norm, not negative.
        scaling: step size, not negative; tau = scaling * strength.
        metric: d, positive, of the shape of ``x``; ``None`` is 1 everywhere.

    Returns:
        An array of the shape and dtype of ``x``.

    Raises:
        ValueError: if ``x`` is not a float array, a number is negative, a strength or scaling does not
            broadcast to ``x``, or the metric is not positive or has another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> prox_l1(jnp.array([2.0, -0.5]), strength=1.0).tolist()
        [1.0, 0.0]
    """
    threshold = _threshold(x, strength, scaling, np.shape(x))
    metric = _checked_metric(metric, x)
    if metric is not None:
        threshold = threshold / metric
    x = jnp.asarray(x)
    return (x - jnp.clip(x, -threshold, threshold)).astype(x.dtype)


@jax.named_scope("prox_squared_l2")
def prox_squared_l2(
    x: ArrayOrNumpy, strength: ArrayLike, scaling: ArrayLike = 1.0, *, metric: ArrayOrNumpy | None = None
) -> Float[Array, "..."]:
    r"""Proximal operator of half the squared L2 norm: weight decay as an implicit step.

    .. math:: \arg\min_u \tfrac12 \|u - x\|^2 + \tfrac{\tau}{2} \|u\|_2^2 = \frac{x}{1 + \tau}

    In a metric d this is x / (1 + tau / d).

    Args:
        x: float array of any shape.
        strength: weight of the term, not negative.
        scaling: step size, not negative; tau = scaling * strength.
        metric: d, positive, of the shape of ``x``; ``None`` is 1 everywhere.

    Returns:
        An array of the shape and dtype of ``x``.

    Raises:
        ValueError: if ``x`` is not a float array, a number is negative, a strength or scaling does not
            broadcast to ``x``, or the metric is not positive or has another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> prox_squared_l2(jnp.array([3.0]), strength=0.5).tolist()
        [2.0]
    """
    threshold = _threshold(x, strength, scaling, np.shape(x))
    metric = _checked_metric(metric, x)
    if metric is not None:
        threshold = threshold / metric
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
    metric: PyTree | None = None,
) -> PyTree:
    """Apply a proximal operator to the masked leaves of a parameter tree.

    Args:
        prox: any function ``(leaf, strength, scaling) -> leaf``, such as :func:`prox_absum`.
        params: linen dict, ``nnx.State``, Haiku or Equinox tree.
        strength: weight of the penalty, not negative.
        scaling: the learning rate of this step, not negative.
        mask: tree of bools, or a callable from ``params`` to one; by default :func:`conv_kernel_mask`.
        spatial_axes: handed on to a prox that takes it, for all leaves; ``(-2, -1)`` for Equinox.
        metric: a tree of the structure of ``params``, whose masked leaves are handed on to a prox that takes
            ``metric``, such as those of this library: what the optimiser divided its step by. ``None`` is 1
            everywhere. :func:`proximal_adam` does this for Adam.

    Returns:
        A tree of the same type; leaves outside the mask are the very same arrays.

    Raises:
        ValueError: as :func:`prox_absum` and :func:`absum_penalty`, and if ``spatial_axes`` or ``metric`` is given
            with a prox that does not take it, or ``metric`` has another structure.

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
    if metric is None:
        return jax.tree.map(lambda flag, leaf: prox(leaf, strength, scaling) if flag else leaf, flags, params)
    if not _takes(prox, "metric"):
        raise ValueError(f"metric must be None for {_name(prox)}, which does not take it, got a tree")
    found: Any = jax.tree.structure(metric)
    structure: Any = jax.tree.structure(params)
    if found != structure:
        raise ValueError(f"metric must have the structure of params, {structure}, got {found}")
    return jax.tree.map(
        lambda flag, leaf, d: prox(leaf, strength, scaling, metric=d) if flag else leaf, flags, params, metric
    )


def with_spatial_axes(prox: Prox, spatial_axes: SpatialAxes) -> Prox:
    """The prox with its ``spatial_axes`` filled in; the prox itself if they are ``None``.

    Raises:
        ValueError: if the prox does not take them; they would be ignored without a word.
    """
    if spatial_axes is None:
        return prox
    if not _takes(prox, "spatial_axes"):
        raise ValueError(
            f"spatial_axes must be None for {_name(prox)}, which does not take it, got {spatial_axes}"
        )
    return functools.partial(prox, spatial_axes=tuple(spatial_axes))  # a list would not do for a static argument


def _takes(prox: Prox, keyword: str) -> bool:
    try:
        parameters = inspect.signature(prox).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return False
    return any(each.name == keyword or each.kind is each.VAR_KEYWORD for each in parameters)


def _name(prox: Prox) -> str:
    return getattr(prox, "__name__", repr(prox))


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


def _checked_metric(metric: ArrayOrNumpy | None, x: ArrayOrNumpy) -> Array | None:
    """The metric in the dtype of ``x``, or in float32 if that is narrower."""
    if metric is None:
        return None
    metric = as_array("metric", metric)
    if jnp.shape(metric) != jnp.shape(x):
        raise ValueError(f"metric must have the shape of its leaf, {jnp.shape(x)}, got {jnp.shape(metric)}")
    known = concrete(metric)
    if known is not None and not np.all((known > 0) & np.isfinite(known)):
        raise ValueError(f"metric must be positive and finite, got entries from {known.min()} to {known.max()}")
    return jnp.asarray(metric, jnp.promote_types(jnp.result_type(x), jnp.float32))


def _threshold(x: ArrayOrNumpy, strength: ArrayLike, scaling: ArrayLike, shape: tuple[int, ...]) -> Array:
    """scaling * strength in the dtype of ``x``, or in float32 if that is narrower; it broadcasts to ``shape``."""
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        raise ValueError(f"x must be a float array, got dtype {jnp.result_type(x)}")
    require_nonnegative("strength", strength)
    require_nonnegative("scaling", scaling)
    for name, value in (("strength", strength), ("scaling", scaling)):
        given = np.shape(value)
        if len(given) > len(shape) or any(n not in (1, m) for n, m in zip(given[::-1], shape[::-1], strict=False)):
            raise ValueError(f"{name} must be a number, or broadcast to the shape {shape}, got shape {given}")
    wide = jnp.promote_types(jnp.result_type(x), jnp.float32)
    return jnp.asarray(strength, wide) * jnp.asarray(scaling, wide)
