"""The compiled loop of the sweep: correct predictions under each of many universal Fourier perturbations.

Sizes in the comments: N images of H x W x C pixels in B batches of n; F frequencies in P phases at E epsilons;
D devices with S slots each, the places for their attacks (``_attack_plan``).
"""

import functools
import math
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
    """What is the same for all images.

    Args:
        params: of the network.
        frequencies, phases, epsilons: [F, 2], [] or [P], and [E]; there is an attack for each triple.
        signs: the key of random signs; ``None`` adds the same pattern to all images and channels.
    """

    params: PyTree
    frequencies: ArrayOrNumpy
    phases: ArrayOrNumpy
    epsilons: ArrayOrNumpy
    signs: Array | None


class Program(NamedTuple):
    """What is compiled in; everything else may change without a new compilation."""

    predict_fn: PredictFn
    norm: str
    bounds: Bounds
    batch_size: int
    devices: tuple[jax.Device, ...] | None


class _Batches(NamedTuple):
    """Images [B, n, H, W, C] in equal batches; labels and indices [B, n], the label -2 at the padding."""

    images: Array
    labels: Array
    indices: Array


@functools.partial(jax.jit, static_argnames=("steps", "program"))
def count_all(
    setting: Setting, images: Array, labels: Array, *, steps: Steps, program: Program
) -> tuple[Int[Array, ""], Int[Array, "E *P F"]]:
    """Number of correct predictions on the clean images, and under each attack."""
    shape = len(setting.frequencies), *setting.phases.shape, len(setting.epsilons)
    counts = _count(setting, images, labels, None, steps=steps, program=program)  # [S D]
    return counts[0], counts[1 : 1 + math.prod(shape)].reshape(shape).T  # [F, *P, E] as they are numbered


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
    # The pattern is made here, so that only those of one step lie in memory.
    perturbation = _perturbation(setting, batch, number, norm=program.norm)
    classes = predicted_classes(
        program.predict_fn, setting.params, batch.images, perturbation, bounds=program.bounds
    )
    return jnp.sum(classes == batch.labels, dtype=jnp.int32)


def _perturbation(setting: Setting, batch: _Batches, number: Array, *, norm: str) -> Array:
    """The perturbation of that number: [1, H, W, C], or [n, H, W, C] with a sign for each image and channel."""
    num_phases, num_epsilons = setting.phases.size, len(setting.epsilons)
    # Number 0 is the clean pass; padding repeats the last attack.
    index = jnp.clip(number - 1, 0, len(setting.frequencies) * num_phases * num_epsilons - 1)
    frequency = setting.frequencies[index // (num_phases * num_epsilons)]  # [2]
    phase = jnp.asarray(setting.phases).reshape(-1)[index // num_epsilons % num_phases]
    epsilon = jnp.where(number == 0, 0.0, setting.epsilons[index % num_epsilons])
    height, width, channels = batch.images.shape[1:]
    if setting.signs is None:
        return fourier_perturbation(frequency, (height, width, channels), epsilon, norm=norm, phase=phase)[None]
    channel = fourier_perturbation(frequency, (height, width, 1), epsilon, norm=norm, phase=phase)  # [H, W, 1]
    signs = _random_signs(setting.signs, frequency, batch.indices, channels)  # [n, C]
    return signs[:, None, None] * channel[None]


def _random_signs(key: Array, frequency: Array, indices: Array, num_channels: int) -> Array:
    """Signs [n, C] of the images with these indices, the same whatever is drawn beside them."""
    # Other generators than threefry draw differently under vmap: from batch to batch.
    key = jax.random.key(jax.random.bits(key, dtype=np.uint32), impl="threefry2x32")
    key = jax.random.fold_in(jax.random.fold_in(key, frequency[0]), frequency[1])
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices)
    # The first bit of integers: what is drawn by way of floats would change with the default precision.
    bits = jax.vmap(lambda key: jax.random.bits(key, (num_channels,), dtype=np.uint32))(keys)
    return jnp.where(bits >> 31 == 0, 1.0, -1.0)


def predicted_classes(
    predict_fn: PredictFn, params: PyTree, images: Array, perturbation: Array, *, bounds: Bounds
) -> Int[Array, "n"]:
    """Classes of images [n, H, W, C] under a perturbation [n or 1, H, W, C]; -1 where a logit is not a number."""
    attacked = jnp.clip(images + perturbation.astype(images.dtype), *bounds)
    logits = predict_fn(params, attacked)  # [n, classes]
    # argmax would take a not-a-number for the largest, and its class could look right.
    return jnp.where(jnp.isnan(jnp.max(logits, axis=-1)), -1, jnp.argmax(logits, axis=-1)).astype(jnp.int32)


def _in_batches(images: Array, labels: Array, batch_size: int) -> _Batches:
    """Split N images into equal batches [B, n], the last one padded with images of a label that is no class."""
    indices = jnp.arange(len(images))
    in_batches = functools.partial(padded_batches, batch_size=batch_size)
    # Labels may be bytes, which could not hold the padding.
    return _Batches(in_batches(images), in_batches(labels.astype(jnp.int32), fill=-2), in_batches(indices))


def padded_batches(x: Array, *, batch_size: int, fill: int = 0) -> Array:
    """Split [N, ...] into equal batches [B, n, ...], the last one filled up."""
    padding = [(0, -len(x) % batch_size)] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, padding, constant_values=fill).reshape(-1, batch_size, *x.shape[1:])


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
