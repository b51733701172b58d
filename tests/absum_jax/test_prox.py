"""The proximal operators against float64 NumPy, and against what they claim to minimise."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import absum, absum_penalty, prox_absum, prox_l1, prox_squared_l2, tree_prox
from tests.absum_jax.kernel_arrays import (
    SHAPES,
    absum_reference,
    equinox_params,
    prox_absum_reference,
    random_kernel,
)

PROXES = [prox_absum, prox_l1, prox_squared_l2]


@pytest.mark.parametrize("shape", SHAPES)
def test_prox_absum_equals_reference(shape):
    kernel = random_kernel(shape)
    prox = jax.jit(prox_absum)
    for tau in [0.0, 0.01, 0.3, 100.0]:
        # Entries near zero after the subtraction keep the absolute error of their operands, hence atol.
        expected = prox_absum_reference(kernel, np.float32(tau))
        np.testing.assert_allclose(prox(kernel, tau), expected, rtol=1e-6, atol=5e-7)


@pytest.mark.parametrize(
    ("prox", "penalty"),
    [
        (prox_absum, absum_reference),
        (prox_l1, lambda u: np.abs(u).sum()),
        (prox_squared_l2, lambda u: 0.5 * np.square(u).sum()),
    ],
)
def test_no_perturbation_lowers_the_objective(prox, penalty, x64):
    strength, scaling = 0.7, 0.5
    x = random_kernel((2, 2, 2, 2), dtype=jnp.float64)
    best = np.asarray(prox(x, strength, scaling))

    def objective(u):
        return 0.5 * np.square(u - np.asarray(x)).sum() + scaling * strength * penalty(u)

    rng = np.random.default_rng(0)
    for size in np.geomspace(1e-4, 1.0, 1000):
        # The objective is strongly convex; only rounding of the float64 sum (about 1e-15) is allowed for.
        assert objective(best + size * rng.standard_normal(best.shape)) > objective(best) - 1e-14


@pytest.mark.parametrize(
    ("prox", "penalty"),
    [
        (prox_absum, absum_reference),
        (prox_l1, lambda u: np.abs(u).sum()),
        (prox_squared_l2, lambda u: 0.5 * np.square(u).sum()),
    ],
)
def test_no_perturbation_lowers_the_objective_in_a_metric(prox, penalty, x64):
    strength, scaling = 0.7, 0.5
    x = random_kernel((2, 2, 2, 2), dtype=jnp.float64)
    metric = jnp.exp(2 * random_kernel((2, 2, 2, 2), seed=1, dtype=jnp.float64))
    best = np.asarray(prox(x, strength, scaling, metric=metric))

    def objective(u):
        return 0.5 * (metric * np.square(u - np.asarray(x))).sum() + scaling * strength * penalty(u)

    rng = np.random.default_rng(0)
    for size in np.geomspace(1e-4, 1.0, 300):
        # As above; the weights are up to 50, and so is the rounding.
        assert objective(best + size * rng.standard_normal(best.shape)) > objective(best) - 1e-12


def test_a_metric_of_one_changes_nothing_and_extreme_ones_stay_finite():
    kernel = random_kernel((3, 3, 4, 5))
    for prox in PROXES:
        np.testing.assert_allclose(
            prox(kernel, 0.1, metric=jnp.ones_like(kernel)), prox(kernel, 0.1), rtol=1e-5, atol=5e-7
        )
    tiny = jnp.full_like(kernel, 1e-37)
    sums = np.asarray(prox_absum(kernel, 0.1, metric=tiny), np.float64).sum((0, 1))
    assert np.abs(sums).max() < 1e-6
    np.testing.assert_allclose(prox_absum(kernel, 0.1, metric=jnp.full_like(kernel, 1e37)), kernel, atol=1e-7)


@pytest.mark.parametrize(
    ("metric", "message"),
    [(np.ones((3, 3, 1, 1)), "metric must have the shape of its leaf"), (-1.0, "positive"), (np.inf, "finite")],
)
def test_a_metric_that_is_none(metric, message):
    kernel = random_kernel((3, 3, 2, 2))
    for prox in PROXES:
        with pytest.raises(ValueError, match=message):
            prox(kernel, 0.1, metric=metric if np.ndim(metric) else jnp.full_like(kernel, metric))


@pytest.mark.parametrize("shape", SHAPES)
def test_large_strength_gives_zero_sums_and_leaves_the_rest(shape):
    kernel = random_kernel(shape)
    result = np.asarray(jax.jit(prox_absum)(kernel, 1e6), np.float64)
    axes = tuple(range(len(shape) - 2))
    assert np.abs(result.sum(axis=axes)).max() < 1e-6
    zero_sum = np.asarray(kernel, np.float64)
    zero_sum = zero_sum - zero_sum.mean(axis=axes, keepdims=True)
    np.testing.assert_allclose(result, zero_sum, atol=1e-6)


def test_prox_of_1x1_kernels_is_soft_thresholding():
    kernel = random_kernel((1, 1, 8, 8))
    np.testing.assert_array_equal(prox_absum(kernel, 0.4), prox_l1(kernel, 0.4))


def test_scaling_multiplies_strength():
    kernel = random_kernel((3, 3, 2, 2))
    for prox in PROXES:
        np.testing.assert_allclose(prox(kernel, 0.5, 0.25), prox(kernel, 0.125), rtol=1e-7)


def test_channels_first_kernels():
    kernel = random_kernel((3, 3, 4, 5))
    channels_first = jnp.asarray(np.transpose(kernel, (3, 2, 0, 1)))
    expected = np.transpose(prox_absum(kernel, 0.1), (3, 2, 0, 1))
    np.testing.assert_allclose(prox_absum(channels_first, 0.1, spatial_axes=(2, 3)), expected, rtol=1e-6)


def test_prox_and_subgradient_steps_agree_as_the_step_shrinks():
    kernel = random_kernel((3, 3, 3, 3))
    step = 1e-4  # no sum changes sign, so the steps differ by rounding only
    subgradient = jax.jit(jax.grad(absum))(kernel)
    np.testing.assert_allclose(prox_absum(kernel, 1.0, step), np.asarray(kernel - step * subgradient), atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_sums_in_float32(dtype):
    kernel = random_kernel((3, 3, 16, 16), dtype=dtype)
    result = jax.jit(prox_absum)(kernel, 0.1)
    assert result.dtype == dtype
    expected = prox_absum_reference(kernel, np.float32(0.1))
    # One rounding to the narrow type: half a unit in the last place of the largest entry.
    np.testing.assert_allclose(
        np.asarray(result, np.float64),
        expected,
        atol=float(jnp.finfo(dtype).eps) * np.abs(expected).max() / 2 + 1e-6,
    )


def test_mapped_over_kernels_and_strengths():
    kernels, taus = random_kernel((4, 3, 3, 2, 2)), np.array([0.0, 0.1, 0.2, 0.3], np.float32)
    mapped = jax.jit(jax.vmap(prox_absum))(kernels, taus)
    for kernel, tau, result in zip(np.asarray(kernels), taus, mapped, strict=True):
        np.testing.assert_allclose(result, prox_absum_reference(kernel, tau), rtol=1e-6, atol=5e-7)


def test_pure_functions_keep_strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        for prox in PROXES:
            params = {"kernel": random_kernel((3, 3, 2, 2))}
            assert tree_prox(prox, params, 0.1, 0.1)["kernel"].dtype == jnp.float32


def test_numpy_kernels_of_double_precision():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 2))
    assert prox_absum(kernel, 0.1).dtype == prox_l1(kernel, 0.1).dtype == jnp.float32


def test_tree_prox_leaves_the_rest_alone():
    params = {
        "Conv_0": {"kernel": random_kernel((3, 3, 2, 2)), "bias": jnp.ones(2)},
        "Dense_0": {"kernel": jnp.ones((4, 4))},
    }
    result = tree_prox(functools.partial(prox_absum, spatial_axes=(0, 1)), params, 0.1)
    assert result["Conv_0"]["bias"] is params["Conv_0"]["bias"]
    assert result["Dense_0"]["kernel"] is params["Dense_0"]["kernel"]
    np.testing.assert_array_equal(result["Conv_0"]["kernel"], prox_absum(params["Conv_0"]["kernel"], 0.1))


@pytest.mark.parametrize("wrap", [lambda prox: prox, functools.partial(jax.jit, static_argnames="spatial_axes")])
@pytest.mark.parametrize("spatial_axes", [(-2, -1), [2, 3]])
def test_spatial_axes_reach_the_kernels_of_an_equinox_tree(wrap, spatial_axes):
    params = equinox_params(eqx.nn.Conv2d, 2, 4, (3, 5))
    result = tree_prox(wrap(prox_absum), params, 0.2, spatial_axes=spatial_axes)
    assert type(result) is eqx.nn.Conv2d
    assert result.bias is params.bias
    hwio = np.transpose(params.weight, (2, 3, 1, 0))
    expected = np.transpose(prox_absum_reference(hwio, np.float32(0.2)), (3, 2, 0, 1))
    np.testing.assert_allclose(result.weight, expected, rtol=1e-6, atol=5e-7)


def test_spatial_axes_of_the_call_come_before_those_of_a_partial():
    bound = functools.partial(prox_absum, spatial_axes=(0, 1))
    result = tree_prox(bound, equinox_params(eqx.nn.Conv2d, 2, 4, 3), 1e6, spatial_axes=(-2, -1))
    assert float(absum_penalty(result, spatial_axes=(-2, -1))) < 1e-5


def test_spatial_axes_reach_a_prox_of_ones_own():
    def negated(leaf, strength, scaling, **options):
        return jnp.flip(leaf, options["spatial_axes"])

    kernel = random_kernel((3, 3, 2, 2))
    result = tree_prox(negated, {"kernel": kernel}, 0.1, spatial_axes=(0,))
    np.testing.assert_array_equal(result["kernel"], np.asarray(kernel)[::-1])


def test_a_stack_of_layers_is_handled_by_its_axes():
    kernels = random_kernel((4, 3, 3, 2, 2))
    result = tree_prox(prox_absum, {"kernel": kernels}, 0.1, mask={"kernel": True}, spatial_axes=(-4, -3))
    expected = [prox_absum_reference(kernel, np.float32(0.1)) for kernel in np.asarray(kernels)]
    np.testing.assert_allclose(result["kernel"], expected, rtol=1e-6, atol=5e-7)


def test_a_profile_names_the_prox():
    for prox in PROXES:
        program = jax.jit(prox).lower(random_kernel((3, 3, 2, 2)), 0.1)
        assert f"{prox.__name__}/" in program.as_text(debug_info=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: prox_absum(k, -1.0), "strength must be finite and not negative, got -1.0"),
        (lambda k: prox_l1(k, 1.0, -0.1), "scaling must be finite and not negative, got -0.1"),
        (lambda k: prox_squared_l2(k, float("nan")), "strength must be finite and not negative, got nan"),
        (lambda k: prox_absum(k, "a"), "strength must be an array of numbers, got str of dtype <U1"),
        (
            lambda k: prox_l1(k, np.ones(3)),
            r"strength must be a number, or broadcast to the shape \(3, 3, 2, 2\), got",
        ),
        (lambda k: prox_squared_l2(k, 1.0, np.ones((1, 1, 1, 1, 2))), "scaling must be a number, or broadcast"),
        (
            lambda k: prox_absum(k, np.ones((3, 1, 1, 1))),
            r"strength must be .* broadcast to the shape \(1, 1, 2, 2\)",
        ),
        (lambda k: prox_l1(k, 1.0, None), "scaling must be an array of numbers, got NoneType of dtype object"),
        (lambda k: prox_l1(k, jax.random.key(0)), "strength must be an array of numbers, got .* of dtype key"),
        (lambda k: prox_l1(k, 1.0, metric="a"), "metric must be an array of numbers, got str"),
        (lambda k: prox_absum(k.astype(np.int32), 1.0), "kernel must be a float array, got dtype int32"),
        (lambda k: prox_l1(k.astype(np.int32), 1.0), "x must be a float array, got dtype int32"),
        (lambda k: tree_prox(prox_l1, {"kernel": k}, -1.0), "strength must be finite"),
        (
            lambda k: tree_prox(prox_l1, {"kernel": k}, 0.1, spatial_axes=(0, 1)),
            r"spatial_axes must be None for prox_l1, which does not take it, got \(0, 1\)",
        ),
        (
            lambda k: tree_prox(functools.partial(prox_l1, scaling=1.0), {"kernel": k}, 0.1, spatial_axes=(0, 1)),
            "spatial_axes must be None for functools.partial",
        ),
        (lambda k: tree_prox(np.multiply, {"kernel": k}, 0.1, spatial_axes=(0, 1)), "None for multiply"),
        (lambda k: tree_prox(prox_absum, {"kernel": k}, 0.1, spatial_axes=(0, 7)), "different axes of a kernel"),
    ],
)
def test_bad_input(call, message, no_shape_types):
    with pytest.raises(ValueError, match=message) as raised:
        call(np.ones((3, 3, 2, 2), np.float32))
    assert "\n" not in str(raised.value)


def test_traced_spatial_axes_are_named(no_shape_types):
    with pytest.raises(
        ValueError, match=r"spatial_axes must be integers known when compiled, got .*static_argnames"
    ):
        tree_prox(jax.jit(prox_absum), {"kernel": np.ones((3, 3, 2, 2))}, 0.1, spatial_axes=(0, 1))
