"""The task of language modelling: its loss, its update, and the same step on any number of devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.sigsoftmax.models import Dropouts
from experiments.sigsoftmax.task import (
    _norm_and_clipping,
    activation_regularization,
    clip_by_norm,
    make_optimizer,
    make_task,
)
from experiments.training.devices import replicated, split
from experiments.training.step import compile_step, create_state
from experiments.training.task import StepKeys
from tests.sigsoftmax.small import MIXTURE, run_of

ROWS, STEPS = 4, 5
WHERE = np.arange(STEPS)[None] < np.array([[STEPS], [STEPS], [3], [1]])


@pytest.fixture(scope="module")
def subject(corpus_directory):
    return run_of(corpus_directory, None).subject


@pytest.fixture(scope="module")
def task(subject):
    """The one that the runs of the other tests are trained by."""
    return subject.phases()["base"](None).task


@pytest.fixture(scope="module")
def windows(subject):
    return [
        batch
        for _, batch in zip(
            range(4), subject.training_windows(subject.recipe.window_lengths(), 0, 0, 0), strict=False
        )
    ]


@pytest.fixture(scope="module")
def start(task, subject):
    """The state before the first step, as host values."""
    averaging = subject.phases()["base"](None).averaging
    return jax.device_get(create_state(task, 0, jax.devices(), averaging=averaging))


@pytest.fixture(scope="module")
def after_steps(task, start, windows):
    """``(devices, steps, factor of the lengths) -> (parameters before, state, metrics of the last step)``."""

    @functools.cache
    def run(count, steps=4, factor=1):
        devices = jax.devices()[:count]
        state = jax.device_put(start, replicated(devices))
        step = compile_step(task, devices=devices)
        for batch in windows[:steps]:
            state, metrics = step(state, split(batch | {"length": factor * batch["length"]}, devices))
        return start.params, jax.device_get(state), jax.device_get(metrics)

    return run


@pytest.mark.slow
def test_devices_do_not_matter_with_all_dropout_on(after_steps):
    before, alone, wanted = after_steps(1)
    moved = max(np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (before, alone.params)), strict=True))
    assert moved > 1e-2
    for count in (2, 8):
        _, state, metrics = after_steps(count)
        # float32 sums over the rows in another order, over four steps of rate 8
        for found, expected in zip(*map(jax.tree.leaves, (state, alone)), strict=True):
            np.testing.assert_allclose(found, expected, atol=2e-5)
        assert metrics["loss"].count == wanted["loss"].count
        np.testing.assert_allclose(metrics["loss"].total, wanted["loss"].total, rtol=1e-5)


def test_the_update_is_in_proportion_to_the_length_of_the_window(after_steps, task, subject, windows):
    before, one, _ = after_steps(1, steps=1)
    # The same window, said to be longer: as its mask is the same, nothing but the update is scaled.
    _, longer, _ = after_steps(1, steps=1, factor=3)
    for a, b, c in zip(*map(jax.tree.leaves, (before, one.params, longer.params)), strict=True):
        np.testing.assert_allclose(c - a, 3 * (b - a), atol=1e-6)
        assert np.abs(b - a).max() > 1e-5
    for bptt in (MIXTURE.bptt, 12):
        recipe = dataclasses.replace(MIXTURE, bptt=bptt)
        scale = make_task(subject.model, recipe, 8.0).update_scale(windows[0])
        assert scale == pytest.approx(windows[0]["length"][0] / bptt, rel=1e-6)  # float32


def test_the_loss_is_the_mean_and_the_penalties(corpus_directory, windows):
    """AR is on the dropped output, TAR on the raw one."""
    changes = {"num_layers": 1, "num_experts": 1, "last_size": 4, "dropouts": Dropouts(output=0.5)}
    subject = run_of(corpus_directory, None, **changes).subject
    task = subject.phases()["base"](None).task
    params, carry = jax.jit(task.init)(jax.random.key(0), None)
    batch, keys = windows[0], StepKeys(jax.random.key(1), jax.random.split(jax.random.key(2), 8))

    @jax.jit
    def both(params, carry, batch):
        states, _ = subject.model.apply({"params": params}, batch["tokens"], batch["where"], carry, keys)
        return task.loss(params, carry, batch, keys, ()), states

    (found, (_, metrics)), states = both(params, carry, batch)
    length = batch["length"][0]
    dropped, raw = np.asarray(states.dropped)[:, :length], np.asarray(states.raw)[:, :length]
    assert np.abs(dropped - raw).max() > 0
    penalties = MIXTURE.alpha * np.mean(dropped**2) + MIXTURE.beta * np.mean(np.diff(raw, axis=1) ** 2)
    np.testing.assert_allclose(found, metrics["loss"].total / (8 * length) + penalties, rtol=1e-5)  # float32
    assert metrics["loss"].count == 8 * length


def test_a_window_that_resets_starts_from_nothing(task, start, windows):
    params, zeros = start.params, start.model_state
    dirty = jax.tree.map(lambda state: state + 1, zeros)
    evaluate = jax.jit(task.evaluate, static_argnums=3)

    def loss(batch, carry):
        return float(evaluate(params, carry, batch, ())[1]["loss"].total)

    assert loss(windows[0], dirty) == loss(windows[0], zeros)
    assert loss(windows[1], dirty) != loss(windows[1], zeros)


def test_gradients_are_clipped_then_decayed():
    """By hand: the norm of (3, 4) is 5, of which 0.25 is left but for the 1e-6 of torch; then decay and rate."""
    recipe = dataclasses.replace(MIXTURE, clip=0.25, weight_decay=0.1)
    optimizer = make_optimizer(recipe, optax.constant_schedule(2.0))
    params, gradients = np.array([10.0, -20.0], np.float32), np.array([3.0, 4.0], np.float32)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    expected = -2.0 * (0.25 * gradients / (5 + 1e-6) + 0.1 * params)
    np.testing.assert_allclose(updates, expected, rtol=1e-6)  # float32


@pytest.mark.usefixtures("x64")
def test_the_norm_is_of_all_gradients_and_has_the_small_number_of_torch():
    clip = clip_by_norm(0.25)
    gradients = {"input_bias": jnp.array([3.0, 4.0]), "recurrent_bias": jnp.array([3.0, 4.0])}
    found, _ = clip.update(gradients, clip.init(None))
    for gradient in found.values():
        expected = 0.25 * np.array([3.0, 4.0]) / (np.sqrt(50) + 1e-6)
        np.testing.assert_allclose(gradient, expected, rtol=1e-14)  # float64; without 1e-6 it is 1.4e-7 larger
    small = {"input_bias": jnp.array([0.1, 0.1])}
    np.testing.assert_array_equal(clip.update(small, clip.init(None))[0]["input_bias"], [0.1, 0.1])


def test_activation_regularization():
    rng = np.random.default_rng(0)
    dropped, raw = rng.normal(size=(2, ROWS, STEPS, 3))
    squares, differences = [], []
    for row, t in np.argwhere(WHERE):
        squares.extend(dropped[row, t] ** 2)
        if t + 1 < STEPS and WHERE[row, t + 1]:
            differences.extend((raw[row, t + 1] - raw[row, t]) ** 2)
    arrays = (jnp.asarray(a, jnp.float32) for a in (dropped, raw))
    found = activation_regularization(*arrays, jnp.asarray(WHERE), alpha=2.0, beta=1.5)
    np.testing.assert_allclose(found, 2 * np.mean(squares) + 1.5 * np.mean(differences), rtol=1e-6)  # float32


def test_activation_regularization_of_one_step_or_none_is_finite():
    value_and_gradient = jax.jit(jax.value_and_grad(activation_regularization, (0, 1)))
    for steps in (1, 0):
        where = jnp.arange(STEPS)[None] < jnp.full((ROWS, 1), steps)
        values = jnp.ones((ROWS, STEPS, 3))
        value, gradients = value_and_gradient(values, values, where, 1.0, 1.0)
        assert value == steps
        assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


@pytest.mark.parametrize("norm", [0.2, 0.25, 0.3])
def test_a_gradient_counts_as_clipped_where_it_is_made_smaller(norm):
    gradient = {"a": jnp.array([0.6 * norm]), "b": jnp.array([0.8 * norm])}
    found = _norm_and_clipping(0.25, gradient)
    np.testing.assert_allclose(found["gradient_norm"], norm, rtol=1e-6)
    clipped, _ = clip_by_norm(0.25).update(gradient, optax.EmptyState())
    assert bool(found["clipped_steps"]) == bool(clipped["b"][0] < gradient["b"][0])
