"""Predictions under universal perturbations against a loop in NumPy, and random ones as a control."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import attack_predictions, fourier_perturbation, fourier_sweep, random_perturbation, worst_case
from tests.absum_jax.sweep_problem import SHAPE, linear, problem

PARAMS, IMAGES, LABELS = problem()
PERTURBATIONS = 0.6 * np.random.default_rng(2).standard_normal((3, *SHAPE)).astype(np.float32)


def predictions(perturbations=PERTURBATIONS, **changes):
    values = {"predict_fn": linear, "params": PARAMS, "images": IMAGES, "perturbations": perturbations} | changes
    return attack_predictions(**values)


@pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 24])
def test_predictions_equal_a_loop(batch_size):
    expected = [
        np.einsum("nhwc,hwck->nk", np.clip(IMAGES + each[None], 0, 1) - 0.5, PARAMS.astype(float)).argmax(axis=-1)
        for each in PERTURBATIONS
    ]
    np.testing.assert_array_equal(predictions(batch_size=batch_size), expected)
    assert len({tuple(each) for each in expected}) == 3


def test_their_number_right_is_what_a_sweep_counts():
    frequencies = [[0, 1], [2, 3], [3, 0]]
    patterns = [fourier_perturbation(each, SHAPE, 0.4) for each in frequencies]
    found = predictions(np.stack([np.zeros_like(patterns[0]), *patterns]))
    sweep = fourier_sweep(linear, PARAMS, IMAGES, LABELS, 0.4, frequencies=frequencies)
    is_right = np.asarray(found) == LABELS
    assert is_right[0].sum() == sweep.clean_correct
    np.testing.assert_array_equal(is_right[1:].sum(axis=1), sweep.correct[0])
    together = int(worst_case(LABELS, found).sum())
    assert together == is_right.all(axis=0).sum() < sweep.correct.min()


def test_images_are_clipped_to_the_bounds():
    large = np.full((1, *SHAPE), 5.0, np.float32)
    white = np.full((1, *SHAPE), 0.75, np.float32)
    expected = int(linear(PARAMS, white).argmax())
    found = predictions(large, bounds=(0.0, 0.75), images=0.75 * IMAGES)
    np.testing.assert_array_equal(found, np.full((1, 23), expected))


def test_a_logit_that_is_not_a_number_is_no_class():
    def broken(params, images):
        bright = images.mean(axis=(1, 2, 3))[:, None] > 0.6
        return jnp.where(bright, jnp.nan, jnp.zeros((len(images), 3)))

    images = np.full((4, *SHAPE), 0.5, np.float32)
    perturbations = np.stack([np.zeros(SHAPE, np.float32), np.full(SHAPE, 0.2, np.float32)])
    found = attack_predictions(broken, None, images, perturbations)
    np.testing.assert_array_equal(found, [[0] * 4, [-1] * 4])


def test_it_may_be_jitted_and_other_numbers_compile_nothing(count_compilations):
    expected = predictions()
    jitted = jax.jit(lambda params, perturbations: predictions(perturbations, params=params))
    np.testing.assert_array_equal(jitted(PARAMS, PERTURBATIONS), expected)
    with count_compilations() as compiled:
        jax.block_until_ready(predictions(PERTURBATIONS / 2, params=PARAMS * 2))
    assert compiled.count == 0


def test_random_noise_is_weaker_than_an_attack_that_knows_the_network():
    """The optimum against a linear network of two classes is the sign of its weights."""
    weights = PARAMS[..., 1] - PARAMS[..., 0]
    images = 0.5 + 0.2 * (IMAGES - 0.5)  # so that nothing is clipped
    labels = np.asarray(np.einsum("nhwc,hwc->n", images - 0.5, weights) > 0, int)
    params = np.stack([np.zeros_like(weights), weights], axis=-1)
    epsilon = 0.1
    keys = jax.random.split(jax.random.key(1), 100)
    noise = jax.vmap(lambda key: random_perturbation(key, SHAPE, epsilon))(keys)
    known = epsilon * np.sign(weights)
    random = attack_predictions(linear, params, images, noise)
    attacked = attack_predictions(linear, params, images, np.stack([known, -known]))
    most_fooled = np.mean(np.asarray(random) != labels, axis=1).max()
    assert most_fooled < np.mean(~np.asarray(worst_case(labels, attacked))) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: predictions(PERTURBATIONS[0]), r"perturbations must have shape \[A, 6, 5, 2\] .*got \(6, 5, 2\)"),
        (lambda: predictions(PERTURBATIONS[:0]), "with A > 0"),
        (lambda: predictions(PERTURBATIONS[:, :, :4]), r"got \(3, 6, 4, 2\)"),
        (lambda: predictions(np.nan * PERTURBATIONS), "perturbations must be finite"),
        (lambda: predictions("noise"), "perturbations must be an array of numbers, got str"),
        (lambda: predictions(images=2 * IMAGES), "images must lie within"),
        (lambda: predictions(predict_fn=lambda params, images: images), r"return logits \[23, classes\]"),
        (lambda: predictions(batch_size=0), "batch_size must be an integer of at least 1"),
        (lambda: predictions(bounds=(1, 0)), "bounds must be two numbers, the smaller first"),
    ],
)
def test_bad_input_is_named_before_anything_is_compiled(call, message, no_shape_types, count_compilations):
    with count_compilations() as compiled, pytest.raises(ValueError, match=message):
        call()
    assert compiled.count == 0
