"""The optax form of a proximal step equals the explicit one."""

import equinox as eqx
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
from tests.absum_jax.kernel_arrays import equinox_params, random_kernel


@pytest.fixture
def params():
    return {
        "Conv_0": {"kernel": random_kernel((3, 3, 2, 4)), "bias": jnp.zeros(4)},
        "Dense_0": {"kernel": random_kernel((4, 2), seed=1)},
    }


@pytest.mark.parametrize("prox", [prox_absum, prox_l1, prox_squared_l2])
def test_in_a_chain_with_a_schedule_it_equals_the_explicit_prox(params, prox):
    schedule = optax.cosine_decay_schedule(0.1, decay_steps=20)
    base = optax.sgd(schedule, momentum=0.9)
    chained = optax.chain(base, proximal(prox, schedule, 0.3))

    @jax.jit
    def explicit(grads, state, params, step):
        updates, state = base.update(grads, state, params)
        return tree_prox(prox, optax.apply_updates(params, updates), 0.3, schedule(step)), state

    @jax.jit
    def in_a_chain(grads, state, params):
        updates, state = chained.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    first, first_state = params, base.init(params)
    second, second_state = params, chained.init(params)
    for step in range(20):
        grads = jax.tree.map(lambda p, step=step: np.sin(np.asarray(p) + step), params)
        first, first_state = explicit(grads, first_state, first, step)
        second, second_state = in_a_chain(grads, second_state, second)
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


def test_spatial_axes_reach_the_kernels_of_an_equinox_tree():
    axes = (-2, -1)
    params = equinox_params(eqx.nn.Conv2d, 2, 4, 3)
    transform = proximal(prox_absum, 0.5, 0.2, spatial_axes=axes)
    updates, _ = transform.update(jax.tree.map(jnp.zeros_like, params), transform.init(params), params)
    expected = tree_prox(prox_absum, params, 0.2, 0.5, spatial_axes=axes)
    # p + (q - p) rounds once: half a unit in the last place of numbers below 4.
    np.testing.assert_allclose(optax.apply_updates(params, updates).weight, expected.weight, atol=2.4e-7)
    assert absum_penalty(expected, spatial_axes=axes) < absum_penalty(params, spatial_axes=axes)


@pytest.mark.parametrize("mask", [conv_kernel_mask, {"Conv_0": {"kernel": True, "bias": False}, "Dense_0": False}])
def test_hyperparameters_may_be_injected(params, mask):
    schedule = optax.cosine_decay_schedule(0.1, decay_steps=4)
    inject = optax.inject_hyperparams(proximal, static_args=("prox", "mask"))
    injected = inject(prox_absum, schedule, 0.5, mask=mask)
    plain = proximal(prox_absum, schedule, 0.5, mask=mask)
    zeros, state, plain_state = jax.tree.map(jnp.zeros_like, params), injected.init(params), plain.init(params)
    for step in range(3):
        updates, state = injected.update(zeros, state, params)
        expected, plain_state = plain.update(zeros, plain_state, params)
        jax.tree.map(np.testing.assert_array_equal, updates, expected)
        np.testing.assert_allclose(state.hyperparams["learning_rate"], schedule(step), rtol=1e-6)
    state.hyperparams["strength"] = jnp.float32(0.0)
    updates, _ = injected.update(zeros, state, params)
    jax.tree.map(np.testing.assert_array_equal, updates, zeros)


def test_inside_multi_steps_there_is_one_proximal_step_for_each_real_update(params):
    optimizer = optax.MultiSteps(optax.chain(optax.sgd(0.1), proximal(prox_absum, 0.1, 0.5)), every_k_schedule=2)
    zeros = jax.tree.map(jnp.zeros_like, params)
    first, state = optimizer.update(zeros, optimizer.init(params), params)
    second, _ = optimizer.update(zeros, state, params)
    jax.tree.map(np.testing.assert_array_equal, first, zeros)
    expected = tree_prox(prox_absum, params, 0.5, 0.1)
    np.testing.assert_allclose(
        second["Conv_0"]["kernel"], expected["Conv_0"]["kernel"] - params["Conv_0"]["kernel"], atol=1e-7
    )


def test_around_the_optimiser_alone_multi_steps_leave_one_for_each_small_batch(params):
    inside = optax.chain(optax.MultiSteps(optax.sgd(0.1), every_k_schedule=2), proximal(prox_absum, 0.1, 0.5))
    zeros = jax.tree.map(jnp.zeros_like, params)
    first, _ = inside.update(zeros, inside.init(params), params)
    expected = tree_prox(prox_absum, params, 0.5, 0.1)
    np.testing.assert_allclose(
        first["Conv_0"]["kernel"], expected["Conv_0"]["kernel"] - params["Conv_0"]["kernel"], atol=1e-7
    )


def test_before_the_optimiser_it_raises_the_penalty(params):
    first = optax.chain(proximal(prox_absum, 0.1, 0.5), optax.sgd(0.1))
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = first.update(zeros, first.init(params), params)
    assert absum_penalty(optax.apply_updates(params, updates)) > absum_penalty(params)


def test_a_frozen_leaf_is_moved_unless_the_mask_leaves_it_out(params):
    frozen = optax.chain(optax.set_to_zero(), proximal(prox_absum, 0.1, 0.5))
    updates, _ = frozen.update(params, frozen.init(params), params)
    assert float(jnp.abs(updates["Conv_0"]["kernel"]).max()) > 0.01
    assert not np.any(updates["Dense_0"]["kernel"])


def test_bad_input(params):
    with pytest.raises(ValueError, match=r"spatial_axes must be None for prox_l1.*got \(-2, -1\)"):
        proximal(prox_l1, 0.1, 1.0, spatial_axes=(-2, -1))
    with pytest.raises(ValueError, match="strength"):
        proximal(prox_l1, 0.1, -1.0)
    with pytest.raises(ValueError, match="learning_rate"):
        proximal(prox_l1, -0.1, 1.0)
    transform = proximal(prox_l1, 0.1, 1.0)
    with pytest.raises(ValueError, match="params must be given to proximal, got None"):
        transform.update(params, transform.init(params))
    with pytest.raises(ValueError, match="mask must select a leaf"):
        transform.update({"bias": jnp.ones(2)}, transform.init(params), {"bias": jnp.ones(2)})
