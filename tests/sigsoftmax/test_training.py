"""Training of the language model: the same on any number of devices, and resumed."""

import dataclasses
import functools

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


def after_steps(corpus, count, steps=4, times_length=1, **changes):
    recipe = dataclasses.replace(RECIPE, **changes)
    schedule = optax.constant_schedule(recipe.learning_rate)
    task, optimizer = make_task(build_model(recipe, "sigsoftmax", WORDS), recipe), make_optimizer(recipe, schedule)
    devices = jax.devices()[:count]
    state = create_state(task, optimizer, 0, devices)
    start = jax.device_get(state.params)
    step = compile_step(task, optimizer, schedule, devices=devices)
    windows = network(corpus, None).training_windows(0, 0, 0)
    for _, batch in zip(range(steps), windows, strict=False):
        batch["length"] = batch["length"] * times_length
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
    start, one, _ = after_steps(corpus, 1, steps=1)
    # The same window, said to be longer: as its mask is the same, nothing but the update is scaled.
    _, longer, _ = after_steps(corpus, 1, steps=1, times_length=3)
    _, other, _ = after_steps(corpus, 1, steps=1, bptt=12)  # the same windows: they are those of RECIPE
    for a, b, c, d in zip(*map(jax.tree.leaves, (start, one.params, longer.params, other.params)), strict=True):
        np.testing.assert_allclose(c - a, 3 * (b - a), atol=1e-6)
        np.testing.assert_allclose(b - a, 2 * (d - a), atol=1e-6)
        assert np.abs(b - a).max() > 1e-5


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(tmp_path, corpus, monkeypatch):
    """Interrupted within an epoch of either phase: hidden state, averages and position come back."""
    whole = network(corpus, tmp_path / "whole").trained()
    parts = network(corpus, tmp_path / "parts", checkpoint_every=2)
    windows = Network.training_windows
    calls = 0

    def breaking(self, seed, epoch, start):
        nonlocal calls
        for batch in windows(self, seed, epoch, start):
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
    model = build_model(RECIPE, "sigsoftmax", WORDS)
    task, forward = make_task(model, RECIPE), jax.jit(functools.partial(model.apply, method="token_losses"))
    params, carry = jax.jit(task.init)(jax.random.key(0))
    batch = next(network(corpus, None).training_windows(0, 0, 0))
    keys = StepKeys(jax.random.key(1), jax.random.split(jax.random.key(2), 8))
    found, (_, metrics) = jax.jit(task.loss, static_argnums=4)(params, carry, batch, keys, ())
    _, output = forward({"params": params}, *(batch[name] for name in ("tokens", "labels", "where")), carry, keys)
    length = batch["length"][0]
    dropped, raw = np.asarray(output.dropped)[:, :length], np.asarray(output.raw)[:, :length]
    assert np.abs(dropped - raw).max() > 0
    penalties = RECIPE.alpha * np.mean(dropped**2) + RECIPE.beta * np.mean(np.diff(raw, axis=1) ** 2)
    np.testing.assert_allclose(found, metrics["loss"].total / (8 * length) + penalties, rtol=1e-5)


def test_a_window_that_resets_starts_from_nothing(corpus):
    model = build_model(RECIPE, "sigsoftmax", WORDS)
    task = make_task(model, RECIPE)
    params, zeros = jax.jit(task.init)(jax.random.key(0))
    dirty = jax.tree.map(lambda state: state + 1, zeros)
    first, second = [
        batch for _, batch in zip(range(2), network(corpus, None).training_windows(0, 0, 0), strict=False)
    ]

    evaluate = jax.jit(task.evaluate, static_argnums=3)

    def loss(batch, carry):
        return float(evaluate(params, carry, batch, ())[1]["loss"].total)

    assert loss(first, dirty) == loss(first, zeros)
    assert loss(second, dirty) != loss(second, zeros)


def test_gradients_are_clipped_then_decayed():
    """By hand: the norm of (3, 4) is 5, of which 0.25 is left; then the decay, then the learning rate."""
    recipe = dataclasses.replace(RECIPE, clip=0.25, weight_decay=0.1)
    optimizer = make_optimizer(recipe, optax.constant_schedule(2.0))
    params, gradients = np.array([10.0, -20.0], np.float32), np.array([3.0, 4.0], np.float32)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    np.testing.assert_allclose(updates, -2.0 * (0.25 * gradients / 5 + 0.1 * params), rtol=1e-6)


def test_fine_tuning_starts_from_the_averages_at_its_own_rate(tmp_path, corpus, monkeypatch):
    calls, lengths = [], []

    def record(task, optimizer, schedule, data, plan):
        state = create_state(task, optimizer, 0, jax.devices()[:1], averaging=plan.averaging)
        average = jax.tree.map(lambda x: x + 1, state.params)
        calls.append((float(schedule(0)), plan))
        lengths.append([int(batch["length"][0]) for batch in data.epoch(0, 0)])
        return state.replace(average=state.average.replace(params=average))

    monkeypatch.setattr("experiments.sigsoftmax.network.train", record)
    recipe = dataclasses.replace(
        RECIPE, learning_rate=3.0, finetune_learning_rate=4.0, epochs=5, finetune_epochs=6
    )
    found = Network(Settings(recipe, "sigsoftmax", 0), corpus, tmp_path).trained()
    (rate, base), (tuned_rate, tuned) = calls
    assert (rate, base.num_epochs, tuned_rate, tuned.num_epochs) == (3.0, 5, 4.0, 6)
    # Neither the dropout masks nor the windows of the first phase come again.
    assert base.seed != tuned.seed
    assert lengths[0] != lengths[1]
    assert base.initial_params is None
    assert not base.averaging.from_start
    assert tuned.averaging.from_start
    assert base.keep_best
    assert tuned.keep_best
    for started, average in zip(*map(jax.tree.leaves, (tuned.initial_params, found["base"])), strict=True):
        np.testing.assert_array_equal(started, average)


@pytest.mark.parametrize(
    ("name", "sizes", "rates", "batch", "dropouts"),
    [
        ("awd_ptb", (400, 1150, 400, 1), (30, 30), 20, (0.4, 0.25, 0.4, 0.1, 0.0, 0.5)),
        ("awd_wikitext2", (400, 1150, 400, 1), (30, 30), 80, (0.4, 0.2, 0.65, 0.1, 0.0, 0.5)),
        ("mos_ptb", (280, 960, 620, 15), (20, 25), 12, (0.4, 0.225, 0.4, 0.1, 0.29, 0.5)),
        ("mos_wikitext2", (300, 1150, 650, 15), (15, 20), 15, (0.4, 0.2, 0.55, 0.1, 0.29, 0.5)),
    ],
)
def test_the_recipes_are_the_published_ones(name, sizes, rates, batch, dropouts):
    recipe = RECIPES[name]
    assert (recipe.embedding_size, recipe.hidden_size, recipe.last_size, recipe.num_experts) == sizes
    assert (recipe.learning_rate, recipe.finetune_learning_rate, recipe.batch_size) == (*rates, batch)
    assert tuple(dataclasses.asdict(recipe.dropouts).values()) == dropouts
    shared = (recipe.alpha, recipe.beta, recipe.weight_decay, recipe.clip, recipe.bptt, recipe.patience)
    assert shared == (2, 1, 1.2e-6, 0.25, 70, 5)
    assert recipe.num_layers == 3
