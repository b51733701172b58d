"""Which leaves of a parameter tree are convolution kernels, and over which axes they sum.

A leaf's shape does not settle whether it belongs to a convolution: a ``DenseGeneral`` kernel may have four
axes, a three-axis kernel may be an attention projection or a 1-D convolution, and a five-axis one a 3-D
convolution or a scanned stack of 2-D ones. ``conv_kernel_mask`` therefore reads the names on the path and the
biases next to the kernel as well, and refuses what it cannot tell apart.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from absum_jax._types import ArrayOrNumpy, Mask, PyTree, SpatialAxes

Names = tuple[str, ...]  # the path of a leaf, outermost module first: ("Block_0", "Conv_1", "kernel")
Shape = tuple[int, ...]
Leaves = list[tuple[Names, Shape]]  # of the whole tree

_KERNEL_NAMES = ("kernel", "w", "weight")  # linen and nnx; Haiku; Equinox
_OTHER_MODULES = ("general", "einsum", "local")  # DenseGeneral, LinearGeneral, Einsum, ConvLocal
_ATTENTION = ("attention", "attn")
_STACKING = ("scan", "vmap", "layer_stack")  # how linen and Haiku name a lifted or stacked module


def conv_kernel_mask(params: PyTree) -> PyTree:
    """Mark the convolution kernels of a parameter tree.

    A leaf counts when it is called ``kernel``, ``w`` or ``weight`` and

    - has 4 axes (2-D convolutions: plain, grouped, depthwise, transposed, 1x1), unless its module is named
      after ``DenseGeneral``, ``LinearGeneral``, ``Einsum`` or ``ConvLocal``, its bias has several axes, or it
      lies in an attention module (so called, or with children ``query``, ``key`` and ``value``);
    - has 3 axes (1-D) and its module has "conv" in its name;
    - has 5 axes (3-D) and a bias, or a normalisation beside it, shows that the first axis is not a layer axis.

    Two kinds of leaves look like 2-D convolutions in every way and are taken for them, so mask them by hand: a
    ``DenseGeneral`` under a name of your own that maps three axes to one, and a stack of 1-D convolutions that
    has neither biases nor norms beside it nor "scan" or "vmap" in its path.

    Args:
        params: a tree of arrays (or of ``jax.ShapeDtypeStruct``): linen dicts, ``nnx.State``, Haiku or Equinox.

    Returns:
        A tree of the same type with a bool at every leaf; all False when there is no convolution.

    Raises:
        ValueError: for a kernel that is, or may be, a stack of kernels with a leading layer axis (``nn.scan``,
            ``nnx.vmap``): sums over the wrong axes would be silent. Pass ``mask`` and ``spatial_axes`` instead;
            ``(-4, -3)`` names the two spatial axes of an HWIO kernel, stacked or not.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Conv_0": {"kernel": jnp.ones((3, 3, 1, 2)), "bias": jnp.ones(2)}}
        >>> conv_kernel_mask(params)
        {'Conv_0': {'bias': False, 'kernel': True}}
    """
    flat, treedef = jax.tree_util.tree_flatten_with_path(params)
    # Each leaf is judged by its own name and shape, and by those of all others: its bias, the norms beside it.
    leaves = [(_names(path), np.shape(leaf)) for path, leaf in flat]
    flags = [_is_conv_kernel(names, shape, leaves) for names, shape in leaves]
    return jax.tree.unflatten(treedef, flags)


def resolve_mask(params: PyTree, mask: Mask) -> PyTree:
    """The mask as a tree of bools with the structure of ``params``.

    Args:
        params: the parameter tree.
        mask: a tree of bools, a prefix of one, or a callable from ``params`` to either.

    Raises:
        ValueError: if the mask does not fit ``params``, holds anything but bools, or selects nothing.
    """
    # A tree can be callable itself (an Equinox module of bools), so its structure is looked at first.
    is_tree = bool(jax.tree.structure(mask) == jax.tree.structure(params))  # type: ignore[operator]
    found = mask(params) if callable(mask) and not is_tree else mask
    try:
        flags = jax.tree.map(lambda flag, part: jax.tree.map(lambda _: flag, part), found, params)
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"mask must have the structure of params, got another: {reason}") from error
    values = jax.tree.leaves(flags)
    if wrong := [flag for flag in values if not isinstance(flag, (bool, np.bool_))]:
        raise ValueError(f"mask must hold bools, got {wrong[0]!r}")
    if not any(values):
        raise ValueError(
            "mask must select a leaf, got none: params have no convolution kernel, or it is False everywhere"
        )
    return flags


def spatial_axes_of(kernel: ArrayOrNumpy, spatial_axes: SpatialAxes) -> tuple[int, ...]:
    """The axes to sum over, as non-negative numbers; ``None`` means all but the last two (HWIO).

    Raises:
        ValueError: if the kernel is not a float array, has no spatial axis, or an axis is out of range or twice.
    """
    shape = jnp.shape(kernel)
    if not jnp.issubdtype(jnp.result_type(kernel), jnp.floating):
        raise ValueError(f"kernel must be a float array, got dtype {jnp.result_type(kernel)}")
    if spatial_axes is None:
        if len(shape) < 3:
            raise ValueError(f"kernel must have spatial axes before (in, out), got shape {shape}")
        return tuple(range(len(shape) - 2))
    if any(isinstance(axis, jax.core.Tracer) for axis in spatial_axes):
        raise ValueError(
            f"spatial_axes must be integers known when compiled, got {tuple(spatial_axes)}: "
            'jax.jit(prox, static_argnames="spatial_axes")'
        )
    axes = tuple(axis % len(shape) if -len(shape) <= axis < len(shape) else -1 for axis in spatial_axes)
    if not axes or -1 in axes or len(set(axes)) < len(axes):
        raise ValueError(
            f"spatial_axes must be different axes of a kernel of shape {shape}, got {tuple(spatial_axes)}"
        )
    return axes


def require_default_layout(params: PyTree, flags: PyTree) -> None:
    """Raise ``ValueError`` for a selected leaf called ``weight``, as Equinox names its (out, in, ...) kernels.

    Summing such a kernel over the axes of an HWIO one would go unnoticed.
    """
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    for (path, leaf), flag in zip(flat, jax.tree.leaves(flags), strict=True):
        if flag and _names(path)[-1:] == ("weight",):
            raise ValueError(
                f"spatial_axes must be given for {jax.tree_util.keystr(path)} of shape {np.shape(leaf)}, got None:"
                " it is named like an (out, in, height, width) kernel; say spatial_axes=(-2, -1) for that layout,"
                " or (0, 1) if it is (height, width, in, out)"
            )


def _names(path: tuple[Any, ...]) -> Names:
    """The path as words, without the ``.value`` that boxes of linen and nnx append."""
    boxes = (jax.tree_util.GetAttrKey("value"), jax.tree_util.GetAttrKey("raw_value"))
    inner = path[:-1] if path and path[-1] in boxes else path
    return tuple(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in inner)


def _is_conv_kernel(names: Names, shape: Shape, leaves: Leaves) -> bool:
    """From the plainest evidence to the weakest: name, number of axes, module, bias, layer axis.

    ======================================  ==============  ============================================
    kernel                                  axes            told by
    ======================================  ==============  ============================================
    1-D convolution [n, in, out]            3               "conv" in the module's name
    2-D convolution [h, w, in, out]         4               its axes
    3-D convolution [d, h, w, in, out]      5               a bias or a norm [out]
    stacked 2-D [layers, h, w, in, out]     5               a bias or a norm [layers, out], or "scan", "vmap"
    attention, DenseGeneral                 3, 4            a module's name, or a bias of several axes
    ======================================  ==============  ============================================
    """
    if names[-1:] == () or names[-1] not in _KERNEL_NAMES or len(shape) < 3:
        return False
    # The innermost module with a name of its own: "layers/0/weight" lies in "layers".
    words = [name.lower() for name in names[:-1]]
    module = next((word for word in reversed(words) if not word.isdigit()), "")
    if any(other in module for other in _OTHER_MODULES):
        return False
    # A module called a convolution is believed, whatever its axes; four or five axes are enough outside attention.
    if "conv" not in module and (len(shape) not in (4, 5) or _is_of_attention(names, leaves)):
        return False
    # A stack's bias [layers, out] has several axes as a DenseGeneral's has: the layer axis is looked for first.
    stacked = _is_stacked(names, shape, leaves)
    if not stacked and _has_dense_bias(names, shape, leaves):
        return False
    # Five axes that nothing tells apart are refused, and so are six, which no convolution has.
    if stacked or len(shape) > 5 or (stacked is None and len(shape) == 5):
        raise ValueError(
            f"{'/'.join(names)} must be the kernel of one layer, got shape {shape}, which"
            f" {'is' if stacked else 'may be'} a stack with a leading layer axis; pass mask= to say which leaves"
            " are kernels, and spatial_axes=, for example (-4, -3) for stacked 2-D or (-5, -4, -3) for 3-D kernels"
        )
    return True


def _is_of_attention(names: Names, leaves: Leaves) -> bool:
    """Whether a module is called attention, or has its three projections as children."""
    if any(word in name.lower() for name in names for word in _ATTENTION):
        return True
    # ("mha", "query", "kernel") has the siblings {"query", "key", "value", "out"} in "mha".
    parent = names[:-2]
    siblings = {other[len(parent)] for other, _ in leaves if other[: len(parent)] == parent and other != parent}
    return siblings >= {"query", "key", "value"}


def _own_biases(names: Names, leaves: Leaves) -> list[Shape]:
    """Shapes of the vectors in the kernel's own module."""
    return [size for other, size in leaves if other[:-1] == names[:-1] and _is_vector(other, size)]


def _has_dense_bias(names: Names, shape: Shape, leaves: Leaves) -> bool:
    """Whether the bias has several axes, all of them the kernel's last: a DenseGeneral with several features.

    A kernel [2, 3, 4, 8] with a bias [4, 8], say. Equinox's convolutions have biases [out, 1, 1]: not meant.
    """
    return any(
        len(size) > 1 and size == shape[-len(size) :] and names[-1] != "weight"
        for size in _own_biases(names, leaves)
    )


def _is_stacked(names: Names, shape: Shape, leaves: Leaves) -> bool | None:
    """Whether a layer axis leads, by the kernel's own bias or else by norms nearby; ``None`` if nothing tells.

    The first that tells decides: a bias [out] (no stack), "scan" or "vmap" in the path (a stack), a bias
    [layers, ...] (a stack), a norm [out] (no stack), norms that are all [layers, ...] (a stack).
    """
    beside, biases = names[:-2], _own_biases(names, leaves)
    if any(_is_one_per_channel(size, names, shape) for size in biases):
        return False
    if any(word in name.lower() for name in names for word in _STACKING):
        return True
    if biases:
        # [layers, out] beside [layers, h, w, in, out].
        return all(len(size) > 1 and size[0] == shape[0] for size in biases) or None
    # A layer's bias tells nothing of its neighbour; a norm (a module without a kernel) belongs to the block.
    with_kernel = {other[:-1] for other, size in leaves if not _is_vector(other, size)}
    norms = [
        size
        for other, size in leaves
        if other[: len(beside)] == beside and other[:-1] not in with_kernel and _is_vector(other, size)
    ]
    if any(_is_one_per_channel(size, names, shape) for size in norms):
        return False
    return (bool(norms) and all(len(size) > 1 and size[0] == shape[0] for size in norms)) or None


def _is_vector(names: Names, shape: Shape) -> bool:
    """Whether a leaf is a bias, a scale or the like, with or without a layer axis."""
    return bool(shape) and (names[-1:] == () or names[-1] not in _KERNEL_NAMES or len(shape) == 1)


def _is_one_per_channel(size: Shape, names: Names, kernel_shape: Shape) -> bool:
    """Whether a vector has one entry for each output channel and so no layer axis."""
    if names[-1] == "weight":  # Equinox: weight (out, in, ...), bias (out, 1, ...); transposed likewise
        return size[0] in kernel_shape[:2] and math.prod(size) == size[0]
    return len(size) == 1 and size[0] in kernel_shape[-2:]
