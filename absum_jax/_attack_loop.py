"""The compiled loop of the sweep: correct predictions under each of many universal Fourier perturbations.

Sizes in the comments: N images of H x W x C pixels in B batches of n; F frequencies at E epsilons; D devices with
S slots each, the places for their attacks (``_attack_plan``).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Int

from absum_jax._attack_plan import Part, Steps
from absum_jax._types import ArrayOrNumpy, Bounds, PredictFn, PyTree
from absum_jax.fourier import fourier_perturbation

_AXIS = "attack"


class Setting(NamedTuple):
    """What is the same for all images: parameters; every frequency [F, 2] at every epsilon [E], in one phase."""

    params: PyTree
    frequencies: ArrayOrNumpy
    epsilons: ArrayOrNumpy
    phase: ArrayLike


class Program(NamedTuple):
    """What is compiled in; everything else may change without a new compilation."""

    predict_fn: PredictFn
    norm: str
    bounds: Bounds
    batch_size: int
    devices: tuple[jax.Device, ...] | None


class _Batches(NamedTuple):
    """Images [B, n, H, W, C] in equal batches, labels [B, n]; ``is_real`` [B, n] is False at the padding."""

    images: Array
    labels: Array
    is_real: Array


@functools.partial(jax.jit, static_argnames=("steps", "program"))
def count_all(
    setting: Setting, images: Array, labels: Array, *, steps: Steps, program: Program
) -> tuple[Int[Array, ""], Int[Array, "E F"]]:
    """Number of correct predictions on the clean images, and under each attack."""
    num_frequencies, num_epsilons = len(setting.frequencies), len(setting.epsilons)
    counts = _count(setting, images, labels, None, steps=steps, program=program)  # [S D]
    by_frequency = counts[1 : 1 + num_frequencies * num_epsilons].reshape(num_frequencies, num_epsilons)
    return counts[0], by_frequency.T


@functools.partial(jax.jit, static_argnames=("steps", "program"))
def count_part(
    setting: Setting, images: Array, labels: Array, part: Part, *, steps: Steps, program: Program
) -> Int[Array, "slots"]:
    """Number of correct predictions under the attacks of a part, in their order; what follows them is padding."""
    return _count(setting, images, labels, part, steps=steps, program=program)


def _count(
    setting: Setting, images: Array, labels: Array, part: Part | None, *, steps: Steps, program: Program
) -> Array:
    """Counts [S D] of consecutive attacks; ``part=None`` runs all steps, and their number is then compiled in."""
    batches = _in_batches(images, labels, program.batch_size)
    if program.devices is None:
        return _count_on_a_device(setting, batches, part, jnp.int32(0), steps=steps, program=program)

    def count(setting: Setting, batches: _Batches, part: Part | None) -> Array:
        device = jax.lax.axis_index(_AXIS)
        counts = _count_on_a_device(setting, batches, part, device, steps=steps, program=program)
        # [S] -> [S, D] on all devices and processes: slot s of device d holds attack s D + d.
        return jax.lax.all_gather(counts, _AXIS, axis=1)

    # Everything is copied to all devices; which attacks a device takes follows from its number alone.
    # Without check_vma=False the gathered counts would not be recognised as equal on all of them.
    whole, mesh = PartitionSpec(), _mesh(program.devices)
    everywhere = jax.shard_map(count, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False)
    return everywhere(setting, batches, part).reshape(-1)


def _count_on_a_device(
    setting: Setting, batches: _Batches, part: Part | None, device: Array, *, steps: Steps, program: Program
) -> Array:
    """Counts [S] of the attacks of one device; 0 in the slots of steps that are not run.

    Loop over batches outside and attacks inside: one batch stays in the cache for all attacks.
    """
    first, num_steps, num_last_steps = part or Part(0, steps.num_steps, int(steps.last_size > 0))

    def add_step(totals: Array, batch: _Batches, slot: Array | int, size: int) -> Array:
        """Add to the totals [S] what ``size`` attacks at once, from ``slot`` on, leave right of one batch."""
        slots = slot + jnp.arange(size)
        numbers = first + slots * steps.num_devices + device  # [size]
        count = functools.partial(_num_correct, setting, batch, program=program)
        # A vmap of one would only reshape; without it the forward pass is the user's own.
        counts = count(numbers[0])[None] if size == 1 else jax.vmap(count)(numbers)
        so_far = jax.lax.dynamic_slice_in_dim(totals, slot, size)
        return jax.lax.dynamic_update_slice_in_dim(totals, so_far + counts, slot, axis=0)

    def add_batch(totals: Array, batch: _Batches) -> tuple[Array, None]:
        size, last = steps.attacks_per_step, steps.last_size
        totals = jax.lax.fori_loop(0, num_steps, lambda i, t: add_step(t, batch, i * size, size), totals)
        if last:
            slot = num_steps * size
            totals = jax.lax.fori_loop(0, num_last_steps, lambda _, t: add_step(t, batch, slot, last), totals)
        return totals, None

    return jax.lax.scan(add_batch, jnp.zeros(steps.num_slots, jnp.int32), batches)[0]


@jax.named_scope("fourier_attack")
def _num_correct(setting: Setting, batch: _Batches, number: Array, *, program: Program) -> Array:
    """How many images of a batch are classified correctly under the attack of that number."""
    num_epsilons = len(setting.epsilons)
    # Number 0 is the clean pass; padding repeats the last attack.
    index = jnp.clip(number - 1, 0, len(setting.frequencies) * num_epsilons - 1)
    frequency = setting.frequencies[index // num_epsilons]  # [2]
    epsilon = jnp.where(number == 0, 0.0, setting.epsilons[index % num_epsilons])
    height, width, channels = batch.images.shape[1:]
    pattern = fourier_perturbation(
        frequency, (height, width, channels), epsilon, norm=program.norm, phase=setting.phase
    )
    # [n, H, W, C] + [1, H, W, C]; the pattern is made here, so that only those of one step lie in memory.
    attacked = jnp.clip(batch.images + pattern[None].astype(batch.images.dtype), *program.bounds)
    logits = program.predict_fn(setting.params, attacked)  # [n, classes]
    # argmax would take a not-a-number for the largest, and its class could look right.
    is_right = (jnp.argmax(logits, axis=-1) == batch.labels) & ~jnp.isnan(jnp.max(logits, axis=-1))
    return jnp.sum(is_right & batch.is_real, dtype=jnp.int32)


def _in_batches(images: Array, labels: Array, batch_size: int) -> _Batches:
    """Split N images into equal batches [B, n], the last one padded with zeros that do not count."""
    padding = -len(images) % batch_size
    flat = _Batches(images, labels, jnp.ones(len(images), bool))
    return jax.tree.map(
        lambda x: jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, batch_size, *x.shape[1:]), flat
    )


def _mesh(devices: tuple[jax.Device, ...]) -> Mesh:
    return Mesh(devices, (_AXIS,), axis_types=(AxisType.Auto,))


def on_devices(tree: PyTree, devices: tuple[jax.Device, ...] | None) -> PyTree:
    """Copy arrays to each of the devices, so that later calls find them there; ``None`` leaves JAX the choice.

    Arrays that are traced, or spread over several processes already, stay as they are.
    """
    sharding = NamedSharding(_mesh(devices), PartitionSpec()) if devices else None

    def put(x: ArrayLike) -> ArrayLike:
        if isinstance(x, jax.core.Tracer) or (isinstance(x, jax.Array) and not x.is_fully_addressable):
            return x
        if sharding is None or sharding.is_fully_addressable:
            return jax.device_put(x, sharding)
        if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
            return x
        # device_put would send the values to the other processes to see that they have the same.
        values = np.asarray(x)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree.map(put, tree)
