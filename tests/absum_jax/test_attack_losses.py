"""The losses of attacks against NumPy, and what their gradients are for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import cross_entropy_loss, logits_ratio_loss, margin_loss

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(12, 5), scale=4).astype(np.float32)
LABELS = RNG.integers(5, size=12)


def reference(logits, labels):
    """Each loss of each row, by a loop in float64."""
    rows = []
    for z, label in zip(logits.astype(np.float64), labels, strict=True):
        margin = np.delete(z, label).max() - z[label]
        first, _, third = np.sort(z)[::-1][:3]
        rows.append([np.log(np.exp(z).sum()) - z[label], margin, margin / (first - third)])
    return np.transpose(rows)


@pytest.mark.parametrize(("loss_fn", "row"), [(cross_entropy_loss, 0), (margin_loss, 1), (logits_ratio_loss, 2)])
def test_losses_equal_a_loop(loss_fn, row):
    with jax.numpy_dtype_promotion("strict"):
        found = jax.jit(loss_fn)(LOGITS, LABELS)
    np.testing.assert_allclose(found, reference(LOGITS, LABELS)[row], rtol=1e-5, atol=1e-6)  # float32 sums of 5


def test_only_the_cross_entropy_saturates():
    logits, labels = jnp.array([[300.0, 0.0, -10.0]]), jnp.array([0])
    norms = {
        loss_fn: float(jnp.abs(jax.grad(lambda z, f=loss_fn: f(z, labels).sum())(logits)).max())
        for loss_fn in (cross_entropy_loss, margin_loss, logits_ratio_loss)
    }
    assert norms[cross_entropy_loss] == 0
    assert norms[margin_loss] == 1
    assert norms[logits_ratio_loss] > 1e-5


@pytest.mark.parametrize("loss_fn", [cross_entropy_loss, margin_loss, logits_ratio_loss])
def test_gradients_are_finite_at_ties(loss_fn):
    gradients = jax.grad(lambda z: loss_fn(z, jnp.array([1, 0])).sum())(jnp.zeros((2, 4)))
    assert bool(jnp.isfinite(gradients).all())


def test_the_ratio_needs_three_classes():
    with pytest.raises(ValueError, match=r"logits must have 3 or more classes, got shape \(2, 2\)"):
        logits_ratio_loss(jnp.zeros((2, 2)), jnp.zeros(2, int))
