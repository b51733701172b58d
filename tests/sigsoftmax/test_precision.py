"""Language models computed in bfloat16: what is rounded, what stays float32, and how far it is from float32."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.sigsoftmax.dropout import locked_dropout
from experiments.sigsoftmax.lstm import lstm
from experiments.sigsoftmax.models import Dropouts
from experiments.sigsoftmax.run import build_model
from experiments.sigsoftmax.task import make_task
from experiments.training.task import StepKeys
from tests.sigsoftmax.lstm_reference import unrolled_lstm
from tests.sigsoftmax.small import MIXTURE, add_body, run_of

ROUNDING = 2.0**-9  # of a number to bfloat16, at most, relative to it
VOCAB, ROWS, STEPS = 13, 8, 6


@functools.cache
def task(dtype):
    recipe = dataclasses.replace(MIXTURE, compute_dtype=dtype)
    return make_task(build_model(recipe, "sigsoftmax", VOCAB), recipe, 1.0)


def window():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, VOCAB, (ROWS, STEPS + 1), dtype=np.int32)
    return {
        "tokens": jnp.asarray(tokens[:, :-1]), "labels": jnp.asarray(tokens[:, 1:]),
        "where": jnp.ones((ROWS, STEPS), bool), "length": jnp.full(ROWS, STEPS), "reset": jnp.zeros(ROWS, bool),
    }  # fmt: skip


def objective(dtype, params, state):
    shared, base = jax.random.split(jax.random.key(1))
    return task(dtype).loss(params, state, window(), StepKeys(shared, jax.random.split(base, ROWS)), ())


def with_gradient(dtype):
    return jax.value_and_grad(functools.partial(objective, dtype), has_aux=True)


@pytest.fixture(scope="module")
def start():
    """Parameters larger than at the start of training, so that all parts of the model matter, and the state."""
    shapes, state = jax.eval_shape(task("float32").init, jax.random.key(0), None)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(-0.5, 0.5, leaf.shape), jnp.float32), shapes)
    return params, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)


def test_parameters_carries_losses_and_gradients_are_float32(start):
    found = jax.eval_shape(with_gradient("bfloat16"), *start)
    (loss, (state, metrics)), gradient = found
    floats = start, loss, state, metrics["loss"].total, gradient
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(floats)} == {"float32"}


def test_the_gradient_is_that_of_float32_but_for_rounding(start):
    (loss, _), found = jax.jit(with_gradient("bfloat16"))(*start)
    (expected_loss, _), expected = jax.jit(with_gradient("float32"))(*start)
    # Rounded at the embedding, each of two layers, the experts and the output, forward and back; over the six
    # steps of the window these errors add up.
    np.testing.assert_allclose(loss, expected_loss, rtol=10 * ROUNDING)
    one, other = (np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (found, expected))
    assert 0 < np.linalg.norm(one - other) < 10 * ROUNDING * np.linalg.norm(other)


def test_states_are_bfloat16_and_the_weights_of_the_experts_are_not(start):
    model = build_model(dataclasses.replace(MIXTURE, compute_dtype="bfloat16"), "sigsoftmax", VOCAB)
    tokens, where = window()["tokens"], window()["where"]
    arguments = {"params": start[0]}, tokens, where, model.initial_carry(ROWS)
    states, (hidden, mixture_logits) = jax.eval_shape(model.apply, *arguments)
    assert (states.raw.dtype, hidden.dtype, mixture_logits.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)


def test_log_probabilities_are_float32_and_those_of_the_loss(start):
    model = build_model(dataclasses.replace(MIXTURE, compute_dtype="bfloat16"), "sigsoftmax", VOCAB)
    batch, carry = window(), model.initial_carry(ROWS)
    params, tokens, where = {"params": start[0]}, batch["tokens"], batch["where"]
    losses, _ = jax.jit(functools.partial(model.apply, method="token_losses"))(
        params, tokens, batch["labels"], where, carry
    )
    log_probs, _ = jax.jit(functools.partial(model.apply, method="log_probs"))(params, tokens, where, carry)
    assert log_probs.dtype == losses.dtype == jnp.float32
    expected = -np.take_along_axis(np.asarray(log_probs), np.asarray(batch["labels"])[..., None], -1)[..., 0]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)  # the same operands, summed in float32


def test_the_lstm_rounds_what_goes_in_and_out_and_keeps_its_cell():
    rng = np.random.default_rng(0)
    shapes = {"inputs": (3, 7, 2), "h": (3, 5), "c": (3, 5), "W": (2, 20), "U": (5, 20), "b": (20,)}
    x, h, c, input_kernel, kernel, bias = (
        np.asarray(jnp.asarray(rng.normal(size=shape), jnp.bfloat16), np.float64) for shape in shapes.values()
    )
    where = np.ones(x.shape[:2], bool)
    inputs, *rest = (jnp.asarray(each, jnp.float32) for each in (x, h, c, input_kernel, kernel, bias))
    outputs, (last_h, last_c) = jax.jit(
        lambda inputs, h, c, w, u, b: lstm(
            inputs, jnp.asarray(where), (h, c), input_kernel=w, recurrent_kernel=u, bias=b
        )
    )(inputs.astype(jnp.bfloat16), *rest)
    assert (outputs.dtype, last_h.dtype, last_c.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    expected, expected_h, expected_c = unrolled_lstm(x, where, h, c, input_kernel, kernel, bias)
    # Outputs of at most 1 and products of at most about 4 are rounded at each of seven steps; a gate changes by a
    # quarter of that.
    for found, wanted in zip((outputs, last_h, last_c), (expected, expected_h, expected_c), strict=True):
        np.testing.assert_allclose(np.asarray(found, np.float64), wanted, atol=7 * 4 * ROUNDING)


def test_dropout_keeps_the_expectation_in_bfloat16():
    # 1 / (1 - 0.4) as bfloat16 would be 0.16 % too small; of products rounded one by one some are above.
    values = jnp.asarray(np.linspace(1, 2, 129), jnp.bfloat16)
    keys = jax.random.split(jax.random.key(0), 200)
    dropped = locked_dropout(keys, jnp.tile(values, (200, 1, 1)), 0.4)
    assert dropped.dtype == jnp.bfloat16
    kept = np.asarray(dropped, np.float64) / np.asarray(values, np.float64)
    np.testing.assert_allclose(np.mean(kept[kept > 0]), 1 / 0.6, rtol=ROUNDING / 8)


def test_a_run_in_bfloat16_ends_near_that_in_float32(corpus_directory, tmp_path, monkeypatch):
    """With a body that is quick to compile; the gradient through the LSTM is compared above."""
    add_body(monkeypatch)
    changes = {"body": "memory", "num_layers": 1, "dropouts": Dropouts(), "finetune_epochs": 0}
    losses = []
    for dtype in ("float32", "bfloat16"):
        run = run_of(corpus_directory, tmp_path / dtype, compute_dtype=dtype, **changes)
        # Not named in runs from before the setting.
        assert run.subject.identity["recipe"].get("compute_dtype", "float32") == dtype
        assert ("compute_dtype" in run.subject.identity["recipe"]) == (dtype == "bfloat16")
        run.check()
        run.prepare()
        phase = run.train().phases["base"]
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(phase.state)} <= {"float32", "int32", "uint32", "bool"}
        losses.append([line["validation_loss"] for line in phase.lines])
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)
    assert losses[0] != losses[1]
