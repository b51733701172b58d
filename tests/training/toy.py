"""A small task for the tests of the trainer: noisy linear regression with a mean of the inputs in its state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.training.phase import TrainingData
from experiments.training.task import Mean, Task

STEPS, BATCH = 5, 8
SLOPES = np.array([1.0, -2.0, 0.5], np.float32)


def examples(seed, count):
    images = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    return {"images": images, "targets": images @ SLOPES}


def epoch(number, start):
    data = examples(number, STEPS * BATCH)
    return ({k: v[i : i + BATCH] for k, v in data.items()} for i in range(start * BATCH, STEPS * BATCH, BATCH))


DATA = TrainingData(
    epoch=epoch,
    validation=lambda: [examples(99, BATCH) | {"weight": np.ones(BATCH, np.float32)}],
    units_per_epoch=STEPS * BATCH,
    count=lambda batch: BATCH,
)


def squared_errors(params, batch):
    return jnp.square(batch["images"] @ params["w"] - batch["targets"])


def loss(params, model_state, batch, keys, axis_name):
    noise = jax.vmap(jax.random.normal)(keys.per_example)
    errors = squared_errors(params, batch) * (1 + 0.1 * noise)
    model_state = {"mean": jax.lax.pmean(batch["images"].mean(0), axis_name)}
    return errors.mean(), (model_state, {"loss": Mean(errors.sum(), len(errors))})


def plain_loss(params, model_state, batch, keys, axis_name):
    errors = squared_errors(params, batch)
    return errors.mean(), (model_state, {"loss": Mean(errors.sum(), len(errors))})


def evaluate(params, model_state, batch, axis_name):
    errors = squared_errors(params, batch) * batch["weight"]
    return model_state, {"loss": Mean(errors.sum(), batch["weight"].sum())}


def make_task(width=3, rate=0.05, **changes):
    schedule = optax.constant_schedule(rate)
    fields = {
        "init": lambda key, numbers: ({"w": jax.random.normal(key, (width,))}, {"mean": jnp.zeros(3)}),
        "loss": loss,
        "evaluate": evaluate,
        "optimizer": optax.sgd(schedule, momentum=0.5),
        "schedule": schedule,
    }
    return Task(**fields | changes)


TASK = make_task()
