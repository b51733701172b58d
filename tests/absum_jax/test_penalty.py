"""Absum against float64 NumPy, and the penalty of a tree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import absum, absum_penalty
from tests.absum_jax.kernel_arrays import SHAPES, absum_reference, random_kernel


@pytest.mark.parametrize("shape", SHAPES)
def test_absum_equals_reference(shape):
    kernel = random_kernel(shape)
    np.testing.assert_allclose(jax.jit(absum)(kernel), absum_reference(kernel), rtol=1e-6)


def test_penalty_of_a_large_kernel_keeps_its_digits():
    # 262,144 slices: one long float32 sum would lose digits that the tolerance of the contract needs.
    kernel = random_kernel((3, 3, 512, 512))
    sums = np.asarray(kernel, np.float64).sum(axis=(0, 1))
    np.testing.assert_allclose(absum_penalty({"kernel": kernel}), np.abs(sums).sum(), rtol=1e-6)


def test_channels_first_kernels():
    kernel = random_kernel((3, 3, 4, 5))
    channels_first = jnp.asarray(np.transpose(kernel, (3, 2, 0, 1)))
    np.testing.assert_allclose(absum(channels_first, spatial_axes=(-2, -1)), absum_reference(kernel), rtol=1e-6)


def test_gradient_is_the_sign_of_the_sum_and_zero_at_zero():
    kernel = np.broadcast_to(np.array([2.0, -2.0, 0.0], np.float32), (3, 3, 2, 3))
    gradient = jax.jit(jax.grad(absum))(kernel)
    np.testing.assert_array_equal(gradient[0, 0, 0], [1.0, -1.0, 0.0])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_sums_in_float32(dtype):
    kernel = random_kernel((3, 3, 16, 16), dtype=dtype)
    assert absum(kernel).dtype == jnp.float32
    np.testing.assert_allclose(absum(kernel), absum_reference(kernel), rtol=1e-6)


def test_mapped_over_a_batch_of_kernels():
    kernels = random_kernel((4, 3, 3, 2, 2))
    expected = [absum_reference(kernel) for kernel in np.asarray(kernels)]
    np.testing.assert_allclose(jax.jit(jax.vmap(absum))(kernels), expected, rtol=1e-6)


def test_strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        assert absum_penalty({"kernel": random_kernel((3, 3, 2, 2))}).dtype == jnp.float32


def test_numpy_kernels_of_double_precision():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 2))
    np.testing.assert_allclose(absum(kernel), absum_reference(kernel), rtol=1e-6)


def test_mask_may_be_a_prefix_or_a_function():
    first, second = random_kernel((3, 3, 2, 2)), random_kernel((3, 3, 2, 2), seed=1)
    params = {"a": {"kernel": first}, "b": {"kernel": second}}
    only_a = absum(first)
    assert absum_penalty(params, mask={"a": True, "b": False}) == only_a
    assert absum_penalty(params, mask=lambda tree: {name: name == "a" for name in tree}) == only_a


def test_a_profile_names_the_penalty():
    program = jax.jit(absum_penalty).lower({"kernel": random_kernel((3, 3, 2, 2))})
    assert "absum_penalty/" in program.as_text(debug_info=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: absum(k[0, 0]), r"kernel must have spatial axes before \(in, out\), got shape \(2, 2\)"),
        (lambda k: absum(k, spatial_axes=(0, 4)), r"spatial_axes must be .* \(3, 3, 2, 2\), got \(0, 4\)"),
        (lambda k: absum(k, spatial_axes=(0, -4)), "spatial_axes must be different axes"),
        (lambda k: absum(k, spatial_axes=()), r"spatial_axes must be .*, got \(\)"),
        (lambda k: absum(k.astype(np.int32)), "kernel must be a float array, got dtype int32"),
        (lambda k: absum_penalty({"dense": {"kernel": k[0, 0]}}), "mask must select a leaf, got none"),
        (lambda k: absum_penalty({"kernel": k}, mask={"kernel": False}), "mask must select a leaf, got none"),
        (lambda k: absum_penalty({"kernel": k}, mask={"other": True}), "mask must have the structure of params"),
        (lambda k: absum_penalty({"kernel": k}, mask={"kernel": 1}), "mask must hold bools, got 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message) as raised:
        call(np.ones((3, 3, 2, 2), np.float32))
    assert "\n" not in str(raised.value)
