"""What the trainer needs to know of an experiment: a few pure functions, its optimiser and its schedule."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

PyTree = Any
Batch = Mapping[str, Array]
AxisName = str | tuple[()]


class Mean(NamedTuple):
    """A metric as a sum and the number of things summed, divided once at the very end."""

    total: Array | float
    count: Array | float  # type: ignore[assignment]  # hides tuple.count, which no one needs here


Metrics = dict[str, Mean]


class StepKeys(NamedTuple):
    """Randomness of one step, the same however the batch is split over devices.

    Args:
        shared: one key, for what all examples have in common.
        per_example: keys [b], one for each example of the local batch.
    """

    shared: Array
    per_example: Array


def _same_params(params: PyTree, model_state: PyTree, learning_rate: Array, step: Array) -> PyTree:
    del model_state, learning_rate, step
    return params


def _same_state(model_state: PyTree, num_rows: int) -> PyTree:
    del num_rows
    return model_state


def _one(batch: Batch) -> float:
    del batch
    return 1.0


def _nothing(params: PyTree) -> dict[str, Array]:
    del params
    return {}


def global_norm(tree: PyTree) -> Array:
    """The root of the sum of the squares of all numbers in all arrays."""
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


def _its_norm(gradient: PyTree) -> dict[str, Array]:
    return {"gradient_norm": global_norm(gradient)}


def _no_remark(lines: Sequence[dict[str, Any]]) -> None:
    del lines


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained, as the trainer sees it. All functions are pure and are traced.

    Compiled programs are kept by the task: equal settings should give the same task (``functools.cache``), so
    that another seed compiles nothing; an equal ``evaluate`` is enough for the validation.

    The model state is the same on all devices: batch statistics that were averaged over ``axis_name``, or a
    carried state of all rows of the batch (``local_rows`` and ``all_rows`` of ``experiments.training.devices``).

    Args:
        init: ``(key, numbers) -> (params, model_state)``; ``numbers`` are those of the phase, traced.
        loss: ``(params, model_state, batch, keys, axis_name) -> (loss, (model_state, metrics))``: the mean over
            the local batch, any penalty included, and metrics as local sums and counts, one of them ``loss``.
            ``axis_name`` is the mapped axis, or ``()``.
        evaluate: ``(params, model_state, batch, axis_name) -> (model_state, metrics)``, metrics as local sums
            and counts, one of them ``loss``; what is padding counts nothing.
        optimizer: made with ``schedule``.
        schedule: step count -> learning rate.
        start_evaluation: ``(model_state, num_rows) -> model_state`` before the first batch of so many rows.
        after_update: ``(params, model_state, learning_rate, step) -> params``, such as a proximal step; inside the
            compiled step.
        update_scale: ``batch -> factor`` of this step's update, equal on all devices.
        describe_gradient: ``gradient -> {name: number}``, of the mean over all devices, traced; a metric of the
            step.
        describe: ``params -> {name: number}``, logged after every epoch.
        remark: ``(metrics of each epoch so far) -> line`` to print after an epoch, or ``None``; not traced.
    """

    init: Callable[[Array, PyTree], tuple[PyTree, PyTree]]
    loss: Callable[[PyTree, PyTree, Batch, StepKeys, AxisName], tuple[Array, tuple[PyTree, Metrics]]]
    evaluate: Callable[[PyTree, PyTree, Batch, AxisName], tuple[PyTree, Metrics]]
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    start_evaluation: Callable[[PyTree, int], PyTree] = _same_state
    after_update: Callable[[PyTree, PyTree, Array, Array], PyTree] = _same_params
    update_scale: Callable[[Batch], Array | float] = _one
    describe_gradient: Callable[[PyTree], dict[str, Array]] = _its_norm
    describe: Callable[[PyTree], dict[str, Array]] = _nothing
    remark: Callable[[Sequence[dict[str, Any]]], str | None] = _no_remark


def merge(first: Metrics, second: Metrics) -> Metrics:
    """Add two sets of sums and counts of the same names."""
    return jax.tree.map(lambda a, b: a + b, first, second)


def compute(metrics: Metrics) -> dict[str, float]:
    """Divide sums by counts.

    Raises:
        ValueError: if nothing was counted.
    """
    found = jax.device_get(metrics)
    if empty := [name for name, mean in found.items() if not mean.count]:
        raise ValueError(f"no examples were counted for {', '.join(empty)}")
    return {name: float(mean.total) / float(mean.count) for name, mean in found.items()}


def add(summed: Metrics, metrics: Metrics) -> Metrics:
    """Add in double precision on the host, waiting for the step that the metrics come from."""
    found = jax.tree.map(float, jax.device_get(metrics))
    return merge(summed, found) if summed else found


def prefixed(prefix: str, values: dict[str, float]) -> dict[str, float]:
    """The values with ``prefix_`` before each name."""
    return {f"{prefix}_{name}": value for name, value in values.items()}
