"""Logits where forms of the sigsoftmax go wrong, and the check of a form against them.

All examples are stacked in arrays of two shapes, so that a form is compiled twice and not once an example.
"""

import jax.numpy as jnp
import numpy as np

from tests.sigsoftmax_jax import reference

NAMED = {
    "spread and negative": [-300.0, -200.0, -150.0],
    "mixed magnitudes": [-60.0, 0.0, -1e4, 1e-3, 40.0],
    "far below the next": [-250.0, -251.0, -252.0],
    "far above the one before": [250.0, 251.0, 252.0],
    "one left, at -300": [-300.0],
    "one left, near 0": [0.3],
    "one left, at 300": [300.0],
    "one left, at -1e4": [-1e4],
}


def _few():
    """[16, 9]: what is shorter is filled up with masked classes."""
    noise = np.random.default_rng(0).normal(size=(8, 9))
    noise[4:, 3] = -np.inf
    named = [values + [-np.inf] * (9 - len(values)) for values in NAMED.values()]
    return np.concatenate([named, noise])


def _many():
    """[56, 500]: normal around several centres, and uniform up to several sizes."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(8, 500))
    centred = [noise + centre for centre in (0, -300, -1e4, 300, 1e4)]
    return np.concatenate([*centred, rng.uniform(-100, 100, (8, 500)), rng.uniform(-1e4, 1e4, (8, 500))])


FEW_CLASSES, MANY_CLASSES = _few(), _many()
HARD_LOGITS = (FEW_CLASSES, MANY_CLASSES)
STANDARD_NORMAL, UNIFORM = MANY_CLASSES[:8], MANY_CLASSES[40:48]


def below(limit):
    """The examples whose logits are all smaller than the limit in size."""
    return [x[np.abs(np.where(np.isfinite(x), x, 0)).max(-1) < limit] for x in HARD_LOGITS]


def assert_log_sigsoftmax(log_sigsoftmax, logits=HARD_LOGITS, dtype=np.float32, ulps=4):
    """``log_sigsoftmax`` agrees with float64 to ``ulps`` of the largest log-probability of each example.

    The unit in the last place is that of ``dtype`` at the largest finite |log p| of the example, at least 1.
    """
    for examples in logits:
        rounded = jnp.asarray(examples, dtype)
        expected = reference.log_probs(np.asarray(rounded, np.float64))
        actual = np.asarray(log_sigsoftmax(rounded), np.float64)
        live = np.isfinite(expected)
        np.testing.assert_array_equal(np.isneginf(actual), ~live, err_msg="masked entries")
        size = np.max(np.abs(np.where(live, expected, 0)), -1, keepdims=True)
        ulp = np.exp2(np.floor(np.log2(np.maximum(size, 1)))) * float(jnp.finfo(dtype).eps)
        error = np.abs(np.where(live, actual - np.where(live, expected, 0), 0) / ulp).max(-1)
        assert np.all(error <= ulps), f"off by {error} ulp"
        total = np.exp(np.where(live, actual, -np.inf)).sum(-1)
        # Half precision rounds log p itself, hence each p by up to |log p| eps.
        slack = 1e-6 if dtype == np.float32 else 4 * float(jnp.finfo(dtype).eps) * (1 + np.log(500))
        assert np.all(np.abs(total - 1) <= slack), f"probabilities sum to {total}"
