"""The Fourier basis against its closed form, and what is made of it."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import (
    binary_frequencies,
    fourier_basis,
    fourier_heatmap,
    fourier_perturbation,
    frequency_grid,
)

SIZES = [(8, 8), (7, 7), (6, 9), (5, 4), (1, 6)]


def closed_form(frequency, size, phase=math.pi / 4):
    """cos(2 pi (l u / H + m v / W) + phase), normalised, in float64."""
    (l, m), (height, width) = frequency, size
    u, v = np.mgrid[:height, :width]
    image = np.cos(2 * np.pi * (l * u / height + m * v / width) + phase)
    return image / np.linalg.norm(image)


@functools.cache
def basis_images(size):
    """Float64 copies of the basis images of the whole grid, from one compiled program for each size."""
    images = jax.jit(jax.vmap(lambda frequency: fourier_basis(frequency, size)))(frequency_grid(*size))
    assert images.dtype == jnp.float32
    return np.asarray(images, np.float64)


@pytest.mark.parametrize("size", SIZES)
def test_basis_equals_the_closed_form(size):
    basis = basis_images(size)
    expected = np.stack([closed_form(frequency, size) for frequency in np.asarray(frequency_grid(*size))])
    # Unit images of n pixels through a float32 transform: a few units in the last place of 1.
    np.testing.assert_allclose(basis, expected, atol=5e-7)
    np.testing.assert_allclose(np.linalg.norm(basis, axis=(1, 2)), 1, rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_half_of_the_basis_is_orthogonal_and_all_of_it_is_different(size):
    whole = basis_images(size).reshape(size[0] * size[1], -1)
    half = whole[np.asarray(frequency_grid(*size, half=True)) @ (size[1], 1)]
    np.testing.assert_allclose(half @ half.T, np.eye(len(half)), atol=1e-6)
    overlap = whole @ whole.T - np.eye(len(whole))
    assert np.abs(overlap).max() < 0.99


@pytest.mark.parametrize("size", SIZES)
def test_spectrum_is_zero_but_at_the_frequency_and_its_conjugate(size):
    for (l, m), image in zip(np.asarray(frequency_grid(*size)).tolist(), basis_images(size), strict=True):
        spectrum = np.abs(np.fft.fft2(image))
        allowed = np.zeros(size, bool)
        allowed[l, m] = allowed[-l % size[0], -m % size[1]] = True
        assert spectrum[~allowed].max(initial=0) < 1e-5
        assert spectrum[allowed].min() > 0.5


@pytest.mark.parametrize("size", [(8, 8), (6, 9)])
def test_conjugate_frequencies_differ_in_phase_alone(size):
    basis = jax.jit(functools.partial(fourier_basis, image_size=size))
    height, width = size
    for l, m in [(1, 2), (3, 1), (0, 3), (5, 0)]:
        frequency, conjugate = np.array([l, m]), np.array([-l % height, -m % width])
        np.testing.assert_allclose(basis(conjugate, phase=0.3), basis(frequency, phase=-0.3), atol=5e-7)
        np.testing.assert_allclose(basis(frequency, phase=0.3), closed_form((l, m), size, 0.3), atol=5e-7)


@pytest.mark.parametrize(("size", "count"), [((32, 32), 514), ((28, 28), 394), ((7, 7), 25), ((4, 3), 7)])
def test_half_grid_holds_one_of_each_conjugate_pair(size, count):
    half = {tuple(f) for f in np.asarray(frequency_grid(*size, half=True)).tolist()}
    conjugates = {(-l % size[0], -m % size[1]) for l, m in half}
    assert len(half) == count
    assert half | conjugates == {tuple(f) for f in np.asarray(frequency_grid(*size)).tolist()}
    assert all(f == (-f[0] % size[0], -f[1] % size[1]) for f in half & conjugates)


SIZES_AND_CHANNELS = list(zip(SIZES, [1, 2, 3, 4, 3], strict=True))


@pytest.mark.parametrize(
    ("size", "channels"),
    [
        pytest.param(*each, marks=[] if each in SIZES_AND_CHANNELS else pytest.mark.slow)
        for each in itertools.product(SIZES, [1, 2, 3, 4])
    ],
)
def test_linf_perturbation_is_exactly_epsilon(size, channels):
    shape = (*size, channels)
    make = jax.jit(jax.vmap(lambda f, e: fourier_perturbation(f, shape, e), in_axes=(0, None)))
    for epsilon in [8 / 255, 0.3]:
        patterns = np.asarray(make(frequency_grid(*size), epsilon))
        assert (np.abs(patterns).max(axis=(1, 2, 3)) == np.float32(epsilon)).all()
        assert (patterns == patterns[..., :1]).all()


BINARY_PHASES = np.array([0, 1, 2, 3, 5, 9, -1, 0.5, 1.001]) * np.pi / 4


@pytest.mark.parametrize("size", [(28, 28), (8, 8), (6, 9), (12, 4), (1, 6)])
def test_binary_frequencies_are_those_whose_pattern_is_epsilon_everywhere(size):
    frequencies = frequency_grid(*size)

    def pattern(phase, frequency):
        return fourier_perturbation(frequency, (*size, 1), 1.0, phase=phase)

    make = jax.jit(jax.vmap(jax.vmap(pattern, in_axes=(None, 0)), in_axes=(0, None)))
    patterns = np.abs(make(np.float32(BINARY_PHASES), frequencies))
    # Of a pattern that is binary a float32 transform leaves 1e-6; at 1.001 pi/4 two sizes differ by 1.6e-3.
    expected = (patterns > 1 - 1e-4).all(axis=(2, 3, 4))
    found = binary_frequencies(frequencies, size, phase=BINARY_PHASES)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(binary_frequencies(frequencies, size), expected[1])
    assert len(np.unique(expected.sum(axis=1))) == (2 if size in ((6, 9), (1, 6)) else 3)


def test_ten_frequencies_of_28x28_are_binary_and_carry_twice_the_energy():
    frequencies = frequency_grid(28, 28, half=True)
    binary = np.asarray(binary_frequencies(frequencies, (28, 28)))
    assert (binary.sum(), len(binary)) == (10, 394)
    make = jax.jit(jax.vmap(lambda frequency: fourier_perturbation(frequency, (28, 28, 1), 1.0)))
    energy = np.mean(np.square(make(frequencies)), axis=(1, 2, 3))
    np.testing.assert_allclose(energy[binary], 1, rtol=1e-5)
    assert energy[binary].mean() / energy[~binary].mean() == pytest.approx(1.97, abs=0.01)


@pytest.mark.parametrize("shape", [(8, 8, 1), (6, 9, 3)])
def test_l2_perturbation_has_norm_epsilon_over_all_channels(shape):
    make = jax.jit(functools.partial(fourier_perturbation, image_shape=shape, norm="l2"))
    for frequency in [(0, 0), (1, 2), (4, 0)]:
        pattern = np.asarray(make(np.array(frequency), epsilon=4.0))
        np.testing.assert_allclose(np.linalg.norm(pattern), 4.0, rtol=1e-6)


def test_a_pattern_that_vanishes_is_zero_and_not_noise():
    for norm in ("linf", "l2"):
        make = jax.jit(functools.partial(fourier_perturbation, image_shape=(8, 8, 1), norm=norm))
        np.testing.assert_array_equal(make(np.array([4, 0]), epsilon=0.3, phase=math.pi / 2), 0)


def test_a_phase_that_is_traced_and_not_a_number_shows():
    pattern = jax.jit(lambda phase: fourier_basis((1, 2), (8, 8), phase=phase))(math.nan)
    assert np.isnan(pattern).all()


def test_small_integers_and_strict_dtypes_are_fine():
    with jax.numpy_dtype_promotion("strict"):
        found = fourier_basis(jnp.array([3, 200], jnp.uint8), (256, 256))
    # A transform of 65,536 points rounds as one of 64 does.
    np.testing.assert_allclose(found, closed_form((3, 200), (256, 256)), atol=5e-7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: fourier_basis((8, 0), (8, 8)),
            r"frequency must lie within the image size \(8, 8\), got \(8, 0\)",
        ),
        (lambda: fourier_basis((0, -1), (8, 8)), r"got \(0, -1\)"),
        (lambda: fourier_basis(jnp.array([0.5, 1.0]), (8, 8)), "pair of integers"),
        (lambda: fourier_basis((1, 2, 3), (8, 8)), "pair of integers"),
        (
            lambda: fourier_basis([[1, 2], [0, 1]], (8, 8)),
            r"frequency must be one pair of integers, got .*\(2, 2\)",
        ),
        (lambda: fourier_basis((0, 0), (8, 0)), r"image_size must be \(height, width\), .* got \(8, 0\)"),
        (lambda: fourier_basis((0, 0), (8, 8, 1)), r"image_size must be \(height, width\), .* got \(8, 8, 1\)"),
        (lambda: fourier_perturbation((1, 1), (8, 8), 0.1), r"image_shape must be .* got \(8, 8\)"),
        (lambda: fourier_perturbation((1, 1), (8, 8, 0), 0.1), r"image_shape must be .* got \(8, 8, 0\)"),
        (lambda: fourier_basis((0, 1), (8, 8), phase=math.nan), "phase must be finite"),
        (lambda: fourier_perturbation((1, 1), (8, 8, 1), -0.1), "epsilon must be finite and not negative"),
        (lambda: fourier_perturbation((1, 1), (8, 8, 1), 0.1, norm="l1"), "norm must be one of 'linf', 'l2'"),
        (lambda: frequency_grid(0, 4), "height must be an integer of at least 1"),
        (
            lambda: fourier_heatmap(np.ones(2), [[0, 0]], (4, 4)),
            r"must be \[..., F\] and \[F, 2\], got \(2,\), \(1, 2\)",
        ),
        (lambda: binary_frequencies([[8, 0]], (8, 8)), r"frequency must lie within .* got \(8, 0\)"),
        (lambda: binary_frequencies([1, 2], (8, 8)), r"frequencies must have shape \[F, 2\], got \(2,\)"),
        (lambda: binary_frequencies([[1, 2]], (8,)), "image_size must be"),
        (lambda: binary_frequencies([[1, 2]], (8, 8), phase=[0.0, math.inf]), "phase must be finite"),
        (lambda: binary_frequencies([[1, 2]], (8, 8), phase=[[0.0]]), "phase must be a number or"),
        (lambda: fourier_basis((0, 1), (8, 8), phase=[0.0, 1.0]), r"phase must be one number, got shape \(2,\)"),
        (
            lambda: fourier_perturbation((1, 1), (4, 4, 1), np.full(4, 0.1)),
            r"epsilon must be one number, got shape \(4,\); jax.vmap takes several",
        ),
        (lambda: fourier_heatmap(np.ones(1), [[0, 4]], (4, 4)), "frequency must lie within"),
        (lambda: fourier_heatmap(np.ones(1), [[0, 0]], (4,)), "image_size must be"),
    ],
)
def test_bad_input(call, message, no_shape_types):
    with pytest.raises(ValueError, match=message):
        call()
