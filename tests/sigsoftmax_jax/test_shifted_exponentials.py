"""Every built-in score relative to a shift, and its derivative, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from sigsoftmax_jax._shifted_exponentials import (
    largest_exponent,
    pull_back,
    push_forward,
    rescaling,
    shifted_exponential,
    shifted_score,
)
from sigsoftmax_jax.scores import SCORES
from tests.sigsoftmax_jax import reference

LOGITS = np.array([-300, -17.5, -1, -0.25, 0.25, 1, 17.5, 300, -np.inf], np.float32)
LIVE = np.isfinite(LOGITS)


@pytest.mark.parametrize("name", SCORES)
def test_shifted_by_the_largest_exponent_nothing_overflows(name):
    score = Partial(SCORES[name])

    @jax.jit
    def shifted(z):
        shift = largest_exponent(score, z)
        return shift, shifted_score(score, z, shift), shifted_exponential(score, z, shift)

    shift, scores, exponentials = shifted(LOGITS)
    expected = np.where(LIVE, reference.SCORES[name](LOGITS.astype(np.float64)), -np.inf) - float(shift[0])
    # The gate takes at most log 2 from the largest exponent.
    assert -np.log(2) - 1e-6 <= expected.max() <= 1e-6
    # An ulp of the largest score, of 900.
    np.testing.assert_allclose(scores, expected, atol=2.0**-14)
    # Below 1e-37 float32 ends.
    np.testing.assert_allclose(exponentials, np.exp(expected), rtol=2.0**-14, atol=1e-37)
    assert exponentials[-1] == 0


@pytest.mark.parametrize("name", SCORES)
def test_both_directions_multiply_by_the_slope(name):
    score, along = Partial(SCORES[name]), jnp.arange(1.0, 10.0)
    forward, (_, backward) = jax.jit(
        lambda z: (push_forward(score, z, score, along), pull_back(score, z, along)),
    )(LOGITS)
    expected = np.where(LIVE, reference.SLOPES[name](LOGITS.astype(np.float64)), 0) * along
    # Slopes of sigmoids cancel to absolute rounding of 1.
    np.testing.assert_allclose(forward, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(backward, expected, rtol=1e-6, atol=1e-6)


def test_a_sum_of_nothing_is_rescaled_without_nan():
    shifts, higher = jnp.array([-jnp.inf, -jnp.inf, 1.0, 3.0]), jnp.array([-jnp.inf, 2.0, 3.0, 3.0])
    np.testing.assert_allclose(rescaling(shifts, higher), [1, 1, np.exp(-2), 1], rtol=1e-6)
