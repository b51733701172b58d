"""Single Fourier attack at every frequency and epsilon: the calls; the compiled loop is in ``_attack_loop.py``."""

import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from absum_jax._argument_checks import require_sizes
from absum_jax._checked_sweep import check_sweep
from absum_jax._sweep_result import FourierSweep
from absum_jax._types import Bounds, Devices, Frequencies, ImageSize, Phases, PredictFn, PyTree
from absum_jax.fourier import check_frequencies


def fourier_sweep(
    predict_fn: PredictFn,
    params: PyTree,
    images: ArrayLike,
    labels: ArrayLike,
    epsilons: ArrayLike | Sequence[float],
    *,
    frequencies: Frequencies | None = None,
    norm: str = "linf",
    phase: Phases = math.pi / 4,
    signs: Array | None = None,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
    attacks_per_step: int | None = None,
    devices: Devices = None,
) -> FourierSweep:
    r"""Count the images that stay correctly classified under every single Fourier attack.

    .. math:: x' = \operatorname{clip}(x + \varepsilon\, v_{l,m} / \|v_{l,m}\|,\ \text{bounds})

    for each frequency (l, m), phase and epsilon: one universal perturbation, added to every image. The patterns
    are built inside the compiled loop, so memory does not grow with their number, and ``params``, ``epsilons``,
    ``frequencies``, ``phase`` and ``signs`` are traced: new values of the same shapes compile nothing, as long as
    ``predict_fn`` is the same function object. Not-a-number logits count as wrong.

    The Fourier heat map of Yin et al. is that of ``norm="l2", phase=0.0, signs=key``, by
    :func:`fourier_heatmap`: a random sign r for each image and channel, and epsilon for each channel,

    .. math:: x'_c = \operatorname{clip}(x_c + r_c\, \varepsilon\, v_{l,m} / \|v_{l,m}\|_2,\ \text{bounds})

    with v the pattern of one channel. Over all C channels its norm is sqrt(C) epsilon.

    Args:
        predict_fn: ``(params, images) -> logits [N, classes]``, in evaluation mode, with its normalisation inside.
        params: whatever ``predict_fn`` takes.
        images: float array [N, H, W, C] within ``bounds``.
        labels: int array [N].
        epsilons: float array [E], norms of the perturbation on the pixel scale; one number is one epsilon.
        frequencies: int array [F, 2]; ``None`` takes every distinct one, ``frequency_grid(H, W, half=True)``.
            The full grid has each in two phases, ``phase`` and ``-phase``.
        norm: "linf" or "l2" (over all pixels and channels of an image; with ``signs``, over one channel).
        phase: of the patterns, in radians: a number, or an array [P], each of which is tried at every frequency.
            ``phase + pi`` is the same pattern with the other sign.
        signs: a PRNG key, only with norm="l2"; ``None`` adds one pattern to all images and channels. The signs
            follow from the key, the frequency and the number of the image alone: they are the same for all
            epsilons and phases, and for any batches, parts and devices.
        bounds: smallest and largest pixel value; attacked images are clipped to them. Compiled in, not
            traced: clipping to traced numbers is slower on CPUs.
        batch_size: the largest number of images in one forward pass of one attack. Counts do not depend on it.
        attacks_per_step: how many attacks are evaluated at once by ``vmap``; ``None`` takes 1 on CPUs and 8
            elsewhere. Counts do not depend on it. A last step of fewer attacks is compiled as well where filling
            it would add more than 5 % to the work.
        devices: spread the attacks over these devices; ``None`` stays where the images are. On several processes
            pass ``jax.devices()`` and the same arguments everywhere; every process gets all counts.

    Returns:
        A :class:`FourierSweep` with the counts [E, F], or [E, P, F] for an array of phases. It is a pytree; the
        function may be jitted as a whole.

    Raises:
        ValueError: before anything is compiled, if images are not floats [N, H, W, C] within the bounds
            (not-a-number included), labels do not fit images or logits, ``predict_fn`` cannot be traced with the
            images or returns anything but logits, an epsilon is negative, a frequency is out of range, signs are
            asked for in another norm than "l2", or an option is unknown.

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
        Tsuzuku and Sato, CVPR 2019, https://arxiv.org/abs/1809.04098; heat map: Yin et al., A Fourier Perspective
        on Model Robustness in Computer Vision, NeurIPS 2019, https://arxiv.org/abs/1906.08988
    """
    sweep = check_sweep(
        predict_fn, params, images, labels, epsilons,
        frequencies=frequencies, norm=norm, phase=phase, signs=signs, bounds=bounds, batch_size=batch_size,
        attacks_per_step=attacks_per_step, devices=devices,
    )  # fmt: skip
    return sweep.run()


def fourier_sweep_parts(
    predict_fn: PredictFn,
    params: PyTree,
    images: ArrayLike,
    labels: ArrayLike,
    epsilons: ArrayLike | Sequence[float],
    *,
    frequencies: Frequencies | None = None,
    norm: str = "linf",
    phase: Phases = math.pi / 4,
    signs: Array | None = None,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
    attacks_per_step: int | None = None,
    devices: Devices = None,
) -> Iterator[FourierSweep]:
    """:func:`fourier_sweep` in parts, for those who want to see its progress or to go on after an interruption.

    All parts are one compiled program; parameters and images are copied to the devices once, the clean images are
    counted once, and no more attacks are computed than by one call. There are at most 32 parts, each of a whole
    number of steps on all devices, and each gives at least one frequency, in all phases. To resume a sweep, call
    it with the ``frequencies`` that are left; random signs go on as well.

    Args:
        predict_fn, params, images, labels, epsilons: as in :func:`fourier_sweep`.
        frequencies, norm, phase, signs, bounds, batch_size, attacks_per_step, devices: likewise. On several
            processes every process has to take all parts.

    Returns:
        An iterator of the sweeps of consecutive frequencies; :meth:`FourierSweep.concatenate` joins them. Each is
        computed when it is asked for.

    Raises:
        ValueError: as :func:`fourier_sweep`, at the call; also if an argument is being traced.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def predict_fn(params, images):
        ...     return images.reshape(len(images), -1) @ params
        >>> params, images = jnp.ones((64, 2)), jnp.full((5, 8, 8, 1), 0.5)
        >>> done = []
        >>> for part in fourier_sweep_parts(predict_fn, params, images, jnp.zeros(5, int), [0.1, 0.2]):
        ...     done.append(part)  # show the progress, or store the part
        >>> sum(len(part.frequencies) for part in done), FourierSweep.concatenate(done).correct.shape
        (34, (2, 34))
    """
    sweep = check_sweep(
        predict_fn, params, images, labels, epsilons,
        frequencies=frequencies, norm=norm, phase=phase, signs=signs, bounds=bounds, batch_size=batch_size,
        attacks_per_step=attacks_per_step, devices=devices,
    )  # fmt: skip
    if any(isinstance(value, jax.core.Tracer) for value in jax.tree.leaves(sweep.arrays)):
        raise ValueError("arguments must be known, got traced ones: fourier_sweep may be jitted, its parts not")
    return sweep.run_in_parts()  # a generator; here it would not check anything before the first part


def fourier_heatmap(
    values: ArrayLike, frequencies: Frequencies, image_size: ImageSize
) -> Float[Array, "... height width"]:
    """Lay values of frequencies out as images, with the zero frequency in the centre.

    Args:
        values: [F], for example one row of ``FourierSweep.accuracy``; or [..., F], all of it, with or without an
            axis of phases.
        frequencies: int [F, 2]; each fills its conjugate as well, unless that is listed itself.
        image_size: (height, width).

    Returns:
        Array [..., height, width] with (l, m) at ((l + height // 2) mod height, (m + width // 2) mod width); not
        a number where no frequency was given.

    Raises:
        ValueError: if the lengths differ or a frequency is out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> fourier_heatmap(jnp.array([1.0, 2.0]), [[0, 0], [0, 1]], (1, 3)).tolist()
        [[2.0, 1.0, 2.0]]
    """
    values, frequencies = jnp.asarray(values, dtype=float), jnp.asarray(frequencies)
    require_sizes("image_size", image_size, ("height", "width"))
    check_frequencies(frequencies, image_size)
    if not values.ndim or frequencies.shape != (values.shape[-1], 2):
        found = f"{values.shape}, {frequencies.shape}"
        raise ValueError(f"values and frequencies must be [..., F] and [F, 2], got {found}")
    size = jnp.asarray([image_size])
    heatmap = jnp.full((*values.shape[:-1], *image_size), jnp.nan)
    for place in ((size - frequencies) % size, frequencies):
        heatmap = heatmap.at[..., place[:, 0], place[:, 1]].set(values)
    return jnp.fft.fftshift(heatmap, axes=(-2, -1))
