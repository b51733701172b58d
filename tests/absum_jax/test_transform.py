"""The optax form of a proximal step equals the explicit one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from absum_jax import (
    absum_penalty,
    conv_kernel_mask,
    prox_absum,
    prox_l1,
    prox_squared_l2,
    proximal,
    tree_prox,
)


@pytest.fixture
def params():
    keys = jax.random.split(jax.random.key(0), 2)
    return {
        "Conv_0": {"kernel": jax.random.normal(keys[0], (3, 3, 2, 4)), "bias": jnp.zeros(4)},
        "Dense_0": {"kernel": jax.random.normal(keys[1], (4, 2))},
    }


@pytest.mark.parametrize("prox", [prox_absum, prox_l1, prox_squared_l2])
def test_in_a_chain_with_a_schedule_it_equals_the_explicit_prox(params, prox):
    schedule = optax.cosine_decay_schedule(0.1, decay_steps=20)
    base = optax.sgd(schedule, momentum=0.9)
    chained = optax.chain(base, proximal(prox, schedule, 0.3))
    first, first_state = params, base.init(params)
    second, second_state = params, chained.init(params)
    for step in range(20):
        grads = jax.tree.map(lambda p, step=step: jnp.sin(p + step), params)
        updates, first_state = base.update(grads, first_state, first)
        first = tree_prox(prox, optax.apply_updates(first, updates), 0.3, schedule(step))
        updates, second_state = chained.update(grads, second_state, second)
        second = optax.apply_updates(second, updates)
    # p + (q - p) rounds once a step: 20 steps of half a unit in the last place of numbers below 4.
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(one, other, atol=20 * 2.4e-7)
    assert float(jnp.abs(first["Conv_0"]["kernel"] - params["Conv_0"]["kernel"]).max()) > 0.1


def test_jitted_with_adam_and_partitioned_labels(params):
    optimizer = optax.partition(
        {"conv": optax.chain(optax.adam(0.1), proximal(prox_absum, 0.1, 1e3)), "rest": optax.adam(0.1)},
        lambda tree: jax.tree.map(lambda flag: "conv" if flag else "rest", conv_kernel_mask(tree)),
    )

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
        return optax.apply_updates(params, updates), state

    new_params, _ = step(params, optimizer.init(params))
    assert float(absum_penalty(new_params)) < 1e-5


def test_bad_input(params):
    with pytest.raises(ValueError, match="strength"):
        proximal(prox_l1, 0.1, -1.0)
    with pytest.raises(ValueError, match="learning_rate"):
        proximal(prox_l1, -0.1, 1.0)
    transform = proximal(prox_l1, 0.1, 1.0)
    with pytest.raises(ValueError, match="needs the parameters"):
        transform.update(params, transform.init(params))
    with pytest.raises(ValueError, match="selects no leaf"):
        transform.update({"bias": jnp.ones(2)}, transform.init(params), {"bias": jnp.ones(2)})
