"""Networks computed in bfloat16: what is rounded, what stays float32, and how far the gradient is from its own."""

import functools
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.absum.__main__ import main
from experiments.absum.models import MODELS, LeNet, Model, ResNet
from experiments.absum.regularizers import REGULARIZERS
from experiments.absum.run import build_model, open_run
from experiments.absum.task import make_task, predict_fn
from experiments.training.task import StepKeys
from tests.absum.settings import SMALL
from tests.command_line import error_line, read

fails = functools.partial(error_line, main)

SHAPE = (16, 16, 1)
KINDS = {
    "lenet": functools.partial(LeNet, features=(4, 6, 20)),
    "resnet": functools.partial(ResNet, width=4, blocks=(1,)),
}


@functools.cache
def network(kind, dtype):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, kind, Model(KINDS[kind]))
        return build_model(kind, "absum", 10, (0.3,), (0.3,), dtype)


@functools.cache
def task(kind, dtype):
    options = {"augment": False, "learning_rate": 0.1, "momentum": 0.9, "num_steps": 10}
    return make_task(network(kind, dtype), REGULARIZERS["none"], SHAPE, **options)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, *SHAPE), dtype=np.uint8)
    return {"images": jnp.asarray(images), "labels": jnp.asarray(rng.integers(0, 10, 32), jnp.int32)}


@functools.cache
def initial(kind):
    return jax.jit(task(kind, "float32").init)(jax.random.key(0), jnp.float32(0.01))


def objective(kind, dtype, params, state, batch):
    shared, base = jax.random.split(jax.random.key(1))
    return task(kind, dtype).loss(params, state, batch, StepKeys(shared, jax.random.split(base, 32)), ())


def gradient(kind, dtype, batch):
    found = jax.jit(jax.value_and_grad(functools.partial(objective, kind, dtype), has_aux=True))
    return found(*initial(kind), batch)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


def dtypes(tree):
    return {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}


def test_parameters_statistics_losses_and_gradients_are_float32(kind, batch):
    made = jax.eval_shape(task(kind, "bfloat16").init, jax.random.key(0), jnp.float32(0.01))
    function = jax.value_and_grad(functools.partial(objective, kind, "bfloat16"), has_aux=True)
    assert dtypes((made, jax.eval_shape(function, *made, batch))) == {"float32"}


def test_all_layers_but_the_last_are_products_of_bfloat16(kind, batch):
    params, state = initial(kind)
    variables = {"params": params, **state["statistics"]}
    program = jax.make_jaxpr(predict_fn(network(kind, "bfloat16")))(variables, batch["images"] / 255.0)
    products = [
        tuple(str(each.aval.dtype) for each in eqn.invars)
        for eqn in program.jaxpr.eqns
        if eqn.primitive.name in ("conv_general_dilated", "dot_general")
    ]
    assert len(products) > 3
    assert set(products[:-1]) == {("bfloat16", "bfloat16")}
    # Rounded to 8 bits, many logits would be equal, and the first of them would win.
    assert products[-1] == ("float32", "float32")
    assert program.out_avals[0].dtype == jnp.float32


def test_the_gradient_is_that_of_float32_but_for_rounding(kind, batch):
    (loss, _), found = gradient(kind, "bfloat16", batch)
    (expected_loss, _), expected = gradient(kind, "float32", batch)
    # Each number is rounded by up to 2^-9 of itself wherever a layer takes or gives one, about ten times on the
    # way forward and back: 2 %, and twice as much again where rectifiers and maxima take the other branch.
    np.testing.assert_allclose(loss, expected_loss, rtol=10 * 2**-9)
    one, other = (np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (found, expected))
    assert 0 < np.linalg.norm(one - other) < 30 * 2**-9 * np.linalg.norm(other)


class Plain(nn.Module):
    """A user's own model without a field dtype."""

    num_classes: int
    mean: tuple
    std: tuple

    @nn.compact
    def __call__(self, images, *, train=False, axis_name=None):
        return nn.Dense(self.num_classes)(images.mean((1, 2)))


def test_a_model_that_cannot_be_computed_so_is_refused(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(MODELS, "plain", Model(Plain))
    message = fails(capsys, "train", *SMALL, "--model", "plain", "--regularizer", "none", *BFLOAT16)
    assert (
        "--compute-dtype must be float32 for a model without a field dtype, such as plain, got bfloat16" in message
    )
    assert not any(tmp_path.iterdir())


BFLOAT16 = ["--compute-dtype", "bfloat16", "--out", "net"]


def test_a_network_is_trained_in_bfloat16_and_says_so(capsys):
    command = ["train", *SMALL, "--regularizer", "absum"]
    main([*command, *BFLOAT16])
    assert read(Path("net/config.json"))["identity"]["training"]["compute_dtype"] == "bfloat16"
    trained = open_run(Path("net")).load()
    assert trained.subject.model.dtype == jnp.bfloat16
    assert dtypes(trained.phases["train"].state) <= {"float32", "int32", "uint32"}
    assert 0 < trained.lines[-1]["train_loss"] < np.log(10) + 0.5
    message = fails(capsys, *command, "--out", "net")
    assert "training.compute_dtype is 'bfloat16' there, None here" in message
