"""The passes over the vocabulary under a mesh with Explicit axes: every device with its own words and tokens.

Left to itself, the compiler gathers an embedding that is sharded over its words, and sums its gradient over the
devices that have other tokens once for each block. Mapped, nothing crosses devices inside of a pass, and each
gradient is summed once, behind it.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.tree_util import Partial

from sigsoftmax_jax._arguments import Head
from sigsoftmax_jax._vocabulary_blocks import Pass


def on_shards(
    function: Callable[[Pass, Partial, Head, Any], Any],
    search: Pass,
    score: Partial,
    head: Head,
    per_token: Any,
    *,
    ndim: int,
) -> Any:
    """``function(search, score, head, per_token)``, of what each device holds where the mesh has Explicit axes.

    ``per_token`` and the result are trees of arrays that begin with the ``ndim`` dimensions of the tokens, as the
    states do, or broadcast to them; the result is sharded as the states.
    """
    hidden, embedding, bias = head
    of_hidden, of_embedding = (jax.typeof(x).sharding for x in (hidden, embedding))
    mesh = of_hidden.mesh if of_hidden.mesh.explicit_axes else of_embedding.mesh
    if not mesh.explicit_axes:
        return function(search, score, head, per_token)
    shape, given = hidden.shape[:ndim], of_hidden.spec[:ndim]
    tokens, words = _parts(given, of_embedding.spec[0], few_tokens=math.prod(shape) <= len(embedding))
    own_words = search.over(words) if words else search
    # The score is the same everywhere; tokens and words are divided.
    specs = PartitionSpec(), tokens, PartitionSpec(words or None), tokens
    mapped = jax.shard_map(
        lambda score, hidden, rows, per_token: function(own_words, score, (hidden, *rows), per_token),
        mesh=mesh,
        in_specs=specs,
        out_specs=tokens,
        axis_names=set(mesh.explicit_axes),
    )
    per_token = jax.tree.map(lambda x: x if x.ndim > ndim else jnp.broadcast_to(x, shape), per_token)
    shardings = tuple(NamedSharding(mesh, spec) for spec in specs)
    placed = jax.sharding.reshard((score, hidden, (embedding, bias), per_token), shardings)
    return jax.sharding.reshard(mapped(*placed), NamedSharding(mesh, PartitionSpec(*given)))


def _parts(tokens: tuple[Any, ...], words: Any, *, few_tokens: bool) -> tuple[PartitionSpec, tuple[str, ...]]:
    """Axes for the dimensions of the tokens and axes for the words, from what their arrays are sharded over.

    An axis that both are sharded over can divide only one of them. Of the other, the fewer, all are gathered.
    """
    token_axes, word_axes = tuple(map(_axes, tokens)), _axes(words)
    if few_tokens:
        token_axes = tuple(tuple(a for a in axes if a not in word_axes) for axes in token_axes)
    else:
        word_axes = tuple(a for a in word_axes if not any(a in axes for axes in token_axes))
    return PartitionSpec(*(axes or None for axes in token_axes)), word_axes


def _axes(entry: Any) -> tuple[str, ...]:
    """The axes that one dimension is sharded over."""
    return () if entry is None else entry if isinstance(entry, tuple) else (entry,)
