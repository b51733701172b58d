"""Adversarial training: the attack inside the step, on any number of devices, and what is said of its success."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.absum.__main__ import main
from experiments.absum.adversary import find_adversary, overfitting
from experiments.absum.regularizers import REGULARIZERS
from experiments.absum.task import make_task, predict_fn
from experiments.training.step import compile_step, create_state
from experiments.training.task import StepKeys
from tests.absum import own
from tests.absum.settings import SMALL
from tests.command_line import error_line, read

SHAPE = (8, 8, 1)


class WithStatistics(nn.Module):
    """Batch normalisation, and a linear layer."""

    @nn.compact
    def __call__(self, images, *, train=False, axis_name=None):
        x = nn.BatchNorm(use_running_average=not train, axis_name=axis_name)(images)
        return nn.Dense(3, kernel_init=own.waves)(x.reshape(len(x), -1))


@pytest.fixture(autouse=True)
def independent_keys():
    """Keys that give the same numbers in a vmap as alone."""
    with jax.default_prng_impl("threefry2x32"):
        yield


def task(adversary, regularizer="absum"):
    model = own.Net(3, (0.5,), (0.25,), 0.0)
    options = {"augment": False, "learning_rate": 0.5, "momentum": 0.9, "num_steps": 8}
    return model, make_task(model, REGULARIZERS[regularizer], SHAPE, adversary=adversary, **options)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, *SHAPE), dtype=np.uint8)
    return {"images": images, "labels": np.arange(16, dtype=np.int32) % 3}


def test_the_loss_is_that_of_the_attacked_images(batch):
    adversary = find_adversary("pgd", 0.1, 3)
    model, made = task(adversary, "none")
    params, state = jax.jit(made.init)(jax.random.key(0), jnp.float32(0))
    keys = StepKeys(jax.random.key(1), jax.random.split(jax.random.key(2), 16))
    loss, _ = jax.jit(made.loss, static_argnums=4)(params, state, batch, keys, ())
    _, plain = task(None, "none")
    clean, _ = jax.jit(plain.loss, static_argnums=4)(params, state, batch, keys, ())
    images, variables = batch["images"] / np.float32(255), {"params": params, **state["statistics"]}
    row_keys = jax.vmap(jax.random.fold_in, (0, None))(keys.per_example, 3)
    attacked = adversary.attack(predict_fn(model), variables, images, batch["labels"], row_keys)
    assert 0.09 < np.abs(attacked - images).max() < 0.1 + 1e-6
    logits = np.asarray(model.apply(variables, attacked), np.float64)
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(16), batch["labels"]]
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)
    assert float(loss) > float(clean) + 0.02


def test_devices_do_not_matter(batch, x64):
    """In float64, as the sign of a gradient turns its rounding into a whole step."""
    found = []
    for devices in (1, 2, 8):
        _, made = task(find_adversary("pgd", 0.1, 2))
        chosen = jax.devices()[:devices]
        params, _ = jax.jit(made.init)(jax.random.key(0), np.float64(0.01))
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        state = create_state(made, 0, chosen, numbers=np.float64(0.01), initial_params=params)
        step = compile_step(made, devices=chosen)
        split = {name: each.reshape(devices, -1, *each.shape[1:]) for name, each in batch.items()}
        for _ in range(3):
            state, metrics = step(state, split)
        found.append((jax.device_get(state.params), jax.device_get(metrics)))
    for other in found[1:]:
        # Sums over devices are taken in another order.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), other, found[0])


def test_batch_statistics_during_the_attack_are_the_running_ones(batch):
    """What an image becomes does not depend on the other images of its batch."""
    model = WithStatistics()
    variables = model.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    images, keys = batch["images"] / np.float32(255), jax.random.split(jax.random.key(2), 16)
    adversary = find_adversary("fgsm", 0.1, 1)
    whole = adversary.attack(predict_fn(model), variables, images, batch["labels"], keys)
    part = adversary.attack(predict_fn(model), variables, images[4:8], batch["labels"][4:8], keys[4:8])
    np.testing.assert_allclose(whole[4:8], part, atol=1e-6)


def test_the_step_attacks_with_running_statistics_and_trains_with_those_of_the_batch(batch):
    adversary, model = find_adversary("fgsm", 0.1, 1), WithStatistics()
    options = {"augment": False, "learning_rate": 0.5, "momentum": 0.9, "num_steps": 8}
    made = make_task(model, REGULARIZERS["none"], SHAPE, adversary=adversary, **options)
    params, state = made.init(jax.random.key(0), jnp.float32(0))
    # Far from those of the batch, so that the two modes have different gradients.
    running = {"mean": jnp.full(1, 0.9), "var": jnp.full(1, 0.01)}
    state |= {"statistics": {"batch_stats": {"BatchNorm_0": running}}}
    keys = StepKeys(jax.random.key(1), jax.random.split(jax.random.key(2), 16))
    loss, _ = jax.jit(made.loss, static_argnums=4)(params, state, batch, keys, ())
    images, labels = batch["images"] / np.float32(255), batch["labels"]
    row_keys = jax.vmap(jax.random.fold_in, (0, None))(keys.per_example, 3)
    variables = {"params": params, **state["statistics"]}

    def train_mode(variables, images):
        return model.apply(variables, images, train=True, mutable=["batch_stats"])[0]

    def loss_of(attacked_mode):
        attacked = adversary.attack(attacked_mode, variables, images, labels, row_keys)
        logits = np.asarray(train_mode(variables, attacked), np.float64)
        return (np.log(np.exp(logits).sum(1)) - logits[np.arange(16), labels]).mean()

    np.testing.assert_allclose(loss, loss_of(predict_fn(model)), rtol=1e-5)  # rounding of float32
    assert abs(loss_of(train_mode) - loss_of(predict_fn(model))) > 1e-3


@pytest.mark.parametrize("method", ["pgd", "fgsm"])
def test_the_command_trains_and_logs_the_accuracy_under_attack(tmp_path, method):
    flags = ["--adversarial", method, "--adversarial-epsilon", "0.05"]
    flags += ["--adversarial-steps", "2"] if method == "pgd" else []
    main(["train", *SMALL, "--regularizer", "none", *flags, "--out", "net"])
    line = read(tmp_path / "net" / "metrics.jsonl")
    assert 0 <= line["validation_pgd_accuracy"] <= line["validation_accuracy"]
    adversary = read(tmp_path / "net" / "config.json")["identity"]["training"]["adversarial"]
    assert (
        adversary
        == {
            "pgd": {"epsilon": 0.05, "num_steps": 2, "step_size": 0.0625},
            "fgsm": {"epsilon": 0.05, "num_steps": 1, "step_size": 0.0625},
        }[method]
    )


def test_a_collapse_is_told():
    lines = [{"validation_pgd_accuracy": accuracy} for accuracy in (0.2, 0.4, 0.35, 0.19)]
    assert overfitting(lines[:1]) is None
    assert overfitting(lines[:3]) is None
    assert "catastrophic overfitting: the accuracy under PGD fell to 0.190 from 0.400" in overfitting(lines)
    assert overfitting([{"validation_accuracy": 0.9}] * 3) is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--adversarial", "cw"], "--adversarial must be one of none, pgd, fgsm, got 'cw'"),
        (
            ["--adversarial", "pgd", "--adversarial-epsilon", "2"],
            "epsilon must lie in (0, 1], got 2.0",
        ),
        (
            ["--adversarial-epsilon", "0.1"],
            "--adversarial must be pgd or fgsm where --adv",
        ),
        (
            ["--adversarial", "fgsm", "--adversarial-steps", "7"],
            "--adversarial must be pgd where --adversarial-steps is given, got fgsm",
        ),
        (["--adversarial_steps=3"], "--adversarial must be pgd where --adversarial-steps is given, got none"),
        (["--adversarial", "pgd", "--adversarial-steps", "0"], "--adversarial-steps must be at least 1 and"),
    ],
)
def test_mistakes(tmp_path, capsys, flags, message):
    assert message in error_line(main, capsys, "train", *SMALL, "--regularizer", "none", *flags, "--out", "net")
    assert not (tmp_path / "net").exists()
