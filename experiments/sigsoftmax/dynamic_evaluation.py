"""Dynamic evaluation: a trained model goes on learning, gently, from the text that it is scored on."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.data.streams import evaluation_batches
from experiments.sigsoftmax.models import LossFn, PyTree, Window
from experiments.training.progress import ProgressReport
from experiments.training.requests import stop_if_asked
from experiments.training.task import Mean

InitialCarry = Callable[[int], PyTree]

_SEGMENTS_PER_CALL = 64  # at most, of one compiled call: enough to hide its overhead, few enough to show progress


@dataclasses.dataclass(frozen=True)
class DynamicEvaluation:
    """Settings of the RMS-scaled update with decay towards the trained parameters.

    Args:
        learning_rate: of the update, relative to a gradient of root mean square 1; at least 0.
        decay: strength of the pull back per segment, for a parameter of average statistics; at least 0.
        epsilon: added to the root mean square; above 0.
        segment: tokens between updates.
        statistics_batch: number of streams of the training set that the statistics are taken over.

    Raises:
        ValueError: a value out of range.
    """

    learning_rate: float
    decay: float
    epsilon: float
    segment: int = 5
    statistics_batch: int = 100

    def __post_init__(self) -> None:
        for name in ("learning_rate", "decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and at least 0, got {getattr(self, name)}")
        if not 0 < self.epsilon < math.inf:
            raise ValueError(f"epsilon must be finite and above 0, got {self.epsilon}")
        for name in ("segment", "statistics_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def gradient_rms(
    loss_fn: LossFn,
    params: PyTree,
    initial_carry: InitialCarry,
    tokens: np.ndarray,
    settings: DynamicEvaluation,
    *,
    label: str = "gradient statistics",
) -> PyTree:
    """Root mean square of each parameter's gradient over a text, in one pass with fixed parameters.

    RMS = sqrt(mean over segments of g^2), g the gradient of the mean loss of one segment of all streams. The code
    of MoS has the sum in place of the mean, which ties the learning rate to the length of the text.

    Args:
        loss_fn: one window's losses, without dropout of any kind; the same function each time, as it is what
            compilations are kept by.
        params: trained parameters.
        initial_carry: from a number of rows to the state before the first word.
        tokens: int [n], of the training set.
        settings: ``segment`` and ``statistics_batch`` count.
        label: shown with the progress.

    Returns:
        A tree like ``params``.

    Raises:
        ValueError: as for `evaluation_batches`.

    References:
        Krause, Kahembwe, Murray, Renals, Dynamic Evaluation of Neural Sequence Models, 2018, arXiv:1709.07432,
        section 4.
    """
    batches = evaluation_batches(tokens, settings.statistics_batch, settings.segment)
    state, segments = (jax.tree.map(jnp.zeros_like, params), initial_carry(settings.statistics_batch)), 0
    with ProgressReport(label, len(tokens) - 1, "tokens") as progress:
        for chunk in _chunks(batches):
            state = jax.block_until_ready(_add_squares(loss_fn, state, params, chunk))
            segments += int(chunk["where"].any((1, 2)).sum())
            progress.advance(int(chunk["where"].sum()))
            stop_if_asked(together=False)
    return jax.tree.map(lambda squares: jnp.sqrt(squares / segments), state[0])


def dynamic_loss(
    loss_fn: LossFn,
    params: PyTree,
    initial_carry: InitialCarry,
    tokens: np.ndarray,
    settings: DynamicEvaluation,
    *,
    rms: PyTree,
    label: str = "dynamic evaluation",
) -> Mean:
    """Score a text as one stream, segment after segment, and learn from each segment once it is scored.

    theta += decay rate (theta_0 - theta) - learning_rate g / (RMS + epsilon), where g is the gradient of the
    segment's mean loss, theta_0 the trained parameters, and rate = min(RMS / mean(RMS), 1 / decay), with the
    mean over the arrays of parameters of each one's mean, as in the authors' code.

    Args:
        loss_fn: as for `gradient_rms`.
        params: trained parameters; they stay as they are.
        initial_carry: from a number of rows to the state before the first word.
        tokens: int [n].
        settings: all but ``statistics_batch`` count.
        rms: of `gradient_rms`.
        label: shown with the progress.

    Returns:
        The summed loss in nats of all n - 1 labels, each counted once, and their number.

    Raises:
        ValueError: as for `evaluation_batches`.

    References:
        Krause et al., 2018, section 4.
    """
    numbers = settings.learning_rate, settings.decay, settings.epsilon
    trained = params, rms, _mean(rms)
    # A copy, as the update works in place.
    state, total = (jax.tree.map(jnp.array, params), initial_carry(1)), 0.0
    with ProgressReport(label, len(tokens) - 1, "tokens") as progress:
        for chunk in _chunks(evaluation_batches(tokens, 1, settings.segment)):
            state, losses = _adapt(loss_fn, state, trained, chunk, numbers)
            total += float(np.asarray(losses, np.float64).sum())
            progress.advance(int(chunk["where"].sum()))
            stop_if_asked(together=False)
    return Mean(total, len(tokens) - 1)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _add_squares(loss_fn: LossFn, state: PyTree, params: PyTree, chunk: Window) -> PyTree:
    def step(state: PyTree, segment: Window) -> tuple[PyTree, None]:
        squares, carry = state
        gradient, _, carry = _gradient(loss_fn, params, segment, carry)
        return (jax.tree.map(lambda s, g: s + g**2, squares, gradient), carry), None

    return jax.lax.scan(step, state, chunk)[0]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _adapt(
    loss_fn: LossFn, state: PyTree, trained: PyTree, chunk: Window, numbers: tuple[float, float, float]
) -> tuple[PyTree, Array]:
    """The parameters and the carry after the segments, and the loss of each segment before it was learned from."""
    (params_0, rms, mean), (learning_rate, decay, epsilon) = trained, numbers

    def update(theta: Array, theta_0: Array, gradient: Array, rms: Array) -> Array:
        pull = jnp.minimum(decay * rms / mean, 1)
        return theta + pull * (theta_0 - theta) - learning_rate * gradient / (rms + epsilon)

    def step(state: PyTree, segment: Window) -> tuple[PyTree, Array]:
        params, carry = state
        gradient, loss, carry = _gradient(loss_fn, params, segment, carry)
        return (jax.tree.map(update, params, params_0, gradient, rms), carry), loss

    return jax.lax.scan(step, state, chunk)


def _gradient(loss_fn: LossFn, params: PyTree, segment: Window, carry: PyTree) -> tuple[PyTree, Array, PyTree]:
    """The gradient of the mean loss, the summed loss, and the carry after the segment."""

    def mean_loss(params: PyTree) -> tuple[Array, tuple[Array, PyTree]]:
        where = segment["where"]
        losses, after = loss_fn(params, segment["tokens"], segment["labels"], where, carry)
        total = jnp.sum(losses, where=where)
        return total / jnp.maximum(jnp.sum(where), 1), (total, after)

    gradient, (total, after) = jax.grad(mean_loss, has_aux=True)(params)
    return gradient, total, after


@jax.jit
def _mean(rms: PyTree) -> Array:
    """Of the arrays' means; above 0 even if they are all 0, when nothing is pulled."""
    means = [jnp.mean(leaf) for leaf in jax.tree.leaves(rms)]
    mean = jnp.mean(jnp.stack(means))
    return jnp.maximum(mean, jnp.finfo(mean.dtype).tiny)


def _chunks(batches: Iterable[Window]) -> Iterator[Window]:
    """Stack segments to chunks [n, b, T] of one even n, so that few masked ones fill up the last."""
    segments = list(batches)
    calls = -(-len(segments) // _SEGMENTS_PER_CALL)
    size = -(-len(segments) // calls)
    names = ("tokens", "labels", "where")
    masked = {name: np.zeros_like(segments[0][name]) for name in names}
    segments += [masked] * (calls * size - len(segments))
    for start in range(0, len(segments), size):
        yield {name: np.stack([each[name] for each in segments[start : start + size]]) for name in names}
