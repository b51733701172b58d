"""The loop of projected gradient descent: a compiled one, or compiled steps that Python calls.

Images are [N, H, W, C]; goals are integers [N], the targets where the attack is targeted and the labels elsewhere.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from absum_jax._norm_balls import project, random_offset, steepest_ascent
from absum_jax._types import AttackLoss, Bounds, Key, PredictFn, PyTree


class Problem(NamedTuple):
    """Operands of every step, among them the parameters: a loop that closes over them is slower.

    Args:
        params: of the classifier.
        epsilon, step_size: one number each.
        images, goals: what is attacked.
    """

    params: PyTree
    epsilon: Array
    step_size: Array
    images: Array
    goals: Array


class Program(NamedTuple):
    """What is compiled in; everything else may change without a new compilation.

    Args:
        predict_fn, loss_fn, norm, bounds: as in :func:`pgd`.
        targeted: whether the goals are to be reached, not to be left.
        stop_at_success: whether images that fool are left as they are.
    """

    predict_fn: PredictFn
    loss_fn: AttackLoss
    norm: str
    bounds: Bounds
    targeted: bool
    stop_at_success: bool


class Loop(NamedTuple):
    """How often; compiled in where the loop is.

    Args:
        num_steps, num_restarts: as in :func:`pgd`.
        unroll: steps in one turn of a compiled loop; 0 for no such loop.
    """

    num_steps: int
    num_restarts: int
    unroll: int


class _Attacked(NamedTuple):
    """Images, whether each is left as it is [N], and the loss [N] that was reached by an earlier restart."""

    images: Array
    is_done: Array
    loss: Array


def attack(problem: Problem, key: Key | None, *, program: Program, loop: Loop) -> Float[Array, "N H W C"]:
    """The best of all restarts for each image; from the clean images if there is no key."""
    # A constant for whoever differentiates: else the outer gradient would store every step.
    problem = jax.lax.stop_gradient(problem)
    return (_compiled_attack if loop.unroll else _attack)(problem, key, program=program, loop=loop)


def _attack(problem: Problem, key: Key | None, *, program: Program, loop: Loop) -> Array:
    def step(state: _Attacked, _: Array | int) -> _Attacked:
        return _step(problem, state, program=program)

    def climb(best: _Attacked, number: Array | int) -> _Attacked:
        start = best if key is None else _random_start(problem, best, key, number, program=program)
        return _repeat(step, start, loop.num_steps, loop.unroll)

    def restart(best: _Attacked, number: Array | int) -> _Attacked:
        return _better(problem, best, climb(best, number), program=program)

    # Without a random start the first step sees the clean images.
    untouched = _unseen(problem) if key is None or not program.stop_at_success else _seen(problem, program=program)
    if loop.num_restarts == 1:
        return climb(untouched, 0).images  # with nothing to compare it to, a forward pass less
    return _repeat(restart, untouched, loop.num_restarts, min(loop.unroll, 1)).images


_compiled_attack = jax.jit(_attack, static_argnames=("program", "loop"))


def _repeat(
    function: Callable[[_Attacked, Array | int], _Attacked], state: _Attacked, count: int, unroll: int
) -> _Attacked:
    """Call ``function(state, number)`` for the numbers below ``count``, in a compiled loop unless unroll is 0."""
    if unroll == 0:
        for number in range(count):
            state = function(state, number)
        return state
    numbers = jnp.arange(count)
    return jax.lax.scan(lambda state, number: (function(state, number), None), state, numbers, unroll=unroll)[0]


@jax.jit
def _unseen(problem: Problem) -> _Attacked:
    """The clean images, none of which is known to fool."""
    # False, and split over devices as the goals are, which constants would not be.
    is_done = problem.goals < jnp.iinfo(problem.goals.dtype).min
    return _Attacked(problem.images, is_done, jnp.where(is_done, jnp.inf, -jnp.inf).astype(problem.images.dtype))


@functools.partial(jax.jit, static_argnames=("program",))
def _seen(problem: Problem, *, program: Program) -> _Attacked:
    """The clean images; those that fool as they are will stay as they are."""
    is_done = _is_done(_logits(problem, problem.images, program), problem, program)
    return _unseen(problem)._replace(is_done=is_done)


@functools.partial(jax.jit, static_argnames=("program",))
def _random_start(
    problem: Problem, best: _Attacked, key: Key, number: Array | int, *, program: Program
) -> _Attacked:
    """Random points of the balls, except for images that fool already."""
    images = problem.images

    def offset_of(key: Key) -> Array:
        return random_offset(jax.random.fold_in(key, number), images.shape[1:], problem.epsilon, program.norm)

    offsets = jax.vmap(offset_of)(_keys_of_rows(key, len(images)))
    started = project(images + offsets, images, problem.epsilon, program.norm, program.bounds)
    return best._replace(images=_select(best.is_done, best.images, started))


def _keys_of_rows(key: Key, num_images: int) -> Key:
    """A typed key for each image: those given, or ``fold_in(key, row)``."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    if key.ndim:
        return jax.vmap(_threefry)(key)
    return jax.vmap(jax.random.fold_in, (None, 0))(_threefry(key), jnp.arange(num_images))


def _threefry(key: Key) -> Key:
    """The key as one of threefry: other generators draw differently under vmap, from batch to batch."""
    first, *further = jnp.split(jax.random.key_data(key), [2])
    threefry = jax.random.wrap_key_data(first, impl="threefry2x32")
    for word in further[0]:
        threefry = jax.random.fold_in(threefry, word)
    return threefry


@functools.partial(jax.jit, static_argnames=("program",))
@jax.named_scope("gradient_attack")
def _step(problem: Problem, state: _Attacked, *, program: Program) -> _Attacked:
    """One step of steepest ascent, projected back; an image that fools moves no more."""

    def total_loss(images: Array) -> tuple[Array, Array]:
        logits = _logits(problem, images, program)  # [N, classes]
        return jnp.sum(_loss(logits, problem, program)), logits

    # The logits that the gradient needs anyway tell which images fooled before this step.
    gradients, logits = jax.grad(total_loss, has_aux=True)(state.images)
    is_done = state.is_done | _is_done(logits, problem, program)
    direction = steepest_ascent(gradients, state.images, problem.images, program.norm, program.bounds)
    moved = state.images + problem.step_size * direction
    moved = project(moved, problem.images, problem.epsilon, program.norm, program.bounds)
    return state._replace(images=_select(is_done, state.images, moved), is_done=is_done)


@functools.partial(jax.jit, static_argnames=("program",))
def _better(problem: Problem, best: _Attacked, found: _Attacked, *, program: Program) -> _Attacked:
    """Image by image: what fools, else what has the larger loss."""
    logits = _logits(problem, found.images, program)  # after the last step
    is_done = found.is_done | _is_done(logits, problem, program)
    loss = _loss(logits, problem, program).astype(best.loss.dtype)
    # Not if both fool, which are the same image then, nor at not-a-number. An infinite loss is less than to fool.
    is_better = (is_done & ~best.is_done) | (~is_done & (loss > best.loss))
    images = _select(is_better, found.images, best.images)
    return _Attacked(images, is_done, jnp.where(is_better, loss, best.loss))


def _logits(problem: Problem, images: Array, program: Program) -> Float[Array, "N classes"]:
    """In float32 at least, so that neither losses nor their gradients are rounded further."""
    logits = program.predict_fn(problem.params, images)
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def _loss(logits: Array, problem: Problem, program: Program) -> Float[Array, "N"]:
    """What is raised: the loss of the labels, or minus that of the targets."""
    loss = program.loss_fn(logits, problem.goals)
    return -loss if program.targeted else loss


def _is_done(logits: Array, problem: Problem, program: Program) -> Bool[Array, "N"]:
    """Whether an image is left alone: its target was reached, or its label left.

    Not-a-number logits are no prediction, as in the sweep.
    """
    if not program.stop_at_success:
        return jnp.zeros_like(problem.goals, bool)
    is_goal = (jnp.argmax(logits, axis=-1) == problem.goals) & ~jnp.isnan(jnp.max(logits, axis=-1))
    return is_goal if program.targeted else ~is_goal


def _select(condition: Array, images: Array, others: Array) -> Float[Array, "N H W C"]:
    """Images where the condition [N] holds, the others elsewhere."""
    return jnp.where(condition[:, None, None, None], images, others)
