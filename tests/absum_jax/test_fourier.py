"""The Fourier basis against its closed form, and noise against its band."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import band_limited_noise, fourier_basis, fourier_perturbation, frequency_grid

SIZES = [(8, 8), (7, 7), (6, 9), (5, 4), (1, 6)]


def closed_form(frequency, size, phase=math.pi / 4):
    """cos(2 pi (l u / H + m v / W) + phase), normalised, in float64."""
    (l, m), (height, width) = frequency, size
    u, v = np.mgrid[:height, :width]
    image = np.cos(2 * np.pi * (l * u / height + m * v / width) + phase)
    return image / np.linalg.norm(image)


@pytest.mark.parametrize("size", SIZES)
def test_basis_equals_the_closed_form(size):
    grid = frequency_grid(*size)
    basis = jax.vmap(lambda frequency: fourier_basis(frequency, size))(grid)
    expected = np.stack([closed_form(frequency, size) for frequency in np.asarray(grid)])
    # Unit images of n pixels through a float32 transform: a few units in the last place of 1.
    np.testing.assert_allclose(basis, expected, atol=5e-7)
    np.testing.assert_allclose(np.linalg.norm(basis, axis=(1, 2)), 1, rtol=1e-6)
    assert basis.dtype == jnp.float32


@pytest.mark.parametrize("size", SIZES)
def test_half_of_the_basis_is_orthogonal_and_all_of_it_is_different(size):
    def images(grid):
        return np.asarray(jax.vmap(lambda f: fourier_basis(f, size))(grid), np.float64).reshape(len(grid), -1)

    half, whole = images(frequency_grid(*size, half=True)), images(frequency_grid(*size))
    np.testing.assert_allclose(half @ half.T, np.eye(len(half)), atol=1e-6)
    overlap = whole @ whole.T - np.eye(len(whole))
    assert np.abs(overlap).max() < 0.99


@pytest.mark.parametrize("size", SIZES)
def test_spectrum_is_zero_but_at_the_frequency_and_its_conjugate(size):
    grid = frequency_grid(*size)
    images = np.asarray(jax.vmap(lambda f: fourier_basis(f, size))(grid), np.float64)
    for (l, m), image in zip(np.asarray(grid).tolist(), images, strict=True):
        spectrum = np.abs(np.fft.fft2(image))
        allowed = np.zeros(size, bool)
        allowed[l, m] = allowed[-l % size[0], -m % size[1]] = True
        assert spectrum[~allowed].max(initial=0) < 1e-5
        assert spectrum[allowed].min() > 0.5


@pytest.mark.parametrize("size", [(8, 8), (6, 9)])
def test_conjugate_frequencies_differ_in_phase_alone(size):
    height, width = size
    for l, m in [(1, 2), (3, 1), (0, 3), (5, 0)]:
        conjugate = (-l % height, -m % width)
        np.testing.assert_allclose(
            fourier_basis(conjugate, size, phase=0.3), fourier_basis((l, m), size, phase=-0.3), atol=5e-7
        )


@pytest.mark.parametrize(("size", "count"), [((32, 32), 514), ((28, 28), 394), ((7, 7), 25), ((4, 3), 7)])
def test_half_grid_holds_one_of_each_conjugate_pair(size, count):
    half = {tuple(f) for f in np.asarray(frequency_grid(*size, half=True)).tolist()}
    conjugates = {(-l % size[0], -m % size[1]) for l, m in half}
    assert len(half) == count
    assert half | conjugates == {tuple(f) for f in np.asarray(frequency_grid(*size)).tolist()}
    assert all(f == (-f[0] % size[0], -f[1] % size[1]) for f in half & conjugates)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("epsilon", [8 / 255, 0.3])
def test_linf_perturbation_is_exactly_epsilon(size, channels, epsilon):
    shape = (*size, channels)
    make = jax.jit(jax.vmap(lambda f, e: fourier_perturbation(f, shape, e), in_axes=(0, None)))
    patterns = np.asarray(make(frequency_grid(*size), epsilon))
    assert (np.abs(patterns).max(axis=(1, 2, 3)) == np.float32(epsilon)).all()
    assert (patterns == patterns[..., :1]).all()


@pytest.mark.parametrize("shape", [(8, 8, 1), (6, 9, 3)])
def test_l2_perturbation_has_norm_epsilon_over_all_channels(shape):
    for frequency in [(0, 0), (1, 2), (4, 0)]:
        pattern = fourier_perturbation(frequency, shape, 4.0, norm="l2")
        np.testing.assert_allclose(np.linalg.norm(np.asarray(pattern)), 4.0, rtol=1e-6)


def test_a_pattern_that_vanishes_is_zero_and_not_noise():
    for norm in ("linf", "l2"):
        pattern = fourier_perturbation((4, 0), (8, 8, 1), 0.3, norm=norm, phase=math.pi / 2)
        np.testing.assert_array_equal(pattern, 0)


def test_a_phase_that_is_traced_and_not_a_number_shows():
    pattern = jax.jit(lambda phase: fourier_basis((1, 2), (8, 8), phase=phase))(math.nan)
    assert np.isnan(pattern).all()


def test_small_integers_and_strict_dtypes_are_fine():
    with jax.numpy_dtype_promotion("strict"):
        found = fourier_basis(jnp.array([3, 200], jnp.uint8), (256, 256))
    np.testing.assert_allclose(found, fourier_basis((3, 200), (256, 256)), atol=1e-7)


@pytest.mark.parametrize("band", ["low", "high"])
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_noise_stays_in_its_band(band, size):
    for bandwidth in range(max(size) + 1):
        noise = np.asarray(
            band_limited_noise(jax.random.key(bandwidth), (*size, 2), bandwidth, band=band, epsilon=3.0)
        )
        spectrum = np.abs(np.fft.fft2(noise, axes=(0, 1)))
        distances = [np.minimum(np.arange(n), n - np.arange(n)) for n in size]  # from the lowest frequency
        if band == "high":
            distances = [n // 2 - d for n, d in zip(size, distances, strict=True)]
        outside = np.maximum(*np.meshgrid(*distances, indexing="ij")) > bandwidth // 2
        assert spectrum[outside].max(initial=0) < 1e-4
        np.testing.assert_allclose(np.linalg.norm(noise), 3.0 if bandwidth else 0.0, rtol=1e-5)


def test_full_band_is_white_noise_and_keys_differ():
    def whole(key, **options):
        return band_limited_noise(key, (8, 8, 1), 8, band="high", epsilon=1.0, **options)

    keys = jax.random.split(jax.random.key(0))
    white = jax.random.normal(keys[0], (8, 8, 1))
    np.testing.assert_allclose(whole(keys[0]), white / jnp.linalg.norm(white), atol=1e-6)
    assert float(jnp.abs(whole(keys[0]) - whole(keys[1])).max()) > 0.01
    assert float(jnp.abs(whole(keys[0], norm="linf")).max()) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fourier_basis((8, 0), (8, 8)), r"frequency \(8, 0\) is out of range.*\(8, 8\)"),
        (lambda: fourier_basis((0, -1), (8, 8)), "out of range"),
        (lambda: fourier_basis(jnp.array([0.5, 1.0]), (8, 8)), "pair of integers"),
        (lambda: fourier_basis((1, 2, 3), (8, 8)), "pair of integers"),
        (lambda: fourier_basis((0, 1), (8, 8), phase=math.nan), "phase must be finite"),
        (lambda: fourier_perturbation((1, 1), (8, 8, 1), -0.1), "epsilon must be finite and not negative"),
        (lambda: fourier_perturbation((1, 1), (8, 8, 1), 0.1, norm="l1"), "norm must be one of 'linf', 'l2'"),
        (lambda: frequency_grid(0, 4), "height must be an integer of at least 1"),
        (lambda: noise(bandwidth=9), "bandwidth must be 0 to 8"),
        (lambda: noise(band="middle"), "band must be one of"),
        (lambda: noise(epsilon=-1.0), "epsilon"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def noise(bandwidth=3, band="low", epsilon=1.0):
    return band_limited_noise(jax.random.key(0), (8, 8, 1), bandwidth, band=band, epsilon=epsilon)
