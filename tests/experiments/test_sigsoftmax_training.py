"""Training of the language model: the same on any number of devices, and resumed."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from experiments.data.text import Corpus, Vocabulary
from experiments.sigsoftmax.models import Dropouts
from experiments.sigsoftmax.network import Network
from experiments.sigsoftmax.recipes import RECIPES
from experiments.sigsoftmax.settings import Settings, build_model
from experiments.sigsoftmax.task import make_optimizer, make_task
from experiments.training import devices as device_room
from experiments.training.step import compile_step, create_state
from experiments.training.task import StepKeys

WORDS = 11
RECIPE = dataclasses.replace(
    RECIPES["mos_ptb"], embedding_size=4, hidden_size=5, last_size=6, num_layers=2, num_experts=2, batch_size=8,
    bptt=6, epochs=2, finetune_epochs=2, learning_rate=1.0, finetune_learning_rate=1.0, patience=1,
    dropouts=Dropouts(*[0.3] * 6),
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    splits = [rng.integers(0, WORDS, count).astype(np.int32) for count in (400, 60, 60)]
    return Corpus("toy", Vocabulary(tuple(f"w{index}" for index in range(WORDS))), *splits)


def network(corpus, directory, **options):
    return Network(Settings(RECIPE, "sigsoftmax", 0), corpus, directory, **options)


def after_steps(corpus, count, steps=4, **changes):
    recipe = dataclasses.replace(RECIPE, **changes)
    schedule = optax.constant_schedule(recipe.learning_rate)
    task, optimizer = make_task(build_model(recipe, "sigsoftmax", WORDS), recipe), make_optimizer(recipe, schedule)
    devices = jax.devices()[:count]
    state = create_state(task, optimizer, 0, devices)
    start = jax.device_get(state.params)
    step = compile_step(task, optimizer, schedule, devices=devices)
    windows = network(corpus, None).training_windows(0, 0)
    for _, batch in zip(range(steps), windows, strict=False):
        state, metrics = step(state, device_room.split(batch, devices))
    return start, jax.device_get(state), jax.device_get(metrics)


def test_devices_do_not_matter_with_all_dropout_on(corpus):
    start, alone, wanted = after_steps(corpus, 1)
    moved = max(np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (start, alone.params)), strict=True))
    assert moved > 1e-2
    for count in (2, 8):
        _, state, metrics = after_steps(corpus, count)
        # float32 sums over the rows in another order, over four steps
        for found, expected in zip(*map(jax.tree.leaves, (state, alone)), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)
        assert metrics["loss"].count == wanted["loss"].count
        np.testing.assert_allclose(metrics["loss"].total, wanted["loss"].total, rtol=1e-5)


def test_the_update_is_in_proportion_to_the_length_of_the_window(corpus):
    (batch,) = [batch for _, batch in zip(range(1), network(corpus, None).training_windows(0, 0), strict=False)]
    start, one, _ = after_steps(corpus, 1, steps=1)
    _, other, _ = after_steps(corpus, 1, steps=1, bptt=12)  # the same windows: they are those of RECIPE
    assert batch["length"][0] != 12
    for a, b, c in zip(*map(jax.tree.leaves, (start, one.params, other.params)), strict=True):
        np.testing.assert_allclose(b - a, 2 * (c - a), atol=1e-6)


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(tmp_path, corpus, monkeypatch):
    """Interrupted within an epoch of either phase: hidden state, averages and position come back."""
    whole = network(corpus, tmp_path / "whole").trained()
    parts = network(corpus, tmp_path / "parts", checkpoint_every=2)
    windows = Network.training_windows
    calls = 0

    def breaking(self, epoch, start):
        nonlocal calls
        for batch in windows(self, epoch, start):
            calls += 1
            if calls % 13 == 12:  # now and then
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(Network, "training_windows", breaking)
    interruptions = 0
    while True:
        try:
            resumed = parts.trained()
            break
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions == 2
    for found, expected in zip(*map(jax.tree.leaves, (resumed, whole)), strict=True):
        np.testing.assert_array_equal(found, expected)

    def losses(name):
        return [(line["epoch"], line["train_loss"]) for line in network(corpus, tmp_path / name).log()]

    assert losses("parts") == losses("whole")


def test_validation_counts_every_target_once_whatever_the_devices(corpus):
    windows = list(network(corpus, None)._validation_windows())
    assert {len(batch["tokens"]) for batch in windows} == {16}  # ten rows, padded to a multiple of eight
    assert sum(batch["where"].sum() for batch in windows) == len(corpus.valid) - 1


def test_the_loss_is_the_mean_and_the_penalties(corpus):
    """AR is on the dropped output, TAR on the raw one."""
    task, model = (
        make_task(build_model(RECIPE, "sigsoftmax", WORDS), RECIPE),
        build_model(RECIPE, "sigsoftmax", WORDS),
    )
    params, carry = task.init(jax.random.key(0))
    batch = next(network(corpus, None).training_windows(0, 0))
    keys = StepKeys(jax.random.key(1), jax.random.split(jax.random.key(2), 8))
    found, (_, metrics) = task.loss(params, carry, batch, keys, ())
    _, output = model.apply(
        {"params": params}, batch["tokens"], batch["labels"], batch["where"], carry, keys, method="token_losses"
    )
    length = batch["length"][0]
    dropped, raw = np.asarray(output.dropped)[:, :length], np.asarray(output.raw)[:, :length]
    assert np.abs(dropped - raw).max() > 0
    penalties = RECIPE.alpha * np.mean(dropped**2) + RECIPE.beta * np.mean(np.diff(raw, axis=1) ** 2)
    np.testing.assert_allclose(found, metrics["loss"].total / (8 * length) + penalties, rtol=1e-5)
