"""Absum and the proximal operators against float64 NumPy, and against what they claim to minimise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import absum, absum_penalty, prox_absum, prox_l1, prox_squared_l2, tree_prox

SHAPES = [(3, 3, 4, 5), (1, 1, 6, 7), (5, 4, 1, 3), (7, 2, 3), (3, 2, 3, 2, 2)]


def absum_reference(kernel):
    """Loops over channel pairs, in float64."""
    kernel = np.asarray(kernel, np.float64)
    slices = kernel.reshape(-1, kernel.shape[-2], kernel.shape[-1])
    return sum(abs(slices[:, i, o].sum()) for i in range(slices.shape[1]) for o in range(slices.shape[2]))


def prox_absum_reference(kernel, tau):
    """Case by case, from the optimality condition of one slice, in float64."""
    result = np.array(kernel, np.float64)
    taps = int(np.prod(result.shape[:-2]))
    for i in range(result.shape[-2]):
        for o in range(result.shape[-1]):
            total = result[..., i, o].sum()
            if total > taps * tau:
                result[..., i, o] -= tau
            elif total < -taps * tau:
                result[..., i, o] += tau
            else:
                result[..., i, o] -= total / taps
    return result


def random_kernel(shape, seed=0, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_absum_equals_reference(shape):
    kernel = random_kernel(shape)
    np.testing.assert_allclose(absum(kernel), absum_reference(kernel), rtol=1e-6)


def test_penalty_of_a_large_kernel_keeps_its_digits():
    # 262,144 slices: one long float32 sum would lose digits that the tolerance of the contract needs.
    kernel = random_kernel((3, 3, 512, 512))
    sums = np.asarray(kernel, np.float64).sum(axis=(0, 1))
    np.testing.assert_allclose(absum_penalty({"kernel": kernel}), np.abs(sums).sum(), rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tau", [0.0, 0.01, 0.3, 100.0])
def test_prox_absum_equals_reference(shape, tau):
    kernel = random_kernel(shape)
    # Entries near zero after the subtraction keep the absolute error of their operands, hence atol.
    expected = prox_absum_reference(kernel, np.float32(tau))
    np.testing.assert_allclose(prox_absum(kernel, tau), expected, rtol=1e-6, atol=5e-7)


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


@pytest.mark.parametrize("shape", SHAPES)
def test_large_strength_gives_zero_sums_and_leaves_the_rest(shape):
    kernel = random_kernel(shape)
    result = np.asarray(prox_absum(kernel, 1e6), np.float64)
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
    for prox in (prox_absum, prox_l1, prox_squared_l2):
        np.testing.assert_allclose(prox(kernel, 0.5, 0.25), prox(kernel, 0.125), rtol=1e-7)


def test_channels_first_kernels():
    kernel = random_kernel((3, 3, 4, 5))
    channels_first = kernel.transpose(3, 2, 0, 1)
    np.testing.assert_allclose(absum(channels_first, spatial_axes=(-2, -1)), absum(kernel), rtol=1e-6)
    result = prox_absum(channels_first, 0.1, spatial_axes=(2, 3))
    np.testing.assert_allclose(result, prox_absum(kernel, 0.1).transpose(3, 2, 0, 1), rtol=1e-6)


def test_gradient_is_the_sign_of_the_sum_and_zero_at_zero():
    kernel = jnp.stack([jnp.full((3, 3, 2), 2.0), jnp.full((3, 3, 2), -2.0), jnp.zeros((3, 3, 2))], axis=-1)
    gradient = jax.grad(absum)(kernel)
    np.testing.assert_array_equal(gradient[0, 0, 0], [1.0, -1.0, 0.0])


def test_prox_and_subgradient_steps_agree_as_the_step_shrinks():
    kernel = random_kernel((3, 3, 3, 3))
    step = 1e-4  # no sum changes sign, so the steps differ by rounding only
    np.testing.assert_allclose(prox_absum(kernel, 1.0, step), kernel - step * jax.grad(absum)(kernel), atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_sums_in_float32(dtype):
    kernel = random_kernel((3, 3, 16, 16)).astype(dtype)
    assert absum(kernel).dtype == jnp.float32
    np.testing.assert_allclose(absum(kernel), absum_reference(kernel), rtol=1e-6)
    result = prox_absum(kernel, 0.1)
    assert result.dtype == dtype
    expected = prox_absum_reference(kernel, np.float32(0.1))
    # One rounding to the narrow type: half a unit in the last place of the largest entry.
    np.testing.assert_allclose(
        np.asarray(result, np.float64),
        expected,
        atol=float(jnp.finfo(dtype).eps) * np.abs(expected).max() / 2 + 1e-6,
    )


def test_transforms_of_jax():
    kernels = random_kernel((4, 3, 3, 2, 2))
    taus = jnp.array([0.0, 0.1, 0.2, 0.3])
    mapped = jax.jit(jax.vmap(prox_absum))(kernels, taus)
    for kernel, tau, result in zip(kernels, taus, mapped, strict=True):
        np.testing.assert_allclose(result, prox_absum(kernel, tau), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(jax.vmap(absum)(kernels).sum(), sum(map(absum, kernels)), rtol=1e-6)


def test_pure_functions_keep_strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        kernel = random_kernel((3, 3, 2, 2))
        assert absum_penalty({"kernel": kernel}).dtype == jnp.float32
        for prox in (prox_absum, prox_l1, prox_squared_l2):
            assert tree_prox(prox, {"kernel": kernel}, 0.1, 0.1)["kernel"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: prox_absum(k, -1.0), "strength must be finite and not negative"),
        (lambda k: prox_l1(k, 1.0, -0.1), "scaling must be finite and not negative"),
        (lambda k: prox_squared_l2(k, float("nan")), "strength must be finite"),
        (lambda k: absum(k[0, 0]), r"spatial axes.*\(2, 2\)"),
        (lambda k: absum(k, spatial_axes=(0, 4)), "do not fit"),
        (lambda k: absum(k, spatial_axes=(0, -4)), "do not fit"),
        (lambda k: absum(k, spatial_axes=()), "do not fit"),
        (lambda k: absum(k.astype(jnp.int32)), "float array.*int32"),
        (lambda k: prox_l1(k.astype(jnp.int32), 1.0), "float array.*int32"),
        (lambda k: absum_penalty({"dense": {"kernel": k[0, 0]}}), "selects no leaf"),
        (lambda k: absum_penalty({"kernel": k}, mask={"kernel": False}), "selects no leaf"),
        (lambda k: absum_penalty({"kernel": k}, mask={"other": True}), "structure of params"),
        (lambda k: absum_penalty({"kernel": k}, mask={"kernel": 1}), "must hold bools"),
        (lambda k: tree_prox(prox_l1, {"kernel": k}, -1.0), "strength"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_kernel((3, 3, 2, 2)))


def test_numpy_kernels_of_double_precision():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 2))
    np.testing.assert_allclose(absum(kernel), absum_reference(kernel), rtol=1e-6)
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


def test_mask_may_be_a_prefix_or_a_function():
    params = {
        "a": {"kernel": random_kernel((3, 3, 2, 2))},
        "b": {"kernel": random_kernel((3, 3, 2, 2), seed=1)},
    }
    only_a = absum(params["a"]["kernel"])
    assert absum_penalty(params, mask={"a": True, "b": False}) == only_a
    assert absum_penalty(params, mask=lambda tree: {name: name == "a" for name in tree}) == only_a
