"""The compiled loop of the sweep: correct predictions under each of many universal Fourier perturbations."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Int

from absum_jax._types import Bounds, PredictFn, PyTree
from absum_jax.fourier import fourier_perturbation

Attacks = tuple[Array, Array]  # frequencies [A, 2] and epsilons [A]


class Setting(NamedTuple):
    """What all attacks have in common: the model's parameters and the phase."""

    params: PyTree
    phase: ArrayLike


def as_host_values(tree: PyTree) -> PyTree:
    """Arrays as NumPy arrays, which jit copies to any devices; it refuses arrays that lie on other ones.

    Arrays that are traced, or spread over several processes already, stay as they are.
    """

    def host_value(x: Any) -> Any:
        is_here = isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer) and x.is_fully_addressable
        return np.asarray(x) if is_here and not jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    return jax.tree.map(host_value, tree)


class _Batches(NamedTuple):
    """Images in equal batches [B, n, ...]; ``is_real`` [B, n] is False at the padding."""

    images: Array
    labels: Array
    is_real: Array


@functools.partial(
    jax.jit, static_argnames=("predict_fn", "norm", "bounds", "batch_size", "attacks_per_step", "devices")
)
def count_correct(
    setting: Setting,
    images: Array,
    labels: Array,
    attacks: Attacks,
    *,
    predict_fn: PredictFn,
    norm: str,
    bounds: Bounds,
    batch_size: int,
    attacks_per_step: int,
    devices: tuple[jax.Device, ...] | None,
) -> Int[Array, "A"]:
    """Number of correct predictions under each attack; the arguments are those of ``fourier_sweep``."""
    num_correct = functools.partial(_num_correct, predict_fn=predict_fn, norm=norm, bounds=bounds)
    count: Callable[[Attacks, Setting, _Batches], Array]
    count = functools.partial(_count, num_correct, attacks_per_step)
    if devices is not None:
        count = _over_devices(count, devices)
    num_attacks = len(attacks[0])
    padding = -num_attacks % (attacks_per_step * (len(devices) if devices else 1))
    padded = jax.tree.map(lambda x: jnp.concatenate([x, jnp.repeat(x[-1:], padding, axis=0)]), attacks)
    return count(padded, setting, _batches(images, labels, batch_size))[:num_attacks]


def _count(
    num_correct: Callable, attacks_per_step: int, attacks: Attacks, setting: Setting, batches: _Batches
) -> Array:
    """Loop over batches outside and attacks inside: one batch stays in the cache for all attacks."""

    def add_batch(totals: Array, batch: _Batches) -> tuple[Array, None]:
        one = functools.partial(num_correct, setting, batch)
        # A vmap of one would only reshape; without it the forward pass is the user's own.
        batch_size = attacks_per_step if attacks_per_step > 1 else None
        return totals + jax.lax.map(one, attacks, batch_size=batch_size), None

    start = jnp.zeros(len(attacks[0]), jnp.int32)
    return jax.lax.scan(add_batch, start, batches)[0]


def _num_correct(
    setting: Setting,
    batch: _Batches,
    attack: tuple[Array, Array],
    *,
    predict_fn: PredictFn,
    norm: str,
    bounds: Bounds,
) -> Array:
    frequency, epsilon = attack
    height, width, channels = batch.images.shape[1:]
    shape = (height, width, channels)
    pattern = fourier_perturbation(frequency, shape, epsilon, norm=norm, phase=setting.phase)
    attacked = jnp.clip(batch.images + pattern[None].astype(batch.images.dtype), *bounds)
    logits = predict_fn(setting.params, attacked)
    # argmax would take a not-a-number for the largest, and its class could look right.
    is_right = (jnp.argmax(logits, axis=-1) == batch.labels) & ~jnp.isnan(jnp.max(logits, axis=-1))
    return jnp.sum(is_right & batch.is_real, dtype=jnp.int32)


def _batches(images: Array, labels: Array, batch_size: int) -> _Batches:
    """Split into the fewest batches of at most ``batch_size``, all of one size, the last one padded."""
    num_images = len(images)
    num_batches = -(-num_images // batch_size)
    size = -(-num_images // num_batches)
    padding = num_batches * size - num_images
    flat = _Batches(images, labels, jnp.ones(num_images, bool))
    return jax.tree.map(
        lambda x: jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)).reshape(num_batches, size, *x.shape[1:]),
        flat,
    )


def _over_devices(
    count: Callable[[Attacks, Setting, _Batches], Array], devices: tuple[jax.Device, ...]
) -> Callable[[Attacks, Setting, _Batches], Array]:
    """Split the attacks over devices, everything else copied; all devices and processes get all counts."""
    mesh = Mesh(devices, ("attack",), axis_types=(AxisType.Auto,))
    split, whole = PartitionSpec("attack"), PartitionSpec()

    def gathered(attacks: Attacks, setting: Setting, batches: _Batches) -> Array:
        return jax.lax.all_gather(count(attacks, setting, batches), "attack", tiled=True)

    # Without check_vma=False the gathered counts would not be recognised as equal on all devices.
    return jax.shard_map(gathered, mesh=mesh, in_specs=(split, whole, whole), out_specs=whole, check_vma=False)
