"""The one training step of the project, compiled with ``jax.pmap`` or, unmapped, with ``jax.jit``.

Forward, loss with its penalty, gradient mean over devices, optimiser update and proximal step are one compiled
program, and the state is donated to it. The state is not stacked per device: it has the same tree, and the same
checkpoints, on any number of devices.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.training.averaging import Average, Averaging, start_average, update_average
from experiments.training.devices import replicated
from experiments.training.task import AxisName, Batch, Mean, Metrics, StepKeys, Task

AXIS = "data"
REQUESTS = (
    "requests"  # of the processes: an entry [n] of a batch may hold them, and their sums are with the metrics
)


class TrainState(flax.struct.PyTreeNode):
    """Everything that a step changes, and the data of the key that it does not; plain arrays only."""

    params: Any
    model_state: Any
    opt_state: Any
    step: Array
    key_data: Array
    average: Average | None = None

    @property
    def evaluated_params(self) -> Any:
        """The average of the parameters where there is one, else the parameters."""
        return self.params if self.average is None else self.average.params


Step = Callable[[TrainState, Mapping[str, Any]], tuple[TrainState, Metrics]]
Devices = tuple[jax.Device, ...]
EvaluationStep = Callable[[Any, Any, Mapping[str, Any]], tuple[Any, Metrics]]


def create_state(
    task: Task,
    seed: int,
    devices: Sequence[jax.Device],
    *,
    numbers: Any = None,
    averaging: Averaging | None = None,
    initial_params: Any = None,
) -> TrainState:
    """The state before the first step, on every device; equal seeds give equal states.

    Args:
        task: what is trained.
        seed: of the initialisation and of all randomness in the steps.
        devices: that hold the state.
        numbers: traced settings for ``task.init``.
        averaging: keep an average of the parameters.
        initial_params: parameters (host values) to start from, in place of those of ``task.init``.
    """
    averages, from_start = averaging is not None, averaging is not None and averaging.from_start
    return _compiled_creation(task, tuple(devices), averages, from_start)(seed, numbers, initial_params)


@functools.cache
def _compiled_creation(
    task: Task, devices: Devices, averages: bool, from_start: bool
) -> Callable[[int, Any, Any], TrainState]:
    def create(seed: Array, numbers: Any, given: Any) -> TrainState:
        init_key, step_key = jax.random.split(jax.random.key(seed))
        params, model_state = task.init(init_key, numbers)
        params = params if given is None else given
        average = start_average(params, active=from_start) if averages else None
        step, key_data = jnp.zeros((), jnp.int32), jax.random.key_data(step_key)
        return TrainState(params, model_state, task.optimizer.init(params), step, key_data, average)

    # Laid out as the compiled step returns it, so that its first call is like the rest; made in place, as an array
    # of one process cannot be copied to the devices of another.
    return jax.jit(create, out_shardings=replicated(devices))


def begin_average(average: Average, devices: Sequence[jax.Device]) -> Average:
    """The average, active: the next step is the first that counts."""
    is_active = jax.jit(lambda: jnp.asarray(True), out_shardings=replicated(devices))()
    return average.replace(is_active=is_active)


@jax.jit
def all_finite(params: Any) -> Array:
    """Whether no parameter is infinite or not a number."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)]))


def train_step(
    task: Task, state: TrainState, batch: Batch, *, axis_name: AxisName = ()
) -> tuple[TrainState, Metrics]:
    """One update.

    Args:
        task: what is trained.
        state: donated when compiled; do not use it afterwards.
        batch: arrays [b, ...], the local part of the batch; all parts are of one size.
        axis_name: the mapped axis, or ``()`` when nothing is mapped.

    Returns:
        The new state, equal on all devices, and the metrics of the whole batch as sums and counts.
    """
    batch, requests = _without_requests(batch)
    keys = _step_keys(state, len(jax.tree.leaves(batch)[0]), axis_name)

    def mean_loss(params: Any) -> tuple[Array, tuple[Any, Metrics]]:
        with jax.named_scope("loss"):
            loss, aux = task.loss(params, state.model_state, batch, keys, axis_name)
        # Averaging here and again below is the one form whose gradient is right under jit, pmap and shard_map.
        return jax.lax.pmean(loss, axis_name), aux

    grads, (model_state, metrics) = jax.grad(mean_loss, has_aux=True)(state.params)
    grads = jax.lax.pmean(grads, axis_name)
    with jax.named_scope("optimizer"):
        updates, opt_state = task.optimizer.update(grads, state.opt_state, state.params)
        scale = task.update_scale(batch)
        updates = jax.tree.map(lambda update: scale * update, updates)
        params = optax.apply_updates(state.params, updates)
    with jax.named_scope("after_update"):
        params = task.after_update(params, model_state, scale * task.schedule(state.step), state.step)
    new_state = state.replace(
        params=params,
        model_state=model_state,
        opt_state=opt_state,
        step=state.step + 1,
        average=None if state.average is None else update_average(state.average, params),
    )
    of_gradient = {name: Mean(value, jnp.ones(())) for name, value in task.describe_gradient(grads).items()}
    return new_state, jax.lax.psum(metrics | requests, axis_name) | of_gradient


def compile_step(task: Task, *, devices: Sequence[jax.Device] | None = None, mapped: bool = True) -> Step:
    """The step, compiled over devices; batches are [devices, b, ...], or [b, ...] with ``mapped=False``.

    Args:
        task: what is trained.
        devices: to map over; ``None`` takes all, of all processes.
        mapped: False compiles the same function for one device with ``jax.jit``.
    """
    if not mapped:
        return jax.jit(functools.partial(train_step, task), donate_argnums=0)
    return _mapped_step(task, None if devices is None else tuple(devices))


@functools.cache
def _mapped_step(task: Task, devices: Devices | None) -> Step:
    """Kept, so that a second run of the same task compiles nothing."""
    step = functools.partial(train_step, task, axis_name=AXIS)
    return jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0, devices=devices)


def compile_evaluation(task: Task, *, devices: Sequence[jax.Device] | None = None) -> EvaluationStep:
    """``(params, model_state, batch [devices, b, ...]) -> (model_state, metrics)`` of the whole batch."""
    return _mapped_evaluation(task.evaluate, None if devices is None else tuple(devices))


@functools.cache
def _mapped_evaluation(evaluate: Callable[..., tuple[Any, Metrics]], devices: Devices | None) -> EvaluationStep:
    """Kept by the function alone, which tasks of one model share."""

    def mapped(params: Any, model_state: Any, batch: Batch) -> tuple[Any, Metrics]:
        batch, requests = _without_requests(batch)
        model_state, metrics = evaluate(params, model_state, batch, AXIS)
        return model_state, jax.lax.psum(metrics | requests, AXIS)

    return jax.pmap(mapped, AXIS, in_axes=(None, None, 0), out_axes=None, devices=devices)


def _without_requests(batch: Batch) -> tuple[Batch, Metrics]:
    """The batch as the task knows it, and what it holds besides as a metric."""
    requests = {REQUESTS: Mean(batch[REQUESTS], jnp.ones(()))} if REQUESTS in batch else {}
    return {name: values for name, values in batch.items() if name != REQUESTS}, requests


def _step_keys(state: TrainState, local_size: int, axis_name: AxisName) -> StepKeys:
    """Keys by step and by row of the whole batch, so that no key depends on the number of devices."""
    key = jax.random.wrap_key_data(state.key_data)
    shared, base = jax.random.split(jax.random.fold_in(key, state.step))
    first_row = jax.lax.axis_index(axis_name) * local_size if axis_name else 0
    rows = first_row + jnp.arange(local_size)
    return StepKeys(shared, jax.vmap(jax.random.fold_in, in_axes=(None, 0))(base, rows))
