"""What the trainer needs to know of an experiment: a few pure functions."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
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


def unchanged(params: PyTree, learning_rate: Array) -> PyTree:
    """No step after the update."""
    del learning_rate
    return params


def _nothing(params: PyTree) -> dict[str, Array]:
    del params
    return {}


@dataclasses.dataclass(frozen=True)
class Task:
    """An experiment, as the trainer sees it. All functions are pure and are traced.

    Args:
        init: ``key -> (params, model_state)``; the state holds batch statistics and the like.
        loss: ``(params, model_state, batch, keys, axis_name) -> (loss, (model_state, metrics))``: the mean over
            the local batch, any penalty included, and metrics as local sums and counts. ``axis_name`` is the
            mapped axis, or ``()``.
        evaluate: ``(params, model_state, batch) -> metrics``; a row counts ``batch["weight"]``, 0 at padding.
        after_update: ``(params, learning_rate) -> params``, such as a proximal step; inside the compiled step.
        describe: ``params -> {name: number}``, logged after every epoch.
    """

    init: Callable[[Array], tuple[PyTree, PyTree]]
    loss: Callable[[PyTree, PyTree, Batch, StepKeys, AxisName], tuple[Array, tuple[PyTree, Metrics]]]
    evaluate: Callable[[PyTree, PyTree, Batch], Metrics]
    after_update: Callable[[PyTree, Array], PyTree] = unchanged
    describe: Callable[[PyTree], dict[str, Array]] = _nothing


def merge(first: Metrics, second: Metrics) -> Metrics:
    """Add two sets of sums and counts of the same names."""
    return jax.tree.map(lambda a, b: a + b, first, second)
