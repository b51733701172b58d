"""Noise against its norm and its band."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from absum_jax import band_limited_noise, random_perturbation

SHAPE = (6, 5, 2)
KEY = jax.random.key(0)


def test_random_noise_has_the_norm_and_is_independent():
    keys = jax.random.split(jax.random.key(0), 50)
    for norm in ("linf", "l2"):
        make = jax.jit(jax.vmap(lambda key, norm=norm: random_perturbation(key, SHAPE, 0.25, norm=norm)))
        noise = np.asarray(make(keys)).reshape(50, -1)
        if norm == "linf":
            assert set(np.unique(noise)) == {-0.25, 0.25}
        else:
            # A float32 norm of 60 numbers.
            np.testing.assert_allclose(np.linalg.norm(noise, axis=1), 0.25, rtol=1e-6)
        # 60 pixels: the correlation of two draws has standard deviation 1 / sqrt(60) = 0.13, and there are 1,225.
        unit = noise / np.linalg.norm(noise, axis=1, keepdims=True)
        assert np.abs(unit @ unit.T - np.eye(50)).max() < 5 * 0.13


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
        (lambda: noise(key=0), r"key must be one key, such as jax.random.key\(0\), got 0"),
        (lambda: noise(key=np.zeros(3, np.uint32)), r"key must be one key, .* got uint32 of shape \(3,\)"),
        (lambda: noise(key=jnp.zeros(2)), r"key must be one key, .* got float32 of shape \(2,\)"),
        (lambda: noise(bandwidth=9), "bandwidth must be an integer from 0 to 8, got 9"),
        (lambda: noise(band="middle"), "band must be one of"),
        (lambda: noise(epsilon=-1.0), "epsilon"),
        (
            lambda: noise(epsilon=jnp.ones(3)),
            r"epsilon must be one number, got shape \(3,\); jax.vmap takes several",
        ),
        (
            lambda: random_perturbation(jax.random.key(0), SHAPE, [0.1]),
            r"epsilon must be one number, got shape \(1,\)",
        ),
        (lambda: random_perturbation(0, SHAPE, 0.1), "key must be one key"),
        (lambda: random_perturbation(jax.random.key(0), SHAPE, -0.1), "epsilon must be finite and not negative"),
        (lambda: random_perturbation(jax.random.key(0), SHAPE, 0.1, norm="l1"), "norm must be one of"),
        (lambda: random_perturbation(jax.random.key(0), (6, 5), 0.1), "image_shape must be"),
    ],
)
def test_bad_input(call, message, no_shape_types):
    with pytest.raises(ValueError, match=message):
        call()


def noise(key=KEY, bandwidth=3, band="low", epsilon=1.0):
    return band_limited_noise(key, (8, 8, 1), bandwidth, band=band, epsilon=epsilon)
