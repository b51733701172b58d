"""A state with a part for each row of the batch, such as a carried hidden state: of all rows, on every device."""

from typing import Any

import jax

from experiments.training.task import AxisName


def local_rows(state: Any, count: int, axis_name: AxisName) -> Any:
    """This device's ``count`` rows of arrays [rows of the whole batch, ...]."""
    if not axis_name:
        return state
    first = jax.lax.axis_index(axis_name) * count
    return jax.tree.map(lambda array: jax.lax.dynamic_slice_in_dim(array, first, count), state)


def all_rows(state: Any, axis_name: AxisName) -> Any:
    """The rows of all devices, joined again on each of them."""
    if not axis_name:
        return state
    return jax.lax.all_gather(state, axis_name, tiled=True)
