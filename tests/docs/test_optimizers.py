"""The lines of docs/optimizers.md run, and each optimiser on it lowers the penalty as the page says."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from absum_jax import absum_penalty

TEXT = (Path(__file__).parents[2] / "docs" / "optimizers.md").read_text()


@pytest.fixture(scope="module")
def page():
    names = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)), names)
    return names


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "clipped", "injected_adam"])
def test_every_optimiser_lowers_the_penalty(page, name):
    params, optimizer = page["params"], page[name]
    grads = jax.tree.map(lambda p: np.full_like(p, -1e-3), params)  # against it, and smaller than the strength
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    assert absum_penalty(page["optax"].apply_updates(params, updates)) < absum_penalty(params)


def test_a_step_of_ones_own_equals_the_chain(page):
    params, optax, sgd = page["params"], page["optax"], page["sgd"]
    grads = jax.tree.map(lambda p: 0.1 * np.ones_like(p), params)
    updates, _ = sgd.update(grads, sgd.init(params), params)
    expected = optax.apply_updates(params, updates)
    plain = optax.sgd(page["schedule"], momentum=0.9)
    found, _ = page["exact_step"](params, grads, plain.init(params), 0)
    # The chain rounds once more: numbers near 1.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1.2e-7), found, expected)


def test_accumulated_gradients_have_one_proximal_step(page):
    params, optimizer = page["params"], page["accumulated"]
    grads, state = jax.tree.map(np.zeros_like, params), optimizer.init(params)
    for moved in [False, False, False, True]:
        updates, state = optimizer.update(grads, state, params)
        assert bool(np.any(updates["Conv_0"]["kernel"])) == moved


def test_a_frozen_layer_stays(page):
    params, optimizer = page["two_layers"], page["finetuning"]
    grads = jax.tree.map(np.zeros_like, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    assert not np.any(updates["Conv_0"]["kernel"])
    assert np.any(updates["Conv_1"]["kernel"])
