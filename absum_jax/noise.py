"""Noise of a given norm: white, as the control of an attack, or confined to a band of the spectrum."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from absum_jax._argument_checks import check_length, require_key, require_one_of, require_sizes
from absum_jax._types import ImageShape
from absum_jax.fourier import IMAGE_AXES, NORMS, unit_maximum


def random_perturbation(
    key: Array, image_shape: ImageShape, epsilon: ArrayLike, *, norm: str = "linf"
) -> Float[Array, "height width channels"]:
    """Random noise of norm epsilon, independent for every pixel and channel: the control of an attack.

    An attack that knows the network has to be stronger than the best of many of these, at the same norm;
    otherwise it, or the code, does not work. "linf" draws +epsilon or -epsilon, the largest noise that the norm
    allows; "l2" draws from the sphere.

    Args:
        key: PRNG key; another key is another perturbation.
        image_shape: (height, width, channels).
        epsilon: the norm, over all pixels and channels, one number, not negative; may be traced.
        norm: "linf" or "l2".

    Returns:
        float32 array [height, width, channels]; ``jax.vmap`` over keys gives [A, height, width, channels], as
        :func:`attack_predictions` takes them.

    Raises:
        ValueError: if epsilon is negative or not one number, or key, norm or shape is not as above.

    Example:
        >>> import jax
        >>> sorted(set(random_perturbation(jax.random.key(0), (8, 8, 1), 0.25).ravel().tolist()))
        [-0.25, 0.25]

    References:
        Carlini et al., On Evaluating Adversarial Robustness, 2019, https://arxiv.org/abs/1902.06705
    """
    require_key("key", key)
    require_one_of("norm", norm, NORMS)
    length = check_length("epsilon", epsilon)
    require_sizes("image_shape", image_shape, IMAGE_AXES)
    if norm == "linf":
        return jnp.asarray(length, dtype=float) * jax.random.rademacher(key, image_shape, dtype=float)
    noise = jax.random.normal(key, image_shape, dtype=float)
    return jnp.asarray(length, dtype=float) * noise / jnp.linalg.norm(noise)


def band_limited_noise(
    key: Array,
    image_shape: ImageShape,
    bandwidth: int,
    *,
    band: str,
    epsilon: ArrayLike,
    norm: str = "l2",
) -> Float[Array, "height width channels"]:
    """Gaussian noise kept to a square of the spectrum and scaled to norm epsilon.

    White noise, independent for every pixel and channel, is transformed; all but a bandwidth x bandwidth square
    of frequencies is set to zero; the real part of the inverse transform is scaled. The square is centred on the
    lowest frequency ("low") or on the highest ("high"). An even square has no middle: its mirror image comes
    with it at half the amplitude.

    Args:
        key: PRNG key.
        image_shape: (height, width, channels).
        bandwidth: side of the square, 0 (no noise) to max(height, width) (white noise).
        band: "low" or "high".
        epsilon: the norm, over all pixels and channels, one number, not negative.
        norm: "l2" or "linf".

    Returns:
        float32 array [height, width, channels].

    Raises:
        ValueError: if an argument is outside what is stated above.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> noise = band_limited_noise(jax.random.key(0), (32, 32, 3), 3, band="low", epsilon=8.0)
        >>> round(float(jnp.linalg.norm(noise)), 4)
        8.0

    References:
        Yin et al., A Fourier Perspective on Model Robustness in Computer Vision, NeurIPS 2019, figure 5,
        https://arxiv.org/abs/1906.08988
    """
    require_key("key", key)
    require_one_of("band", band, ("low", "high"))
    require_one_of("norm", norm, NORMS)
    length = check_length("epsilon", epsilon)
    require_sizes("image_shape", image_shape, IMAGE_AXES)
    if not isinstance(bandwidth, (int, np.integer)) or not 0 <= bandwidth <= max(image_shape[:2]):
        raise ValueError(f"bandwidth must be an integer from 0 to {max(image_shape[:2])}, got {bandwidth!r}")
    keep = np.outer(*(_kept(size, bandwidth, band) for size in image_shape[:2]))
    white = jax.random.normal(key, image_shape)
    noise = jnp.fft.ifft2(jnp.fft.fft2(white, axes=(0, 1)) * keep[:, :, None], axes=(0, 1)).real
    if norm == "linf":
        return jnp.asarray(length, noise.dtype) * unit_maximum(noise)
    size = jnp.linalg.norm(noise)
    return jnp.asarray(length, noise.dtype) * noise / jnp.where(size > 0, size, 1.0)


def _kept(size: int, bandwidth: int, band: str) -> np.ndarray:
    """Which of the ``size`` frequencies of one axis, in FFT order, lie in the band."""
    distance = np.arange(size) - size // 2  # FFT order has the highest frequency in the middle
    kept = (distance >= -(bandwidth // 2)) & (distance < bandwidth - bandwidth // 2)
    return kept if band == "high" else np.fft.ifftshift(kept)
