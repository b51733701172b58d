"""Real Fourier basis images, the grid of their frequencies, and perturbations made of them.

A frequency is a pair (l, m) of discrete Fourier transform indices, 0 <= l < H and 0 <= m < W. (l, m) and
(-l mod H, -m mod W) are conjugate: one frequency, in two phases.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from absum_jax._argument_checks import (
    as_array,
    as_number,
    check_length,
    concrete,
    require_finite,
    require_one_of,
    require_positive_int,
    require_sizes,
)
from absum_jax._types import ArrayOrNumpy, Frequencies, Frequency, ImageShape, ImageSize, Phases

NORMS = ("linf", "l2")
_VANISHING = 1e-6  # a cosine of this size is the rounding of a zero: float32 has cos(pi / 2) = -4e-8
IMAGE_AXES = ("height", "width", "channels")


def frequency_grid(height: int, width: int, *, half: bool = False) -> Int[Array, "n 2"]:
    """All frequencies of an image in row-major order, starting with (0, 0).

    Args:
        height, width: image size in pixels.
        half: keep one of each conjugate pair, the first in the order; 514 of 1,024 for 32x32, 394 of 784 for
            28x28. The half grid tests one phase of each frequency only.

    Returns:
        int32 array [n, 2] of pairs (l, m).

    Raises:
        ValueError: if a size is not a positive integer.

    Example:
        >>> frequency_grid(2, 3, half=True).tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    require_positive_int("height", height)
    require_positive_int("width", width)
    grid = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1).reshape(-1, 2)
    if half:
        partner = -grid % (height, width)
        grid = grid[grid @ (width, 1) <= partner @ (width, 1)]
    return jnp.asarray(grid.astype(np.int32))


def check_frequencies(frequencies: Frequencies, image_size: ImageSize) -> None:
    """Raise ``ValueError`` unless frequencies are integer pairs within the grid of ``image_size``."""
    frequencies = as_array("frequency", frequencies)
    shape, dtype = frequencies.shape, frequencies.dtype
    if shape[-1:] != (2,) or not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(f"frequency must be a pair of integers, got shape {shape} and dtype {dtype}")
    known = concrete(frequencies)
    if known is not None and np.any((known < 0) | (known >= np.array(image_size))):
        outside = known[np.any((known < 0) | (known >= np.array(image_size)), axis=-1)].reshape(-1, 2)[0]
        raise ValueError(
            f"frequency must lie within the image size {tuple(image_size)}, got {tuple(outside.tolist())}"
        )


def checked_phases(phase: Phases) -> ArrayOrNumpy:
    """The phase, or the phases [P], as they were given; ``ValueError`` unless they are finite numbers."""
    found = as_array("phase", phase)
    if found.ndim > 1 or not found.size:
        raise ValueError(f"phase must be a number or a non-empty list of numbers, got shape {found.shape}")
    require_finite("phase", found)
    return found


def fourier_basis(
    frequency: Frequency, image_size: ImageSize, *, phase: ArrayLike = math.pi / 4
) -> Float[Array, "height width"]:
    r"""One real Fourier basis image, of unit L2 norm.

    .. math:: v_{l,m}[u, v] \propto \cos\big(2\pi (l u / H + m v / W) + \text{phase}\big)

    made as the inverse Fourier transform of a spectrum that is zero but at (l, m) and its conjugate. With the
    default phase this is the image of the single Fourier attack, whose complex weights are 1 + i and 1 - i.

    Args:
        frequency: integer pair (l, m), 0 <= l < height, 0 <= m < width; may be traced.
        image_size: (height, width).
        phase: in radians. At pi/2 the self-conjugate frequencies, such as (0, 0), vanish: the image is zero.

    Returns:
        float32 array [height, width] (float64 under x64).

    Raises:
        ValueError: if the frequency is not a pair of integers in range, or the phase is not one finite number.

    Example:
        >>> fourier_basis((0, 1), (1, 4)).round(2).tolist()
        [[0.5, -0.5, -0.5, 0.5]]

    References:
        Tsuzuku and Sato, On the Structural Sensitivity of Deep Convolutional Networks to the Directions of
        Fourier Basis Functions, CVPR 2019, https://arxiv.org/abs/1809.04098
    """
    require_sizes("image_size", image_size, ("height", "width"))
    check_frequencies(frequency, image_size)
    if np.ndim(frequency) != 1:
        raise ValueError(f"frequency must be one pair of integers, got shape {np.shape(frequency)}")
    require_finite("phase", as_number("phase", phase))
    frequency = jnp.asarray(frequency, jnp.int32)
    size = jnp.asarray(image_size, jnp.int32)
    row, column = frequency
    mirrored_row, mirrored_column = (size - frequency) % size
    phase = jnp.asarray(phase, dtype=float)
    weight = jax.lax.complex(jnp.cos(phase), jnp.sin(phase))
    spectrum = jnp.zeros(image_size, weight.dtype)
    spectrum = spectrum.at[row, column].add(weight).at[mirrored_row, mirrored_column].add(weight.conj())
    image = jnp.fft.ifft2(spectrum).real * math.prod(image_size)
    # The raw image is 2 cos(...) at each pixel; below this size it is the rounding of a zero image.
    norm = jnp.linalg.norm(image)
    vanishes = norm <= 2 * _VANISHING * math.sqrt(math.prod(image_size))
    return jnp.where(vanishes, 0.0, image / jnp.where(vanishes, 1.0, norm))


def fourier_perturbation(
    frequency: Frequency,
    image_shape: ImageShape,
    epsilon: ArrayLike,
    *,
    norm: str = "linf",
    phase: ArrayLike = math.pi / 4,
) -> Float[Array, "height width channels"]:
    r"""A Fourier basis image scaled to norm epsilon, the same pattern on every channel.

    .. math:: \varepsilon\, v_{l,m} / \|v_{l,m}\|

    "linf" divides by the largest pixel that the sampled cosine actually has, so the bound is met exactly. For
    most frequencies that is the cosine's own maximum; where l and m are multiples of a quarter of the size the
    pattern is +-epsilon everywhere. "l2" is the norm over all pixels and channels of an image.

    Args:
        frequency: integer pair (l, m); may be traced.
        image_shape: (height, width, channels).
        epsilon: the norm, on the pixel scale [0, 1], one number, not negative; may be traced.
        norm: "linf" or "l2".
        phase: in radians, as in :func:`fourier_basis`.

    Returns:
        float32 array [height, width, channels].

    Raises:
        ValueError: if a frequency is out of range, epsilon is negative or not one number, or norm or shape is
            unknown.

    Example:
        >>> float(abs(fourier_perturbation((3, 5), (28, 28, 1), 0.25)).max())
        0.25
    """
    require_one_of("norm", norm, NORMS)
    length = check_length("epsilon", epsilon)
    require_sizes("image_shape", image_shape, IMAGE_AXES)
    height, width, channels = image_shape
    basis = fourier_basis(frequency, (height, width), phase=phase)
    unit = unit_maximum(basis) if norm == "linf" else basis / math.sqrt(channels)
    return jnp.broadcast_to((length * unit)[:, :, None], image_shape)


def binary_frequencies(
    frequencies: Frequencies, image_size: ImageSize, *, phase: Phases = math.pi / 4
) -> Bool[Array, "*P F"]:
    r"""Whether the pattern of a frequency is +-epsilon at every pixel.

    At equal L-infinity norm these patterns carry about twice the energy of the others (whose mean square is about
    epsilon^2 / 2), so they tend to be the worst frequencies by that alone: a comparison of networks should show
    the worst accuracy without them as well, by :meth:`FourierSweep.without`.

    The sampled cosine takes the values :math:`\cos(2\pi k/n + \text{phase})`, k = 0, ..., n - 1, where n is the
    smallest number with n l / H and n m / W whole. All are of one size if n is 1 or 2 (and they are not zero), or
    if n is 4 and the phase an odd multiple of pi/4; never else.

    Args:
        frequencies: int [F, 2], pairs (l, m).
        image_size: (height, width).
        phase: in radians; one number, or [P]. Phases are compared to about 1e-4.

    Returns:
        bool [F]; [P, F] for several phases. At the default phase it is True where l and m are multiples of a
        quarter of the size: at 10 of the 394 distinct frequencies of 28x28 images.

    Raises:
        ValueError: if a frequency is out of range, or a phase is not finite.

    Example:
        >>> frequencies = frequency_grid(28, 28, half=True)
        >>> int(binary_frequencies(frequencies, (28, 28)).sum())
        10
        >>> int(binary_frequencies(frequencies, (28, 28), phase=0.0).sum())  # halves of the size only
        4
    """
    require_sizes("image_size", image_size, ("height", "width"))
    check_frequencies(frequencies, image_size)
    if np.ndim(frequencies) != 2:
        raise ValueError(f"frequencies must have shape [F, 2], got {np.shape(frequencies)}")
    phases = jnp.asarray(checked_phases(phase), dtype=float)[..., None]  # [*P, 1]
    frequencies, size = jnp.asarray(frequencies, jnp.int32), jnp.asarray([image_size], jnp.int32)
    shape = (*phases.shape[:-1], len(frequencies))
    # Whether n, as above, divides 2, and whether it divides 4.
    halves, quarters = (jnp.broadcast_to(jnp.all(n * frequencies % size == 0, axis=-1), shape) for n in (2, 4))
    vanishes, is_diagonal = jnp.abs(jnp.cos(phases)) <= _VANISHING, jnp.abs(jnp.cos(2 * phases)) <= 1e-4
    return jnp.where(halves, ~vanishes, quarters & is_diagonal)


def unit_maximum(image: Array) -> Array:
    """The image scaled so that its largest pixel is exactly 1 or -1; XLA's division may be off by a rounding."""
    size = jnp.abs(image)
    largest = jnp.max(size)
    scaled = jnp.clip(image / jnp.where(largest > 0, largest, 1.0), -1.0, 1.0)
    return jnp.where(size == largest, jnp.sign(image), scaled)
