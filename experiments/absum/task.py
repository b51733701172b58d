"""Image classification with a regulariser, as a task for the trainer."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.flatten_util
import jax.numpy as jnp
import optax
from jax import Array

from experiments.absum.adversary import Adversary, overfitting
from experiments.absum.regularizers import Regularizer, absum_ratio
from experiments.training.task import AxisName, Batch, Mean, Metrics, StepKeys, Task

PADDING = 4


@functools.cache
def make_task(
    model: nn.Module,
    regularizer: Regularizer,
    image_shape: tuple[int, int, int],
    *,
    augment: bool,
    learning_rate: float,
    momentum: float,
    num_steps: int,
    adversary: Adversary | None = None,
    batch_norm_statistics: str = "global",
) -> Task:
    """A task of plain or, with an adversary, adversarial training.

    Its batches are {"images": uint8 [b, H, W, C], "labels": int32 [b]}; its number is the strength.

    The model state is {"statistics": batch statistics, "regularizer": its state}. Gradient descent with momentum,
    at a rate that rises over the first tenth of the steps and then falls to 0 along a cosine.

    With ``batch_norm_statistics="device"`` each device normalises by the mean and the variance of its own images,
    so that no layer waits for the others; the running averages are those of all devices' statistics.
    """

    def init(key: Array, strength: Array) -> tuple[Any, Any]:
        statistics = dict(model.init(key, jnp.zeros((1, *image_shape))))
        params = statistics.pop("params")
        return params, {"statistics": statistics, "regularizer": regularizer.init(params, strength)}

    def loss(
        params: Any, model_state: Any, batch: Batch, keys: StepKeys, axis_name: AxisName
    ) -> tuple[Array, tuple[Any, Metrics]]:
        statistics = model_state["statistics"]
        images = batch["images"] / 255.0
        if augment:
            images = random_crop_and_flip(keys.per_example, images)
        images = regularizer.augment(_other_keys(keys), images, model_state["regularizer"])
        if adversary is not None:
            variables = {"params": params, **statistics}
            images = adversary.attack(predict_fn(model), variables, images, batch["labels"], _attack_keys(keys))
        result: Any = model.apply(
            {"params": params, **statistics}, images, train=True,
            axis_name=axis_name if batch_norm_statistics == "global" else None,
            mutable=list(statistics), rngs={"dropout": _dropout_key(keys, axis_name)},
        )  # fmt: skip
        logits, statistics = _wide(result[0]), result[1]
        if batch_norm_statistics == "device":
            flat, unravel = jax.flatten_util.ravel_pytree(statistics)  # for one exchange, not one for each array
            statistics = unravel(jax.lax.pmean(flat, axis_name))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        metrics = _metrics(losses, logits, batch["labels"], jnp.ones_like(losses))
        penalty, state = regularizer.penalty(params, model_state["regularizer"])
        return jnp.mean(losses) + penalty, ({"statistics": statistics, "regularizer": state}, metrics)

    def after_update(params: Any, model_state: Any, learning_rate: Array, step: Array) -> Any:
        return regularizer.after_update(params, model_state["regularizer"], learning_rate, step)

    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=learning_rate,
        warmup_steps=max(1, num_steps // 10),
        decay_steps=max(2, num_steps),
    )
    return Task(
        init=init,
        loss=loss,
        evaluate=_evaluation(model, adversary),
        optimizer=optax.sgd(schedule, momentum=momentum),
        schedule=schedule,
        after_update=after_update,
        describe=lambda params: {"absum_ratio": absum_ratio(params)},
        remark=overfitting,
    )


@functools.cache
def predict_fn(model: nn.Module) -> Callable[[Any, Array], Array]:
    """``(variables, images) -> logits``, at least float32; one per model, compiled once for all its networks."""

    def predict(variables: Any, images: Array) -> Array:
        logits: Any = model.apply(variables, images)
        return _wide(logits)

    return predict


def _wide(logits: Array) -> Array:
    """Logits in float32 where they are narrower, as those of a user's own model may be."""
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


@functools.cache
def _evaluation(
    model: nn.Module, adversary: Adversary | None
) -> Callable[[Any, Any, Batch, AxisName], tuple[Any, Metrics]]:
    """One function per model and adversary, whatever else it is trained with."""
    predict = predict_fn(model)

    def evaluate(params: Any, model_state: Any, batch: Batch, axis_name: AxisName) -> tuple[Any, Metrics]:
        del axis_name
        variables, images = {"params": params, **model_state["statistics"]}, batch["images"] / 255.0
        logits = predict(variables, images)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        metrics = _metrics(losses, logits, batch["labels"], batch["weight"])
        if adversary is not None:
            attacked = predict(variables, adversary.evaluate(predict, variables, images, batch["labels"]))
            is_right = jnp.argmax(attacked, axis=-1) == batch["labels"]
            metrics["pgd_accuracy"] = Mean(jnp.sum(is_right * batch["weight"]), jnp.sum(batch["weight"]))
        return model_state, metrics

    return evaluate


def random_crop_and_flip(keys: Array, images: Array) -> Array:
    """Shift each image by up to 4 pixels, with zeros from outside, and mirror every other one.

    Args:
        keys: [N], one for each image, so that what is drawn does not depend on the number of devices.
        images: [N, H, W, C].

    Returns:
        Images of the same shape.
    """
    rows, columns, flips = jax.vmap(_crop_of)(keys)  # [N] each
    height, width = images.shape[1:3]
    select_rows, select_columns = _selection(rows, height), _selection(columns, width)
    select_columns = jnp.where(flips[:, None, None], select_columns[:, ::-1], select_columns)
    # [N, H, h], [N, h, w, C], [N, W, w] -> [N, H, W, C]. Products with one-hot matrices, exact in full precision:
    # a slice from another place in each image would be a loop over the images on an accelerator.
    precision = jax.lax.Precision.HIGHEST
    return jnp.einsum("nHh,nhwc,nWw->nHWc", select_rows, images, select_columns, precision=precision)


def _crop_of(key: Array) -> tuple[Array, Array, Array]:
    """Shift of the rows and of the columns, in -4 to 4, and whether the image is mirrored."""
    crop_key, flip_key = jax.random.split(key)
    row, column = jax.random.randint(crop_key, (2,), 0, 2 * PADDING + 1) - PADDING
    return row, column, jax.random.bernoulli(flip_key)


def _selection(shifts: Array, size: int) -> Array:
    """[N, size, size]: 1 where an output row i shows row i + shift of the image; all 0 where that lies outside."""
    rows = jnp.arange(size)
    return (rows[None, :, None] + shifts[:, None, None] == rows[None, None, :]).astype(float)


def _other_keys(keys: StepKeys) -> Array:
    """Keys [b] for a regulariser's own augmentation, unlike those of the crops.

    A split gives the same keys as ``fold_in`` with 0 and 1; those two are the crop's and the flip's.
    """
    return jax.vmap(jax.random.fold_in, (0, None))(keys.per_example, 2)


def _attack_keys(keys: StepKeys) -> Array:
    """Keys [b] for the random starts of an attack, unlike those of crops and of a regulariser."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys.per_example, 3)


def _dropout_key(keys: StepKeys, axis_name: AxisName) -> Array:
    """A module draws one mask for all its images, so each device needs a key; the masks depend on how many."""
    device = jax.lax.axis_index(axis_name) if axis_name else 0
    return jax.random.fold_in(keys.shared, device)


def _metrics(losses: Array, logits: Array, labels: Array, weight: Array) -> Metrics:
    count = jnp.sum(weight)
    is_right = jnp.argmax(logits, axis=-1) == labels
    return {
        "loss": Mean(jnp.sum(losses * weight), count),
        "accuracy": Mean(jnp.sum(is_right * weight), count),
    }
