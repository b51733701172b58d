"""Language modelling as a task for the trainer."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.sigsoftmax.models import LanguageModel, States
from experiments.sigsoftmax.recipes import OPTIMIZERS, Recipe
from experiments.training.devices import all_rows, local_rows
from experiments.training.task import AxisName, Batch, Mean, Metrics, StepKeys, Task, global_norm


@functools.cache
def make_task(model: LanguageModel, recipe: Recipe, learning_rate: float) -> Task:
    """A task whose batches are those of ``experiments.data.streams`` and whose state is the body's.

    Args:
        model: what is trained.
        recipe: how.
        learning_rate: for windows of ``recipe.bptt`` tokens; those of other lengths take a step in proportion.
    """

    def init(key: Array, numbers: Any) -> tuple[Any, Any]:
        del numbers
        no_tokens, no_mask = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
        variables = model.init(key, no_tokens, no_mask, model.initial_carry(1), None)
        return variables["params"], model.initial_carry(recipe.batch_size)

    def loss(
        params: Any, model_state: Any, batch: Batch, keys: StepKeys, axis_name: AxisName
    ) -> tuple[Array, tuple[Any, Metrics]]:
        states, model_state, metrics = _read_window(
            model, params, model_state, batch, keys=keys, axis_name=axis_name
        )
        mean = metrics["loss"].total / metrics["loss"].count
        penalty = activation_regularization(
            states.dropped, states.raw, batch["where"], alpha=recipe.alpha, beta=recipe.beta
        )
        return mean + penalty, (model_state, metrics)

    schedule = optax.constant_schedule(learning_rate)
    return Task(
        init=init,
        loss=loss,
        evaluate=_evaluation(model),
        optimizer=make_optimizer(recipe, schedule),
        schedule=schedule,
        describe_gradient=functools.partial(_norm_and_clipping, recipe.clip),
        start_evaluation=lambda model_state, num_rows: model.initial_carry(num_rows),
        # An integer would be divided in float32, in double precision too.
        update_scale=lambda batch: batch["length"][0].astype(jnp.result_type(float)) / recipe.bptt,
    )


def _reset(where: Array, state: Array, initial: Array) -> Array:
    """The initial state in the rows [b] where a text begins; a state may have any axes after the rows."""
    return jnp.where(where.reshape(-1, *(1,) * (state.ndim - 1)), initial, state)


@functools.cache
def _evaluation(model: LanguageModel) -> Callable[[Any, Any, Batch, AxisName], tuple[Any, Metrics]]:
    """One function per model, for both phases and whatever it is trained with."""

    def evaluate(params: Any, model_state: Any, batch: Batch, axis_name: AxisName) -> tuple[Any, Metrics]:
        _, model_state, metrics = _read_window(model, params, model_state, batch, keys=None, axis_name=axis_name)
        return model_state, metrics

    return evaluate


def _read_window(
    model: LanguageModel, params: Any, carry: Any, batch: Batch, *, keys: StepKeys | None, axis_name: AxisName
) -> tuple[States, Any, Metrics]:
    """The body's states of this device's rows of a window, the carry of all rows after it, and the loss."""
    own = local_rows(carry, len(batch["tokens"]), axis_name)
    own = jax.tree.map(functools.partial(_reset, batch["reset"]), own, model.initial_carry(len(batch["tokens"])))
    window = batch["tokens"], batch["labels"], batch["where"]
    result: Any = model.apply({"params": params}, *window, own, keys, method="token_losses")
    losses, states = result
    metrics: Metrics = {"loss": Mean(jnp.sum(losses), jnp.sum(batch["where"]))}
    return states, all_rows(states.carry, axis_name), metrics


def make_optimizer(recipe: Recipe, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Gradients are clipped to a norm, then decayed, as in the code that the recipes come from."""
    return optax.chain(
        clip_by_norm(recipe.clip),
        optax.add_decayed_weights(recipe.weight_decay),
        OPTIMIZERS[recipe.optimizer](),
        optax.scale_by_learning_rate(schedule),
    )


def clip_by_norm(largest: float) -> optax.GradientTransformation:
    """Gradients times min(1, largest / (norm + 1e-6)), the norm that of all of them together, as torch clips.

    Args:
        largest: norm.

    Example:
        >>> clip = clip_by_norm(1.0)
        >>> clipped, _ = clip.update(jnp.array([3.0, 4.0]), clip.init(None))
        >>> print(f"{clipped[0]:.4f} {clipped[1]:.4f}")
        0.6000 0.8000

    See also:
        ``optax.clip_by_global_norm``, which divides by the norm itself.
    """

    def clip(gradients: Any, params: Any) -> Any:
        del params
        factor = jnp.minimum(1, largest / (global_norm(gradients) + 1e-6))
        return jax.tree.map(lambda gradient: factor.astype(gradient.dtype) * gradient, gradients)

    return optax.stateless(clip)


def _norm_and_clipping(largest: float, gradient: Any) -> dict[str, Array]:
    """The norm before it is clipped, and whether it is: their means are the mean norm and the share of steps."""
    norm = global_norm(gradient)
    return {"gradient_norm": norm, "clipped_steps": (norm + 1e-6 > largest).astype(norm.dtype)}


def activation_regularization(dropped: Array, raw: Array, where: Array, alpha: float, beta: float) -> Array:
    """alpha mean(dropped_t^2) + beta mean((raw_{t+1} - raw_t)^2), over the elements that count.

    Args:
        dropped: last layer's output after dropout [b, T, H].
        raw: the same before dropout [b, T, H].
        where: bool [b, T], the time steps that count; a difference counts if both of its steps do.
        alpha: strength of AR.
        beta: strength of TAR.

    Returns:
        The penalty, a scalar, float32 at least; the mean of nothing is 0.

    Example:
        >>> outputs, where = jnp.array([[[1.0], [3.0], [9.0]]]), jnp.array([[True, True, False]])
        >>> print(activation_regularization(outputs, outputs, where, 2.0, 1.0))
        14.0

    References:
        Merity, McCann, Socher, Revisiting Activation Regularization for Language RNNs, 2017, arXiv:1708.01009.
    """
    wide = jnp.promote_types(raw.dtype, jnp.float32)
    dropped, raw = dropped.astype(wide), raw.astype(wide)
    both = where[:, 1:] & where[:, :-1]
    return alpha * _mean_square(dropped, where) + beta * _mean_square(raw[:, 1:] - raw[:, :-1], both)


def _mean_square(values: Array, where: Array) -> Array:
    squares = jnp.where(where[..., None], values**2, 0)
    return jnp.sum(squares) / jnp.maximum(jnp.sum(where) * values.shape[-1], 1)
