"""Single Fourier attack at every frequency and epsilon, in one compiled loop."""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from absum_jax._argument_checks import (
    check_inputs,
    require_finite,
    require_nonnegative,
    require_one_of,
    require_positive_int,
)
from absum_jax._attack_counts import Attacks, Setting, as_host_values, count_correct
from absum_jax._types import Bounds, Devices, Frequencies, ImageSize, PredictFn, PyTree
from absum_jax.fourier import check_frequencies, frequency_grid


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("frequencies", "epsilons", "correct", "clean_correct", "total"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class FourierSweep:
    """Counts of a sweep; everything else follows from them.

    Args:
        frequencies: int [F, 2], pairs (l, m).
        epsilons: float [E].
        correct: int [E, F], images still classified correctly.
        clean_correct: int, images classified correctly without an attack.
        total: int, number of images.
    """

    frequencies: Array
    epsilons: Array
    correct: Array
    clean_correct: Array
    total: Array

    @property
    def clean_accuracy(self) -> Float[Array, ""]:
        """Accuracy without an attack."""
        return self.clean_correct / self.total

    @property
    def accuracy(self) -> Float[Array, "E F"]:
        """Accuracy under each attack."""
        return self.correct / self.total

    @property
    def worst_accuracy(self) -> Float[Array, "E"]:
        """Accuracy under the most harmful frequency of each epsilon."""
        return jnp.min(self.accuracy, axis=1)

    @property
    def worst_frequency(self) -> Int[Array, "E 2"]:
        """The most harmful frequency of each epsilon; the first of the grid among equals."""
        return self.frequencies[jnp.argmin(self.correct, axis=1)]

    @property
    def mean_accuracy(self) -> Float[Array, "E"]:
        """Accuracy averaged over the frequencies."""
        return jnp.mean(self.accuracy, axis=1)

    @property
    def average_robust_accuracy(self) -> Float[Array, ""]:
        """Mean of ``worst_accuracy`` over the epsilons."""
        return jnp.mean(self.worst_accuracy)


def fourier_sweep(
    predict_fn: PredictFn,
    params: PyTree,
    images: ArrayLike,
    labels: ArrayLike,
    epsilons: ArrayLike | Sequence[float],
    *,
    frequencies: Frequencies | None = None,
    norm: str = "linf",
    phase: ArrayLike = math.pi / 4,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
    attacks_per_step: int | None = None,
    devices: Devices = None,
) -> FourierSweep:
    r"""Count the images that stay correctly classified under every single Fourier attack.

    .. math:: x' = \operatorname{clip}(x + \varepsilon\, v_{l,m} / \|v_{l,m}\|,\ \text{bounds})

    for each frequency (l, m) and each epsilon: one universal perturbation, added to every image. The patterns are
    built inside the compiled loop, so memory does not grow with their number, and ``params``, ``epsilons``,
    ``frequencies`` and ``phase`` are traced: new values of the same shapes compile nothing, as long as
    ``predict_fn`` is the same function object. Not-a-number logits count as wrong.

    Args:
        predict_fn: ``(params, images) -> logits [N, classes]``, in evaluation mode, with its normalisation inside.
        params: whatever ``predict_fn`` takes.
        images: float array [N, H, W, C] within ``bounds``.
        labels: int array [N].
        epsilons: float array [E], norms of the perturbation on the pixel scale.
        frequencies: int array [F, 2]; ``None`` takes every distinct one, ``frequency_grid(H, W, half=True)``,
            in one phase. The full grid holds both phases of each.
        norm: "linf" or "l2" (over all pixels and channels of an image).
        phase: of the patterns, in radians.
        bounds: smallest and largest pixel value; attacked images are clipped to them. Compiled in, not
            traced: clipping to traced numbers is slower on CPUs.
        batch_size: the largest number of images in one forward pass of one attack. Counts do not depend on it.
        attacks_per_step: how many attacks are evaluated at once by ``vmap``; ``None`` takes 1 on CPUs and 8
            elsewhere. Counts do not depend on it.
        devices: spread the attacks over these devices; ``None`` stays where the images are. On several processes
            pass ``jax.devices()`` and the same arguments everywhere; every process gets all counts.

    Returns:
        A :class:`FourierSweep`, which is a pytree; the function may be jitted as a whole.

    Raises:
        ValueError: if images are not floats within the bounds (not-a-number included), labels do not fit images
            or logits, an epsilon is negative, a frequency is out of range, or an option is unknown.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from absum_jax import fourier_perturbation
        >>> def predict_fn(params, images):
        ...     score = jnp.einsum("nhwc,hwc->n", images - 0.5, params)
        ...     return jnp.stack([-score, score], axis=-1)
        >>> template = fourier_perturbation((2, 1), (8, 8, 1), 1.0)  # sees one frequency only
        >>> images = jax.random.uniform(jax.random.key(0), (20, 8, 8, 1))
        >>> labels = predict_fn(template, images).argmax(axis=-1)
        >>> sweep = fourier_sweep(predict_fn, template, images, labels, [0.0, 0.4])
        >>> sweep.worst_frequency[1].tolist(), int(sweep.clean_correct), int(sweep.total)
        ([2, 1], 20, 20)

    References:
        Tsuzuku and Sato, CVPR 2019, https://arxiv.org/abs/1809.04098
    """
    images, labels, epsilons = jnp.asarray(images), jnp.asarray(labels), jnp.asarray(epsilons, dtype=float)
    check_inputs(predict_fn, params, images, labels, bounds)
    require_one_of("norm", norm, ("linf", "l2"))
    require_positive_int("batch_size", batch_size)
    if attacks_per_step is None:
        attacks_per_step = 1 if jax.default_backend() == "cpu" else 8
    require_positive_int("attacks_per_step", attacks_per_step)
    require_finite("phase", phase)
    num_images, height, width, _ = images.shape
    grid = jnp.asarray(frequency_grid(height, width, half=True) if frequencies is None else frequencies)
    _check_attacks(epsilons, grid, (height, width))

    attacks = _every_attack(epsilons, grid)
    if devices is not None:
        if len(set(devices)) != len(devices) or not devices:
            raise ValueError(f"devices must be different and at least one, got {list(devices)}")
        params, images, labels, attacks = as_host_values((params, images, labels, attacks))
    counts = count_correct(
        Setting(params, phase), images, labels, attacks,
        predict_fn=predict_fn, norm=norm, bounds=(float(bounds[0]), float(bounds[1])), batch_size=batch_size,
        attacks_per_step=attacks_per_step, devices=None if devices is None else tuple(devices),
    )  # fmt: skip
    correct = counts[:-1].reshape(len(epsilons), len(grid))
    return FourierSweep(grid, epsilons, correct, counts[-1], jnp.asarray(num_images, jnp.int32))


def fourier_heatmap(
    values: ArrayLike, frequencies: Frequencies, image_size: ImageSize
) -> Float[Array, "height width"]:
    """Lay values of frequencies out as an image, with the zero frequency in the centre.

    Args:
        values: [F], for example one row of ``FourierSweep.accuracy``.
        frequencies: int [F, 2]; each fills its conjugate as well, unless that is listed itself.
        image_size: (height, width).

    Returns:
        Array [height, width] with (l, m) at ((l + height // 2) mod height, (m + width // 2) mod width); not a
        number where no frequency was given.

    Raises:
        ValueError: if the lengths differ or a frequency is out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> fourier_heatmap(jnp.array([1.0, 2.0]), [[0, 0], [0, 1]], (1, 3)).tolist()
        [[2.0, 1.0, 2.0]]
    """
    values, frequencies = jnp.asarray(values, dtype=float), jnp.asarray(frequencies)
    check_frequencies(frequencies, image_size)
    if values.ndim != 1 or frequencies.shape != (len(values), 2):
        raise ValueError(f"values [F] and frequencies [F, 2] differ: {values.shape}, {frequencies.shape}")
    size = jnp.asarray([image_size])
    heatmap = jnp.full(image_size, jnp.nan)
    for place in ((size - frequencies) % size, frequencies):
        heatmap = heatmap.at[place[:, 0], place[:, 1]].set(values)
    return jnp.fft.fftshift(heatmap)


def _check_attacks(epsilons: Array, frequencies: Array, image_size: ImageSize) -> None:
    if epsilons.ndim != 1 or not epsilons.size:
        raise ValueError(f"epsilons must be a non-empty list of numbers, got shape {epsilons.shape}")
    require_nonnegative("epsilons", epsilons)
    if frequencies.ndim != 2 or not frequencies.size:
        raise ValueError(f"frequencies must have shape [F, 2] with F > 0, got {frequencies.shape}")
    check_frequencies(frequencies, image_size)


def _every_attack(epsilons: Array, frequencies: Array) -> Attacks:
    """Every pair, epsilons outside; and one of size zero, so that the same program counts the clean images."""
    all_frequencies = jnp.tile(frequencies, (len(epsilons), 1))
    all_epsilons = jnp.repeat(epsilons, len(frequencies))
    return jnp.append(all_frequencies, frequencies[:1], axis=0), jnp.append(all_epsilons, 0.0)
