"""Scores against float64, their derivatives, and their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sigsoftmax_jax
from sigsoftmax_jax import gss_score, plif_score
from sigsoftmax_jax.scores import SCORES
from tests.sigsoftmax_jax import reference

LOGITS = np.array([-1e4, -300, -110, -60, -17.5, -1, -1e-4, 0, 1e-4, 1, 17.5, 60, 110, 300, 1e4], np.float32)


def test_every_built_in_score_is_public_under_its_name_and_has_a_reference():
    assert set(SCORES) == set(reference.SCORES) == set(reference.SLOPES)
    assert all(getattr(sigsoftmax_jax, f"{name}_score") is score for name, score in SCORES.items())


@pytest.mark.parametrize("name", SCORES)
def test_score_matches_float64(name):
    # A handful of float32 operations, each rounding by half an ulp, of 1 where 1 + 1e-8 is taken.
    expected = reference.SCORES[name](LOGITS.astype(np.float64))
    np.testing.assert_allclose(jax.jit(SCORES[name])(LOGITS), expected, rtol=4e-7, atol=6e-8)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_slope_matches_the_closed_form(name, mode):
    logits = LOGITS[LOGITS != 0] if name == "relu" else LOGITS
    slopes = jax.jit(jax.vmap(mode(SCORES[name])))(logits)
    # 2 - sigmoid and 1 - sigmoid cancel to absolute rounding of 1.
    np.testing.assert_allclose(slopes, reference.SLOPES[name](logits.astype(np.float64)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["sigsoftmax", "sigmoid"])
def test_second_derivative_is_minus_the_sigmoid_slope(name):
    curvature = jax.jit(jax.vmap(jax.grad(jax.grad(SCORES[name]))))(LOGITS)
    sigmoid = np.exp(-np.logaddexp(0, -LOGITS.astype(np.float64)))
    # logistic(z)'s own derivative s (1 - s) rounds 1 - s to eps.
    np.testing.assert_allclose(curvature, -sigmoid * (1 - sigmoid), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_rounds_once(name, dtype):
    logits = jnp.array([-17.5, -1.25, 0.0, 0.5, 17.5], dtype)
    expected = reference.SCORES[name](np.asarray(logits, np.float64))
    scores = SCORES[name](logits)
    assert scores.dtype == dtype
    np.testing.assert_allclose(
        np.asarray(scores, np.float64), expected, rtol=0.51 * float(jnp.finfo(dtype).eps), atol=6e-8
    )


@pytest.mark.parametrize("score", [*SCORES.values(), gss_score(0.0, 2.0), plif_score(jnp.zeros(2), 20.0)])
@pytest.mark.usefixtures("no_shape_types")
def test_logits_are_floating_point_numbers_in_any_form(score):
    with pytest.raises(ValueError, match="logits must be floating-point, got int"):
        score(np.arange(3))
    np.testing.assert_array_equal(score([0.5, -1.0]), score(jnp.array([0.5, -1.0])))
    assert score(1.0).shape == ()
