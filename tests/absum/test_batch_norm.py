"""Batch normalisation by the statistics of the whole batch, or of each device's part, on eight devices."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.absum.__main__ import main
from experiments.absum.regularizers import REGULARIZERS
from experiments.absum.task import make_task
from experiments.training.step import compile_step, create_state
from tests.absum.settings import SMALL
from tests.command_line import error_line

fails = functools.partial(error_line, main)

SHAPE, DEVICES, EACH = (4, 4, 2), 8, 3
EPSILON = 1e-5  # flax's


class Normalized(nn.Module):
    """Two batch normalisations, and logits that are linear in the mean of the second's squares."""

    @nn.compact
    def __call__(self, images, *, train=False, axis_name=None):
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, axis_name=axis_name)
        x = norm(name="first")(images)
        x = norm(name="second")(x**2)
        return nn.Dense(3, kernel_init=nn.initializers.constant(0.5), name="last")((x**3).mean((1, 2)))


def normalized(x):
    """In float64, with the statistics: of all images that are given."""
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / np.sqrt(var + EPSILON), {"mean": mean, "var": var}


def reference(images, labels):
    """The loss of one device's images, and the statistics of both layers."""
    x, first = normalized(images)
    x, second = normalized(x**2)
    logits = np.repeat(0.5 * (x**3).mean((1, 2)).sum(-1, keepdims=True), 3, -1)
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(labels)), labels]
    return losses.mean(), {"first": first, "second": second}


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    # Each device's images are of another brightness, so that it matters whose statistics are taken.
    most = np.linspace(60, 256, DEVICES)[:, None, None, None, None]
    images = (rng.random((DEVICES, EACH, *SHAPE)) * most).astype(np.uint8)
    return {"images": images, "labels": rng.integers(0, 3, (DEVICES, EACH), dtype=np.int32)}


@functools.cache
def task(statistics):
    options = {"augment": False, "learning_rate": 0.5, "momentum": 0.9, "num_steps": 40}
    return make_task(Normalized(), REGULARIZERS["none"], SHAPE, **options, batch_norm_statistics=statistics)


def lowered(statistics, batch):
    state = create_state(task(statistics), 0, jax.devices(), numbers=jnp.float32(0))
    return state, compile_step(task(statistics), devices=jax.devices()).lower(state, batch)


@pytest.mark.devices(8)
@pytest.mark.parametrize("statistics", ["global", "device"])
def test_the_statistics_are_those_of_numpy(statistics, batch):
    images, labels = batch["images"] / 255.0, batch["labels"]
    if statistics == "global":
        parts = [reference(images.reshape(-1, *SHAPE), labels.ravel())]
    else:
        parts = [reference(*part) for part in zip(images, labels, strict=True)]
    state, program = lowered(statistics, batch)
    after, metrics = program.compile()(state, batch)
    loss = float(metrics["loss"].total / metrics["loss"].count)
    # float32; an epsilon beside small variances makes the difference of two numbers near 1 matter.
    np.testing.assert_allclose(loss, np.mean([loss for loss, _ in parts]), rtol=1e-4)
    for layer in ("first", "second"):
        for name, start in (("mean", 0), ("var", 1)):
            expected = 0.9 * start + 0.1 * np.mean([found[layer][name] for _, found in parts], 0)
            running = after.model_state["statistics"]["batch_stats"][layer][name]
            np.testing.assert_allclose(running, expected, rtol=1e-4)
            assert {shard.data.tobytes() for shard in running.addressable_shards} == {
                np.asarray(running).tobytes()
            }


@pytest.mark.devices(8)
def test_no_layer_waits_for_the_other_devices(batch):
    exchanges = {name: lowered(name, batch)[1].as_text().count("all_reduce") for name in ("global", "device")}
    # Two layers forward and one back, as no parameter lies before the first, against one exchange of all running
    # statistics.
    assert exchanges["device"] == exchanges["global"] - 3 + 1


def test_mistakes_are_one_line(capsys):
    command = ["train", *SMALL, "--regularizer", "none", "--out", "net", "--batch-norm-statistics"]
    assert "must be one of global, device, got 'local'" in fails(capsys, *command, "local")
    message = fails(capsys, *command, "device")
    assert "must be global for a model without batch normalisation, such as narrow, got device" in message
