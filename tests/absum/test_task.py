"""Classification as a task: the loss with its penalty, crops and dropout by key, and what is compiled once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.absum.regularizers import REGULARIZERS
from experiments.absum.task import _other_keys, make_task, predict_fn, random_crop_and_flip
from experiments.training.task import StepKeys
from tests.absum import own

SHAPE = (8, 8, 1)
OPTIONS = {"augment": False, "learning_rate": 0.5, "momentum": 0.9, "num_steps": 40}


def task(regularizer="none", *, dropout=0.0, **changes):
    return make_task(own.Net(3, (0.5,), (0.25,), dropout), REGULARIZERS[regularizer], SHAPE, **OPTIONS | changes)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, *SHAPE), dtype=np.uint8)
    return {"images": jnp.asarray(images), "labels": jnp.asarray([0, 1, 2, 0, 1, 2], jnp.int32)}


def keys(step):
    shared, base = jax.random.split(jax.random.key(step))
    return StepKeys(shared, jax.random.split(base, 6))


def initial(made, strength=0.0):
    return jax.jit(made.init)(jax.random.key(0), jnp.float32(strength))


def loss_of(made, batch, step=0, strength=0.5):
    params, state = initial(made, strength)
    return params, *jax.jit(made.loss, static_argnums=4)(params, state, batch, keys(step), ())


def cross_entropies(params, images, labels):
    """In float64, of the logits of the model itself."""
    model = own.Net(3, (0.5,), (0.25,), 0.0)
    logits = np.asarray(jax.jit(model.apply)({"params": params}, images), np.float64)
    normalizers = np.log(np.exp(logits).sum(axis=1))
    return normalizers - logits[np.arange(len(labels)), labels], logits


def test_the_loss_is_the_mean_cross_entropy_and_the_penalty(batch):
    params, loss, (_state, metrics) = loss_of(task(), batch)
    expected, logits = cross_entropies(params, batch["images"] / 255.0, batch["labels"])
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)  # sums of a few float32
    np.testing.assert_allclose(metrics["loss"].total, expected.sum(), rtol=1e-5)
    assert (int(metrics["accuracy"].total), int(metrics["accuracy"].count)) == (
        np.sum(logits.argmax(1) == batch["labels"]), 6,
    )  # fmt: skip
    _, penalized, (_state, metrics) = loss_of(task("absum_penalty"), batch)
    sums = np.abs(np.asarray(params["Conv_0"]["kernel"], np.float64).sum((0, 1))).sum()
    np.testing.assert_allclose(penalized, expected.mean() + 0.5 * sums, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"].total, expected.sum(), rtol=1e-5)  # without the penalty


def test_padding_counts_nothing_in_the_evaluation(batch):
    made = task()
    params, state = initial(made)
    weight = jnp.asarray([1.0, 1, 1, 1, 0, 0])
    _, metrics = jax.jit(made.evaluate, static_argnums=3)(params, state, batch | {"weight": weight}, ())
    expected, _logits = cross_entropies(params, batch["images"] / 255.0, batch["labels"])
    np.testing.assert_allclose(metrics["loss"].total, expected[:4].sum(), rtol=1e-5)
    assert metrics["loss"].count == 4


def test_dropout_is_drawn_anew_for_every_step_and_absent_afterwards(batch):
    made = task(dropout=0.5)
    losses = [float(loss_of(made, batch, step)[1]) for step in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]
    params, state = initial(made)
    weight = jnp.ones(6)
    _, metrics = jax.jit(made.evaluate, static_argnums=3)(params, state, batch | {"weight": weight}, ())
    expected, _logits = cross_entropies(params, batch["images"] / 255.0, batch["labels"])
    np.testing.assert_allclose(metrics["loss"].total, expected.sum(), rtol=1e-5)


def test_equal_settings_are_one_task():
    assert task() is task()
    assert task() is not task(num_steps=41)
    assert task().evaluate is task("absum", num_steps=41).evaluate  # of the model alone
    assert predict_fn(own.Net(3, (0.5,), (0.25,))) is predict_fn(own.Net(3, (0.5,), (0.25,)))


def test_the_rate_rises_and_falls_over_all_steps():
    rates = [float(task().schedule(step)) for step in (0, 2, 4, 22, 40)]
    np.testing.assert_allclose(rates, [0, 0.25, 0.5, 0.25, 0], atol=1e-7)


def test_augmentation_shifts_and_mirrors_by_key():
    images = np.random.default_rng(0).random((16, 8, 8, 3), np.float32)
    keys = jax.random.split(jax.random.key(1, impl="threefry2x32"), 16)  # others are not independent in a vmap
    moved = jax.jit(random_crop_and_flip)
    result = np.asarray(moved(keys, images))
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    found = set()
    for i, image in enumerate(result):
        crops = {
            (row, column, flip): padded[i, row : row + 8, column : column + 8][:, :: -1 if flip else 1]
            for row in range(9)
            for column in range(9)
            for flip in (False, True)
        }
        matches = [place for place, crop in crops.items() if np.array_equal(crop, image)]
        assert matches
        found.add(matches[0])
    assert len(found) > 10
    # An image's result depends on its own key and itself only.
    order = np.arange(16)[::-1]
    np.testing.assert_array_equal(moved(keys[order], images[order]), result[order])


def test_a_regularizers_keys_are_not_those_of_crop_and_flip():
    per_example = jax.random.split(jax.random.key(1), 4)
    found = [
        _other_keys(StepKeys(jax.random.key(0), per_example)),
        *jax.vmap(jax.random.split, out_axes=1)(per_example),
    ]
    assert len({bytes(np.asarray(jax.random.key_data(keys))) for keys in found}) == 3


def test_augmentation_is_no_loop_over_images():
    keys, images = jax.random.split(jax.random.key(1), 16), jnp.zeros((16, 8, 8, 3))
    program = str(jax.make_jaxpr(random_crop_and_flip)(keys, images))
    # Slices from another place in each image, which become a loop on an accelerator.
    assert "dot_general" in program
    assert not any(name in program for name in ("dynamic_slice", "gather", "while", "scan"))


def test_training_images_are_augmented_and_others_are_not(batch, monkeypatch):
    monkeypatch.setattr("experiments.absum.task.random_crop_and_flip", lambda keys, images: images[:, ::-1])
    made = task(augment=True)
    params, loss, _ = loss_of(made, batch)
    expected, _logits = cross_entropies(params, batch["images"][:, ::-1] / 255.0, batch["labels"])
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)
    assert made.evaluate is task().evaluate
