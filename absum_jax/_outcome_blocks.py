"""The compiled part of the search: which images of a batch stay correct under an attack, for many such pairs.

Sizes in the comments: N images of H x W x C pixels, in an order, in batches of n; K pairs in a block, of which
only so many are computed as there are; s of them at once in a step.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from absum_jax._attack_loop import predicted_classes
from absum_jax._types import ArrayOrNumpy, Bounds, PredictFn, PyTree

# Pairs (attack, batch) in one call: few calls, and their outcomes are small beside the images.
_BLOCK = 1024


class Problem(NamedTuple):
    """What is the same for all blocks, and traced.

    Args:
        params: of the classifier.
        images, labels: [N, H, W, C] and [N].
        perturbations: a pytree that is called with the number of an attack and gives its perturbation [H, W, C].
    """

    params: PyTree
    images: ArrayOrNumpy
    labels: ArrayOrNumpy
    perturbations: jax.tree_util.Partial


class Program(NamedTuple):
    """What is compiled in; everything else may change without a new compilation."""

    predict_fn: PredictFn
    bounds: Bounds
    batch_size: int
    attacks_per_step: int


def outcomes(problem: Problem, order: np.ndarray, pairs: np.ndarray, program: Program) -> np.ndarray:
    """Which images of a batch are classified correctly under an attack.

    Args:
        problem: what is attacked, and how.
        order: int [N], the images in their order.
        pairs: int [M, 2], numbers of an attack and of a batch of the order.
        program: what is compiled in; every call with the same runs the same program, whatever M.

    Returns:
        bool [M, n]; in the last batch arbitrary where there is no image.
    """
    found = np.zeros((len(pairs), program.batch_size), bool)
    padded = np.append(order, np.repeat(order[:1], -len(order) % program.batch_size)).astype(np.int32)
    size = -(-_BLOCK // program.attacks_per_step) * program.attacks_per_step
    for start in range(0, len(pairs), size):
        here = pairs[start : start + size].astype(np.int32)
        block = np.zeros((size, 2), np.int32)
        block[: len(here)] = here
        result = _block_outcomes(problem, padded, block, np.int32(len(here)), program=program)
        found[start : start + size] = np.asarray(result)[: len(here)]
    return found


@functools.partial(jax.jit, static_argnames="program")
def _block_outcomes(
    problem: Problem, order: Array, block: Array, count: Array, *, program: Program
) -> Bool[Array, "K n"]:
    """Outcomes of the first ``count`` pairs of a block [K, 2]; False at the others."""
    size = program.attacks_per_step
    compute = functools.partial(_outcomes_of_a_pair, problem, order, program=program)

    def step(number: Array, found: Array) -> Array:
        pairs = jax.lax.dynamic_slice_in_dim(block, number * size, size)  # [s, 2]
        # A vmap of one would only reshape; without it the forward pass is the user's own.
        new = compute(pairs[0])[None] if size == 1 else jax.vmap(compute)(pairs)  # [s, n]
        return jax.lax.dynamic_update_slice_in_dim(found, new, number * size, axis=0)

    # The number of steps is traced: a short block is the same program and costs no more than its pairs.
    return jax.lax.fori_loop(
        0, (count + size - 1) // size, step, jnp.zeros((len(block), program.batch_size), bool)
    )


@jax.named_scope("universal_attack")
def _outcomes_of_a_pair(problem: Problem, order: Array, pair: Array, *, program: Program) -> Array:
    """Bool [n] for one attack and one batch."""
    attack, batch = pair
    numbers = jax.lax.dynamic_slice_in_dim(order, batch * program.batch_size, program.batch_size)  # [n]
    images, labels = problem.images[numbers], problem.labels[numbers]  # [n, H, W, C], [n]
    pattern = problem.perturbations(attack)[None]  # [1, H, W, C]
    # By the function of the sweep, whose counts an exact search gives.
    return predicted_classes(program.predict_fn, problem.params, images, pattern, bounds=program.bounds) == labels
