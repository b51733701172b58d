"""The compiled loop of the sweep: correct predictions under each of many universal Fourier perturbations."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Int

from absum_jax.fourier import fourier_perturbation

PredictFn = Callable[[Any, Array], Array]
Attacks = tuple[Array, Array]  # frequencies [A, 2] and epsilons [A]


class Problem(NamedTuple):
    """What every attack is tried on: a model's parameters, images [N, H, W, C], labels [N] and two numbers."""

    params: Any
    images: Array
    labels: Array
    phase: ArrayLike
    bounds: tuple[ArrayLike, ArrayLike]


class _Batches(NamedTuple):
    """Images in equal batches [B, n, ...]; ``is_real`` [B, n] is False at the padding."""

    images: Array
    labels: Array
    is_real: Array


@functools.partial(jax.jit, static_argnames=("predict_fn", "norm", "batch_size", "attacks_per_step", "devices"))
def count_correct(
    problem: Problem,
    attacks: Attacks,
    *,
    predict_fn: PredictFn,
    norm: str,
    batch_size: int,
    attacks_per_step: int,
    devices: tuple[jax.Device, ...] | None,
) -> Int[Array, "A"]:
    """Number of correct predictions under each attack; the arguments are those of ``fourier_sweep``."""
    batches = _batches(problem.images, problem.labels, batch_size)

    def count(attacks: Attacks, problem: Problem, batches: _Batches) -> Array:
        return _count(
            functools.partial(_num_correct, predict_fn, norm), attacks, problem, batches, attacks_per_step
        )

    if devices is not None:
        count = _over_devices(count, devices)
    num_attacks = len(attacks[0])
    padding = -num_attacks % (attacks_per_step * (len(devices) if devices else 1))
    padded = jax.tree.map(lambda x: jnp.concatenate([x, jnp.repeat(x[-1:], padding, axis=0)]), attacks)
    # Images are an argument here as well as inside the batches, so drop them before they are sent twice.
    return count(padded, problem._replace(images=None, labels=None), batches)[:num_attacks]


def _count(
    num_correct: Callable, attacks: Attacks, problem: Problem, batches: _Batches, attacks_per_step: int
) -> Array:
    """Loop over batches outside and attacks inside: one batch stays in the cache for all attacks."""

    def add_batch(totals: Array, batch: _Batches) -> tuple[Array, None]:
        one = functools.partial(num_correct, problem, batch)
        # A vmap of one would only reshape; without it the forward pass is the user's own.
        batch_size = attacks_per_step if attacks_per_step > 1 else None
        return totals + jax.lax.map(one, attacks, batch_size=batch_size), None

    start = jnp.zeros(len(attacks[0]), jnp.int32)
    return jax.lax.scan(add_batch, start, batches)[0]


def _num_correct(predict_fn: PredictFn, norm: str, problem: Problem, batch: _Batches, attack: Attacks) -> Array:
    frequency, epsilon = attack
    pattern = fourier_perturbation(frequency, batch.images.shape[1:], epsilon, norm=norm, phase=problem.phase)
    attacked = jnp.clip(batch.images + pattern[None].astype(batch.images.dtype), *problem.bounds)
    logits = predict_fn(problem.params, attacked)
    # argmax would take a not-a-number for the largest, and class 0 would look right.
    is_right = (jnp.argmax(logits, axis=-1) == batch.labels) & ~jnp.any(jnp.isnan(logits), axis=-1)
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


def _over_devices(count: Callable, devices: tuple[jax.Device, ...]) -> Callable:
    """Split the attacks over devices, everything else copied; all devices and processes get all counts."""
    mesh = Mesh(devices, ("attack",), axis_types=(AxisType.Auto,))
    split, whole = PartitionSpec("attack"), PartitionSpec()

    def gathered(attacks: Attacks, problem: Problem, batches: _Batches) -> Array:
        return jax.lax.all_gather(count(attacks, problem, batches), "attack", tiled=True)

    # Without check_vma=False the gathered counts would not be recognised as equal on all devices.
    return jax.shard_map(gathered, mesh=mesh, in_specs=(split, whole, whole), out_specs=whole, check_vma=False)
