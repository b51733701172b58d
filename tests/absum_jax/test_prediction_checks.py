"""Each planted fault is found, by its category and with its size; nothing is found where there is none."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import PredictionFinding, check_predictions

MEAN, STD = 0.5, 0.25
CATEGORIES = (
    "out_of_bounds", "epsilon_zero", "not_finite", "probabilities", "not_deterministic", "row_order",
    "other_images", "zero_gradients",
)  # fmt: skip


class Network(nn.Module):
    """With all that differs in training: dropout and batch normalisation."""

    @nn.compact
    def __call__(self, images, *, dropout=False, batch_statistics=False):
        x = nn.Conv(8, (3, 3))((images - MEAN) / STD)
        x = nn.relu(nn.BatchNorm(use_running_average=not batch_statistics)(x))
        x = nn.Dropout(0.3, deterministic=not dropout)(x.mean(axis=(1, 2)))
        return nn.Dense(4)(x)


NETWORK = Network()
IMAGES = np.random.default_rng(0).uniform(size=(12, 8, 8, 1)).astype(np.float32)
IMAGES *= np.linspace(0.2, 1, 12, dtype=np.float32)[:, None, None, None]
VARIABLES = jax.jit(NETWORK.init)(jax.random.key(0), IMAGES)
LABELS = np.asarray(NETWORK.apply(VARIABLES, IMAGES).argmax(axis=-1))
GENERATOR = np.random.default_rng(1)


def evaluate(variables, images):
    return NETWORK.apply(variables, images)


def softmax(variables, images):
    return jax.nn.softmax(evaluate(variables, images))


def with_dropout(variables, images):
    return NETWORK.apply(variables, images, dropout=True, rngs={"dropout": jax.random.key(1)})


def with_batch_statistics(variables, images):
    return NETWORK.apply(variables, images, batch_statistics=True, mutable=["batch_stats"])[0]


def with_rounding(variables, images):
    return evaluate(variables, jnp.round(images * 8) / 8)


def with_noise_of_python(variables, images):
    return evaluate(variables, images + GENERATOR.normal(size=images.shape).astype(np.float32))


def with_noise_of_a_callback(variables, images):
    def noise(images):
        return GENERATOR.normal(size=images.shape).astype(np.float32)

    found = jax.pure_callback(
        noise, jax.ShapeDtypeStruct(images.shape, images.dtype), jax.lax.stop_gradient(images)
    )
    return evaluate(variables, images + found)


def without_normalisation(variables, images):
    return evaluate(variables, images * STD + MEAN)


def of_pixels_to_255(variables, images):
    return evaluate(variables, images / 255)


def categories(predict_fn, images=IMAGES, **options):
    return {
        finding.category: finding.value
        for finding in check_predictions(predict_fn, VARIABLES, images, LABELS, **options)
    }


def test_nothing_is_found_in_a_healthy_network(capsys, recwarn):
    assert check_predictions(evaluate, VARIABLES, IMAGES, LABELS) == ()
    assert categories(evaluate, images=jnp.asarray(IMAGES)) == {}
    assert categories(of_pixels_to_255, images=255 * IMAGES, bounds=(0.0, 255.0)) == {}
    assert capsys.readouterr().out == ""
    assert not recwarn


def test_probabilities():
    assert categories(softmax) == {"probabilities": 1}


def test_dropout():
    found = categories(with_dropout)
    assert set(found) == {"row_order"}
    assert found["row_order"] > 0.05


def test_batch_statistics():
    found = categories(with_batch_statistics)
    assert set(found) == {"other_images"}
    assert found["other_images"] > 0.05


@pytest.mark.parametrize("predict_fn", [with_noise_of_python, with_noise_of_a_callback])
def test_noise_that_is_drawn_anew(predict_fn):
    found = categories(predict_fn)
    assert found["not_deterministic"] > 0.05


def test_rounding_without_gradients():
    assert categories(with_rounding) == {"zero_gradients": 1}


def test_some_images_without_gradients():
    def saturated(variables, images):
        logits = evaluate(variables, images)
        return jnp.where(images.mean(axis=(1, 2, 3))[:, None] > 0.25, jax.lax.stop_gradient(logits), logits)

    share = np.mean(IMAGES.mean(axis=(1, 2, 3)) > 0.25)
    assert 0 < share < 1
    assert categories(saturated) == {"zero_gradients": pytest.approx(share)}


def test_gradients_that_are_not_numbers():
    def broken(variables, images):
        return evaluate(variables, images) + jnp.sqrt(images - images)[:, 0, 0]

    assert categories(broken) == {"zero_gradients": 1}


@pytest.mark.parametrize(
    "value", [np.nan, *(pytest.param(each, marks=pytest.mark.slow) for each in (np.inf, -np.inf))]
)
def test_logits_that_are_not_finite_are_one_finding_and_hide_no_other(value, recwarn):
    darkest = IMAGES.mean(axis=(1, 2, 3)).min() + 1e-4

    def of_one_image(predict_fn):
        def broken(variables, images):
            logits = predict_fn(variables, images)
            return jnp.where((images.mean(axis=(1, 2, 3)) < darkest)[:, None], value, logits)

        return broken

    found = categories(of_one_image(evaluate))
    found.pop("zero_gradients")  # a constant has none
    assert found == {"not_finite": pytest.approx(1 / 12)}
    for predict_fn, category in ((with_dropout, "row_order"), (with_batch_statistics, "other_images")):
        found = categories(of_one_image(predict_fn))
        assert {"not_finite", category} <= set(found)
        assert 0.05 < found[category] < 2
    assert not recwarn


def test_images_that_spoil_others_change_them():
    def of_the_batch(variables, images):
        logits = evaluate(variables, images)
        return jnp.where(images[-1:].mean() > 0.25, jnp.nan, logits)  # not if the first, a dark one, is the last

    assert IMAGES[-1].mean() > 0.25
    found = categories(of_the_batch)
    assert found["not_finite"] == 1
    assert found["row_order"] == 1


def test_normalisation_outside_the_model():
    normalised = (IMAGES - MEAN) / STD
    found = categories(without_normalisation, images=normalised)
    assert set(found) == {"out_of_bounds", "epsilon_zero"}
    assert found["out_of_bounds"] == pytest.approx(np.mean((normalised < 0) | (normalised > 1)))
    clipped = without_normalisation(VARIABLES, normalised.clip(0, 1)).argmax(axis=-1)
    assert found["epsilon_zero"] == pytest.approx(np.mean(clipped == LABELS) - 1)  # all of the unclipped are right


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_images_scaled_to_255(dtype):
    images = np.round(255 * IMAGES).astype(dtype)
    found = categories(of_pixels_to_255, images=images)
    assert set(found) == {"out_of_bounds", "epsilon_zero"}
    assert found["out_of_bounds"] == pytest.approx(np.mean(images > 1))


def test_not_a_number_pixels_are_outside():
    images = IMAGES.copy()
    images[0, 0, 0] = np.nan
    assert categories(evaluate, images=images)["out_of_bounds"] == pytest.approx(1 / IMAGES.size)


def test_half_precision_is_no_fault():
    def in_half(variables, images):
        variables, images = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (variables, images))
        return evaluate(variables, images)

    assert categories(in_half, images=IMAGES.astype(jnp.bfloat16)) == {}


def test_a_finding_says_what_to_do():
    (finding,) = check_predictions(softmax, VARIABLES, IMAGES, LABELS)
    assert finding == PredictionFinding("probabilities", 1.0, finding.advice)
    assert finding.advice.startswith("return logits")
    with pytest.raises(dataclasses.FrozenInstanceError):
        finding.value = 0.0


def test_the_docstring_lists_every_category():
    page = check_predictions.__doc__
    positions = [page.index(f"``{category}``") for category in CATEGORIES]
    assert positions == sorted(positions)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": IMAGES[:1], "labels": LABELS[:1]}, "images must be 2 or more, .* got 1"),
        ({"images": IMAGES[0]}, r"images must be a non-empty array \[N, height, width, channels\]"),
        ({"labels": LABELS[:3]}, r"labels must be 12 integers, one per image, got \(3,\)"),
        ({"labels": LABELS + 4}, "labels must lie in 0 to 3"),
        ({"bounds": (1.0, 0.0)}, "bounds must be two numbers, the smaller first"),
        ({"predict_fn": lambda variables, images: images}, r"predict_fn must return logits \[12, classes\]"),
    ],
)  # fmt: skip
def test_bad_input_is_named_before_anything_is_compiled(changes, message, no_shape_types, count_compilations):
    values = {"predict_fn": evaluate, "params": VARIABLES, "images": IMAGES, "labels": LABELS} | changes
    with count_compilations() as compiled, pytest.raises(ValueError, match=message):
        check_predictions(**values)
    assert compiled.count == 0
