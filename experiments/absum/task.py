"""Image classification with a regulariser, as a task for the trainer."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax
from jax import Array

from experiments.absum.augmentation import random_crop_and_flip
from experiments.absum.config import Train
from experiments.absum.regularizers import Regularizer, absum_ratio
from experiments.training.task import AxisName, Batch, Mean, Metrics, StepKeys, Task


def make_task(
    model: nn.Module, regularizer: Regularizer, image_shape: tuple[int, int, int], *, augment: bool
) -> Task:
    """A task whose batches are {"images": uint8 [b, H, W, C], "labels": int32 [b]}."""

    def init(key: Array) -> tuple[Any, Any]:
        variables = model.init(key, jnp.zeros((1, *image_shape)))
        params = variables.pop("params")
        return params, variables

    def loss(
        params: Any, model_state: Any, batch: Batch, keys: StepKeys, axis_name: AxisName
    ) -> tuple[Array, tuple[Any, Metrics]]:
        images = batch["images"] / 255.0
        if augment:
            images = random_crop_and_flip(keys.per_example, images)
        logits, new_model_state = model.apply(
            {"params": params, **model_state},
            images,
            train=True,
            axis_name=axis_name,
            mutable=list(model_state),
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        metrics = _metrics(losses, logits, batch["labels"], jnp.ones_like(losses))
        return jnp.mean(losses) + regularizer.penalty(params), (new_model_state, metrics)

    def evaluate(params: Any, model_state: Any, batch: Batch, axis_name: AxisName) -> tuple[Any, Metrics]:
        del axis_name
        logits: Any = model.apply({"params": params, **model_state}, batch["images"] / 255.0)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        return model_state, _metrics(losses, logits, batch["labels"], batch["weight"])

    return Task(
        init=init,
        loss=loss,
        evaluate=evaluate,
        after_update=regularizer.after_update,
        describe=lambda params: {"absum_ratio": absum_ratio(params)},
    )


def make_schedule(config: Train, steps_per_epoch: int) -> optax.Schedule:
    """Linear rise over the first tenth of the steps, then a cosine to 0."""
    steps = config.epochs * steps_per_epoch
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=max(1, steps // 10),
        decay_steps=max(2, steps),
    )


def make_optimizer(
    schedule: optax.Schedule, momentum: float, regularizer: Regularizer
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum; decoupled weight decay does not enter the momentum."""
    return optax.chain(optax.trace(decay=momentum), regularizer.decay, optax.scale_by_learning_rate(schedule))


def _metrics(losses: Array, logits: Array, labels: Array, weight: Array) -> Metrics:
    count = jnp.sum(weight)
    is_right = jnp.argmax(logits, axis=-1) == labels
    return {
        "loss": Mean(jnp.sum(losses * weight), count),
        "accuracy": Mean(jnp.sum(is_right * weight), count),
    }
