"""Rows of logits where forms of the sigsoftmax go wrong, and the check of a form against them."""

import jax.numpy as jnp
import numpy as np

from tests.sigsoftmax_jax import reference


def _hard_logits():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(8, 500))
    one_masked, one_left = noise[:, :9].copy(), np.full((4, 9), -np.inf)
    one_masked[:, 3] = -np.inf
    one_left[:, 5] = [-300, 0.3, 300, -1e4]
    return {
        "standard normal": noise,
        "uniform to 1e4": rng.uniform(-1e4, 1e4, (8, 500)),
        "uniform to 100": rng.uniform(-100, 100, (8, 500)),
        "all near -300": noise - 300,
        "all near -1e4": noise - 1e4,
        "all near 300": noise + 300,
        "all near 1e4": noise + 1e4,
        "spread and negative": np.tile([-300.0, -200.0, -150.0], (2, 1)),
        "mixed magnitudes": np.tile([-60.0, 0.0, -1e4, 1e-3, 40.0], (2, 1)),
        "one row far above another": np.array([[-250.0, -251.0, -252.0], [250.0, 251.0, 252.0]]),
        "one -inf": one_masked,
        "all but one -inf": one_left,
    }


HARD_LOGITS = _hard_logits()


def assert_log_sigsoftmax(log_sigsoftmax, rows=None, dtype=np.float32, ulps=4):
    """``log_sigsoftmax`` agrees with float64 on every row to ``ulps`` of the row's largest log-probability.

    The unit in the last place is that of ``dtype`` at the largest finite |log p| of the row, at least 1.
    """
    for name, logits in (rows or HARD_LOGITS).items():
        rounded = jnp.asarray(logits, dtype)
        expected = reference.log_probs(np.asarray(rounded, np.float64))
        actual = np.asarray(log_sigsoftmax(rounded), np.float64)
        live = np.isfinite(expected)
        np.testing.assert_array_equal(np.isneginf(actual), ~live, err_msg=f"{name}: masked entries")
        size = np.max(np.abs(np.where(live, expected, 0)), -1, keepdims=True)
        ulp = np.exp2(np.floor(np.log2(np.maximum(size, 1)))) * float(jnp.finfo(dtype).eps)
        error = np.where(live, actual - np.where(live, expected, 0), 0) / ulp
        assert np.all(np.abs(error) <= ulps), f"{name}: off by {np.abs(error).max():.3g} ulp"
        total = np.exp(np.where(live, actual, -np.inf)).sum(-1)
        # Half precision rounds log p itself, hence each p by up to |log p| eps.
        slack = 1e-6 if dtype == np.float32 else 4 * float(jnp.finfo(dtype).eps) * (1 + np.log(500))
        assert np.all(np.abs(total - 1) <= slack), f"{name}: probabilities sum to {total}"
