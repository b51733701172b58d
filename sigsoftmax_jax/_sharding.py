"""A vocabulary sharded over a named axis: each device holds consecutive rows of the embedding.

Hidden states and labels are the same on every device of the axis, and so is what comes back. Log
normalisers are combined by collectives; the gradient of the hidden states is summed over the devices.
The axis is one that the caller maps, or ``_mesh`` does.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

# One axis, or several of which the first is the slowest; None where every device has the whole vocabulary.
AxisName = str | tuple[str, ...] | None


def axis_size(axis_name: AxisName) -> int:
    """Devices on the axis; 1 without one."""
    return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def local_words(targets: Array, words: int, axis_name: AxisName) -> Array:
    """Words counted from the first of this device's; out of its range where another holds them."""
    return targets if axis_name is None else targets - words * jax.lax.axis_index(axis_name)


def sum_over_devices(gradients: Any, axis_name: AxisName) -> Any:
    """The sums over the axis."""
    return gradients if axis_name is None else jax.lax.psum(gradients, axis_name)


def with_automatic_axes(function: Callable[..., Any], like: Array, ndim: int) -> Callable[..., Any]:
    """``function``, with the Explicit axes of a mesh left to the compiler while it runs.

    Its results have the sharding of the first ``ndim`` dimensions of ``like``. Gathers and products
    over a sharded dimension have no sharding of their own that a user could be asked for.
    """
    sharding = jax.typeof(like).sharding
    if not sharding.mesh.explicit_axes:
        return function
    result = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:ndim]))
    return jax.sharding.auto_axes(function, axes=sharding.mesh.explicit_axes, out_sharding=result)


def match_varying(tree: Any, *references: Array | None) -> Any:
    """``tree``, typed under ``shard_map`` as varying over every mesh axis that a reference varies over.

    Needed because a loop carry must have the type that it ends with, and a gradient that of its argument: an
    argument cast here has its gradient summed over the added axes. ``jax.lax.pcast`` wants the names of the
    axes, which have no public accessor in all versions of JAX; multiplying by a one that is selected by an
    entry of each reference has the same effect and compiles to nothing.
    """
    flags = [jnp.ravel(r)[:1].sum() > 0 for r in references if r is not None]
    one = jnp.where(jnp.any(jnp.stack(flags)), 1, 1)
    return jax.tree.map(lambda x: x * one.astype(x.dtype), tree)
