"""Language modelling as a task for the trainer."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.sigsoftmax.activation_regularization import activation_regularization
from experiments.sigsoftmax.models import LanguageModel, Output
from experiments.sigsoftmax.recipes import Recipe
from experiments.training.rows import all_rows, local_rows
from experiments.training.task import AxisName, Batch, Mean, Metrics, StepKeys, Task


@functools.cache
def make_task(model: LanguageModel, recipe: Recipe) -> Task:
    """A task whose batches are those of ``experiments.data.streams`` and whose state is the hidden state.

    One task, and so one compiled step, for all seeds.
    """

    def init(key: Array) -> tuple[Any, Any]:
        no_tokens, no_mask = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
        variables = model.init(key, no_tokens, no_mask, model.initial_carry(1), None)
        return variables["params"], model.initial_carry(recipe.batch_size)

    def score(
        params: Any, model_state: Any, batch: Batch, keys: StepKeys | None, axis_name: AxisName
    ) -> tuple[Output, Any, Metrics]:
        carry = local_rows(model_state, len(batch["tokens"]), axis_name)
        carry = jax.tree.map(lambda state: jnp.where(batch["reset"][:, None], 0, state), carry)
        window = batch["tokens"], batch["labels"], batch["where"]
        result: Any = model.apply({"params": params}, *window, carry, keys, method="token_losses")
        losses, output = result
        model_state = all_rows(output.carry, axis_name)
        return output, model_state, {"loss": Mean(jnp.sum(losses), jnp.sum(batch["where"]))}

    def loss(
        params: Any, model_state: Any, batch: Batch, keys: StepKeys, axis_name: AxisName
    ) -> tuple[Array, tuple[Any, Metrics]]:
        output, model_state, metrics = score(params, model_state, batch, keys, axis_name)
        mean = metrics["loss"].total / metrics["loss"].count
        penalty = activation_regularization(
            output.dropped, output.raw, batch["where"], alpha=recipe.alpha, beta=recipe.beta
        )
        return mean + penalty, (model_state, metrics)

    def evaluate(params: Any, model_state: Any, batch: Batch, axis_name: AxisName) -> tuple[Any, Metrics]:
        _, model_state, metrics = score(params, model_state, batch, None, axis_name)
        return model_state, metrics

    return Task(
        init=init,
        loss=loss,
        evaluate=evaluate,
        start_evaluation=lambda model_state, rows: model.initial_carry(rows),
        # Windows of other lengths than the usual one take a step in proportion.
        update_scale=lambda batch: batch["length"][0] / recipe.bptt,
    )


@functools.cache
def make_optimizer(recipe: Recipe, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Gradients are clipped to a norm, then decayed, as in the code that the recipes come from."""
    chain = [optax.clip_by_global_norm(recipe.clip), optax.add_decayed_weights(recipe.weight_decay)]
    if recipe.optimizer == "adam":
        chain.append(optax.scale_by_adam())
    return optax.chain(*chain, optax.scale_by_learning_rate(schedule))
