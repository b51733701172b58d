"""Adam with a proximal step in its own metric: what it reduces to, and where it ends."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from absum_jax import absum, absum_penalty, prox_absum, prox_l1, proximal, proximal_adam, tree_prox
from tests.absum_jax.kernel_arrays import equinox_params, random_kernel


@pytest.fixture
def params():
    return {
        "Conv_0": {"kernel": random_kernel((3, 3, 2, 4)), "bias": jnp.zeros(4)},
        "Dense_0": {"kernel": random_kernel((4, 2), seed=1)},
    }


def grads_of(params, step):
    return jax.tree.map(lambda p: jnp.sin(3 * p + step), params)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_without_strength_it_is_adam(params, weight_decay):
    schedule = optax.cosine_decay_schedule(0.1, decay_steps=5)
    ours = proximal_adam(prox_absum, schedule, 0.0, b1=0.8, b2=0.9, eps=1e-3, weight_decay=weight_decay)
    theirs = optax.adamw(schedule, b1=0.8, b2=0.9, eps=1e-3, weight_decay=weight_decay)
    first, second, state, their_state = params, params, ours.init(params), theirs.init(params)
    for step in range(4):
        updates, state = ours.update(grads_of(params, step), state, first)
        first = optax.apply_updates(first, updates)
        updates, their_state = theirs.update(grads_of(params, step), their_state, second)
        second = optax.apply_updates(second, updates)
    # p + (q - p) rounds once a step: half a unit in the last place of numbers below 4.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=4 * 2.4e-7), first, second)


def test_a_step_is_the_prox_in_the_metric_of_the_moments(params, x64):
    params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    rate, strength, b2 = 0.05, 0.7, 0.999
    optimizer, adam = proximal_adam(prox_absum, rate, strength), optax.adam(rate)
    state, adam_state = optimizer.init(params), adam.init(params)
    second_moment = 0.0
    for step in range(3):
        grads = grads_of(params, step)
        grads["Conv_0"]["kernel"] = grads["Conv_0"]["kernel"].at[0, 0].set(0.0)
        second_moment = b2 * second_moment + (1 - b2) * np.square(grads["Conv_0"]["kernel"])
        d = np.sqrt(second_moment / (1 - b2 ** (step + 1))) + 1e-8
        assert (d < 0.1 * d.mean()).any()  # the bound is met
        d = np.maximum(d, 0.1 * d.mean())
        updates, state = optimizer.update(grads, state, params)
        adam_updates, adam_state = adam.update(grads, adam_state, params)
        moved = optax.apply_updates(params, adam_updates)
        kernel = moved["Conv_0"]["kernel"]
        total, mobility = kernel.sum((0, 1)), (1 / d).sum((0, 1))
        expected = kernel - np.clip(total / mobility, -rate * strength, rate * strength) / d
        new_params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(new_params["Conv_0"]["kernel"], expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(updates["Dense_0"]["kernel"], adam_updates["Dense_0"]["kernel"])


@pytest.mark.parametrize("strength", [0.02, 0.3])
def test_it_ends_at_the_minimum_whatever_the_scale_of_the_gradients(strength):
    """1/2 sum a (k - t)^2 + strength |sum k| per slice, with another a for each tap."""
    target = random_kernel((3, 3, 1, 4)) + 0.3
    curvature = jnp.exp(random_kernel((3, 3, 1, 4), seed=1))
    # The minimum is the prox of the target in the metric a.
    best = prox_absum(target, strength, metric=curvature)
    schedule = optax.cosine_decay_schedule(0.02, decay_steps=1500)

    def distance(optimizer):
        def step(carry, _):
            kernel, state = carry
            grads = curvature * (kernel - target)
            updates, state = optimizer.update({"kernel": grads}, state, {"kernel": kernel})
            return (kernel + updates["kernel"], state), None

        start = jnp.zeros_like(target)
        (kernel, _), _ = jax.lax.scan(step, (start, optimizer.init({"kernel": start})), length=1500)
        return float(jnp.abs(kernel - best).max())

    mask = {"kernel": True}
    # Adam's last steps are of 1e-8 and smaller; what is left is the bias of its averages.
    assert distance(proximal_adam(prox_absum, schedule, strength, mask=mask)) < 2e-3
    chained = optax.chain(optax.adam(schedule), proximal(prox_absum, schedule, strength, mask=mask))
    assert distance(chained) > 5 * 2e-3


def test_a_tap_without_gradients_takes_at_most_ten_times_the_average():
    kernel = jnp.ones((3, 3, 1, 1))
    grads = jnp.ones((3, 3, 1, 1)).at[0, 0].set(0.0)
    optimizer = proximal_adam(prox_absum, 0.1, 0.01, b1=0.0, mask={"kernel": True})
    updates, _ = optimizer.update({"kernel": grads}, optimizer.init({"kernel": kernel}), {"kernel": kernel})
    change = np.asarray(updates["kernel"]).ravel()
    # Metric: 1 for eight taps, and a tenth of the mean 8 / 9 for the other.
    np.testing.assert_allclose(change[0], -0.1 * 0.01 / (0.1 * 8 / 9), rtol=1e-4)
    np.testing.assert_allclose(change[1:], -0.1 - 0.1 * 0.01, rtol=1e-4)


def test_half_precision():
    params = {"kernel": jnp.ones((3, 3, 1, 2), jnp.bfloat16)}
    optimizer = proximal_adam(prox_absum, 0.1, 1e3, mask={"kernel": True})
    updates, _ = optimizer.update({"kernel": params["kernel"] / 8}, optimizer.init(params), params)
    assert updates["kernel"].dtype == jnp.bfloat16
    sums = np.asarray(optax.apply_updates(params, updates)["kernel"], np.float64).sum((0, 1))
    np.testing.assert_allclose(sums, 0, atol=9 * 2**-9)  # nine taps, each rounded to eight bits


def test_a_leaf_that_never_had_a_gradient_is_left_alone():
    params = {"kernel": random_kernel((3, 3, 1, 2)), "dead": random_kernel((3, 3, 1, 2), seed=1)}
    optimizer = proximal_adam(prox_absum, 0.1, 1e3, mask={"kernel": True, "dead": True})
    grads = {"kernel": params["kernel"], "dead": jnp.zeros((3, 3, 1, 2))}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    moved = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(moved["dead"], params["dead"])
    assert float(absum(moved["kernel"])) < 1e-5 < float(absum(params["kernel"]))


def test_in_multi_steps_under_jit_with_injected_numbers_and_equinox():
    axes = (-2, -1)
    params = equinox_params(eqx.nn.Conv2d, 2, 4, 3)
    inject = optax.inject_hyperparams(proximal_adam, static_args=("prox", "mask", "spatial_axes"))
    optimizer = optax.MultiSteps(inject(prox_absum, 0.1, 1e3, spatial_axes=axes), every_k_schedule=2)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
        return optax.apply_updates(params, updates), state

    unmoved, state = step(params, optimizer.init(params))
    moved, state = step(unmoved, state)
    np.testing.assert_array_equal(unmoved.weight, params.weight)
    assert float(absum_penalty(moved, spatial_axes=axes)) < 1e-5 < float(absum(params.weight, spatial_axes=axes))
    assert float(state.inner_opt_state.hyperparams["strength"]) == 1e3


def test_a_metric_tree_for_an_optimiser_of_ones_own(params):
    metric = jax.tree.map(lambda p: jnp.abs(p) + 0.5, params)
    new_params = tree_prox(prox_absum, params, 0.1, 0.5, metric=metric)
    kernel, d = params["Conv_0"]["kernel"], metric["Conv_0"]["kernel"]
    np.testing.assert_array_equal(new_params["Conv_0"]["kernel"], prox_absum(kernel, 0.1, 0.5, metric=d))
    assert new_params["Dense_0"]["kernel"] is params["Dense_0"]["kernel"]
    with pytest.raises(ValueError, match="metric must have the structure of params"):
        tree_prox(prox_absum, params, 0.1, metric={"Conv_0": metric["Conv_0"]})
    with pytest.raises(ValueError, match="metric must be None for own, which does not take it"):
        tree_prox(own, params, 0.1, metric=metric)


def own(leaf, strength, scaling=1.0):
    del strength, scaling
    return leaf


def test_bad_input(params):
    with pytest.raises(ValueError, match="strength"):
        proximal_adam(prox_l1, 0.1, -1.0)
    with pytest.raises(ValueError, match="learning_rate"):
        proximal_adam(prox_l1, -0.1, 1.0)
    with pytest.raises(ValueError, match="eps must be finite and not negative"):
        proximal_adam(prox_l1, 0.1, 1.0, eps=-1e-8)
    with pytest.raises(ValueError, match="weight_decay must be finite and not negative"):
        proximal_adam(prox_l1, 0.1, 1.0, weight_decay=-0.1)
    with pytest.raises(ValueError, match="spatial_axes must be None for prox_l1"):
        proximal_adam(prox_l1, 0.1, 1.0, spatial_axes=(0, 1))
    transform = proximal_adam(prox_l1, 0.1, 1.0)
    with pytest.raises(ValueError, match="params must be given to proximal_adam, got None"):
        transform.update(params, transform.init(params))
    with pytest.raises(ValueError, match="metric must be None for own"):
        proximal_adam(own, 0.1, 1.0).update(params, transform.init(params), params)
