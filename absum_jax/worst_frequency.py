"""The worst single Fourier attack, or other universal perturbation, without evaluating all on all images."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from absum_jax._argument_checks import check_epsilons, require_one_of
from absum_jax._checked_search import (
    check_images,
    check_perturbations,
    check_phase,
    make_search,
    without_axis,
)
from absum_jax._checked_sweep import check_frequency_set
from absum_jax._outcome_blocks import Problem
from absum_jax._types import Bounds, Frequencies, ImageShape, PredictFn, PyTree
from absum_jax._worst_search import SearchState, WorstPerturbation, WorstSearch
from absum_jax.fourier import fourier_perturbation

__all__ = [
    "SearchState",
    "WorstFrequency",
    "WorstPerturbation",
    "WorstSearch",
    "find_worst_frequency",
    "find_worst_perturbation",
    "worst_frequency_search",
    "worst_perturbation_search",
]

# Perturbations [A, H, W, C], or a function of a number that makes one of them.
Perturbations = ArrayLike | Callable[[Array], Array]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("frequency", "index", "correct", "total", "forward_images", "survivors"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class WorstFrequency(WorstPerturbation):
    """The frequency that leaves the fewest images correct; a leading axis [E] where several epsilons were given.

    Args:
        frequency: int [2], the pair (l, m).
        index: int, its place among the frequencies.
        correct, total, forward_images, survivors: as in :class:`WorstPerturbation`.
    """

    frequency: Array


def find_worst_frequency(
    predict_fn: PredictFn,
    params: PyTree,
    images: ArrayLike,
    labels: ArrayLike,
    epsilon: ArrayLike | Sequence[float],
    *,
    tolerance: float = 0.0,
    confidence: float | None = None,
    key: Array | None = None,
    frequencies: Frequencies | None = None,
    norm: str = "linf",
    phase: ArrayLike = math.pi / 4,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 64,
    attacks_per_step: int | None = None,
) -> WorstFrequency:
    r"""Find the frequency whose single Fourier attack leaves the fewest images correctly classified.

    .. math:: \arg\min_{(l, m)} S_{l,m}, \qquad S_{l,m} = \#\{ i : \arg\max
        f(\operatorname{clip}(x_i + \varepsilon\, v_{l,m} / \|v_{l,m}\|,\ \text{bounds})) = y_i \}

    All frequencies are evaluated on more and more of the images, and one is dropped once it cannot be worse
    than the leader, the one that looks worst so far. Without ``confidence`` that is by counts: it would end
    above the leader even if every image to come were wrong, and the leader's all right. The result is then that
    of :func:`fourier_sweep`, the first among equals included, and never takes more. With ``confidence`` the
    images come in random order, and it is by a bet against "this frequency is worse than the leader by more
    than ``tolerance``", on the difference of the two image by image. The probability that a frequency is
    returned which is better for the network than the worst by more than the tolerance is at most 1 -
    confidence, over the order of the images, however often and whenever the bets are looked at.
    ``_confidence_bound.py`` has the proof.

    Args:
        predict_fn, params, images, labels: as in :func:`fourier_sweep`.
        epsilon: norm of the perturbation on the pixel scale, a number or a float array [E]. Each of several has
            its own search, and the confidence by itself; all meet the images in one order, and their forward
            passes run together.
        tolerance: of the accuracy, in [0, 1); more saves forward passes among frequencies that are nearly level.
        confidence: in (0, 1); ``None`` is certainty.
        key: PRNG key of the order of the images; required with ``confidence``. Without either they come as given.
        frequencies, norm, phase, bounds: as in :func:`fourier_sweep`.
        batch_size: the largest number of images of one forward pass, by which a frequency goes on as well. Smaller
            ones waste fewer images on frequencies that are soon dropped. The returned counts do not depend on it.
        attacks_per_step: how many forward passes are made at once by ``vmap``; ``None`` takes 1 on CPUs and 32
            elsewhere.

    Returns:
        A :class:`WorstFrequency`. The count of the returned frequency is that on all images; the passes it
        takes are in ``forward_images``.

    Raises:
        ValueError: before anything is compiled, as :func:`fourier_sweep`; also if tolerance or confidence is out
            of range, the key is missing, or an argument is being traced: the search asks for results as it goes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from absum_jax import fourier_perturbation
        >>> def predict_fn(params, images):
        ...     score = jnp.einsum("nhwc,hwc->n", images - 0.5, params)
        ...     return jnp.stack([-score, score], axis=-1)
        >>> template = fourier_perturbation((2, 1), (8, 8, 1), 1.0)  # sees one frequency only
        >>> images = jax.random.uniform(jax.random.key(0), (400, 8, 8, 1))
        >>> labels = predict_fn(template, images).argmax(axis=-1)
        >>> worst = find_worst_frequency(
        ...     predict_fn, template, images, labels, 0.4, confidence=0.999, key=jax.random.key(1)
        ... )
        >>> worst.frequency.tolist(), bool(worst.forward_share < 0.5)
        ([2, 1], True)

    References:
        Tsuzuku and Sato, CVPR 2019, https://arxiv.org/abs/1809.04098 (the attack); Waudby-Smith and Ramdas,
        Estimating means of bounded random variables by betting, JRSS B 86 (2024),
        https://arxiv.org/abs/2010.09686 (the bound).

    See also:
        :func:`worst_frequency_search`, the same in rounds; :func:`fourier_sweep`, the counts of all frequencies.
    """
    return worst_frequency_search(
        predict_fn, params, images, labels, epsilon,
        tolerance=tolerance, confidence=confidence, key=key, frequencies=frequencies, norm=norm, phase=phase,
        bounds=bounds, batch_size=batch_size, attacks_per_step=attacks_per_step,
    ).run()  # fmt: skip


def worst_frequency_search(
    predict_fn: PredictFn,
    params: PyTree,
    images: ArrayLike,
    labels: ArrayLike,
    epsilon: ArrayLike | Sequence[float],
    *,
    tolerance: float = 0.0,
    confidence: float | None = None,
    key: Array | None = None,
    frequencies: Frequencies | None = None,
    norm: str = "linf",
    phase: ArrayLike = math.pi / 4,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 64,
    attacks_per_step: int | None = None,
) -> WorstSearch[WorstFrequency]:
    """:func:`find_worst_frequency` in rounds, for those who want to see its progress or to go on after a stop.

    Args:
        predict_fn, params, images, labels, epsilon: as in :func:`find_worst_frequency`.
        tolerance, confidence, key, frequencies, norm, phase, bounds, batch_size, attacks_per_step: likewise.

    Returns:
        A :class:`WorstSearch`. Its state goes in and comes out: a :class:`SearchState` of plain arrays. The one
        from a file goes on as if there had been no stop, given the same arguments; all rounds are one compiled
        program. ``batch_size`` and ``attacks_per_step`` may be others: what holds of the result still does,
        but an unfinished batch is evaluated again, which ``forward_images`` does not show.
        Other sizes, tolerances, confidences and orders of the images are refused; other parameters, images or
        attacks are not noticed.

    Raises:
        ValueError: as :func:`find_worst_frequency`.

    Example:
        >>> import io, jax, jax.numpy as jnp, numpy as np
        >>> def predict_fn(params, images):
        ...     return images.reshape(len(images), -1) @ params
        >>> params, images = jnp.ones((64, 2)), jnp.full((5, 8, 8, 1), 0.5)
        >>> search = worst_frequency_search(predict_fn, params, images, jnp.zeros(5, int), [0.1, 0.2])
        >>> file = io.BytesIO()
        >>> np.savez(file, **search.advance(search.start())._asdict())  # stopped after a round
        >>> _ = file.seek(0)
        >>> state = SearchState(**np.load(file))
        >>> while not search.is_finished(state):
        ...     state = search.advance(state)  # and show state.survivors[:, -1]
        >>> search.result(state).frequency.tolist()
        [[0, 0], [0, 0]]
    """
    require_one_of("norm", norm, ("linf", "l2"))
    images, labels, shape = check_images(predict_fn, params, images, labels, bounds=bounds, batch_size=batch_size)
    grid = check_frequency_set(frequencies, shape[:2])
    epsilons, phase = check_epsilons("epsilon", epsilon), check_phase(phase)

    def to_result(found: WorstPerturbation) -> WorstFrequency:
        worst = WorstFrequency(frequency=jnp.asarray(grid)[found.index], **vars(found))
        return worst if epsilons.ndim else without_axis(worst)

    attack = jax.tree_util.Partial(_FourierAttack(shape, norm), grid, epsilons.reshape(-1), phase)
    return make_search(
        predict_fn, Problem(params, images, labels, attack), (epsilons.size, len(grid)), to_result,
        tolerance=tolerance, confidence=confidence, key=key, bounds=bounds, batch_size=batch_size,
        attacks_per_step=attacks_per_step,
    )  # fmt: skip


def find_worst_perturbation(
    predict_fn: PredictFn,
    params: PyTree,
    images: ArrayLike,
    labels: ArrayLike,
    perturbations: Perturbations,
    *,
    num_perturbations: int | None = None,
    tolerance: float = 0.0,
    confidence: float | None = None,
    key: Array | None = None,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 64,
    attacks_per_step: int | None = None,
) -> WorstPerturbation:
    r"""Find which of many universal perturbations leaves the fewest images correctly classified.

    .. math:: \arg\min_a \#\{ i : \arg\max f(\operatorname{clip}(x_i + v_a,\ \text{bounds})) = y_i \}

    As :func:`find_worst_frequency`, which is this with Fourier basis images.

    Args:
        predict_fn, params, images, labels: as in :func:`fourier_sweep`.
        perturbations: float array [A, H, W, C], each added to every image; or a function that makes number a
            [H, W, C] from the integer a, so that they need not all lie in memory. It is compiled in; numbers that
            it depends on are best given by ``jax.tree_util.Partial(function, numbers)``, which are traced.
        num_perturbations: A; for a function only.
        tolerance, confidence, key, bounds, batch_size, attacks_per_step: as in :func:`find_worst_frequency`.

    Returns:
        A :class:`WorstPerturbation`.

    Raises:
        ValueError: as :func:`find_worst_frequency`; also if the perturbations are none or do not fit the images,
            or an array of them is not finite. What a function makes is not looked at: under a pixel that is not
            a number the network sees one, and images whose logits are not numbers then count as wrong.

    Example:
        >>> import jax.numpy as jnp
        >>> def predict_fn(params, images):
        ...     brightness = images.mean(axis=(1, 2, 3)) - params
        ...     return jnp.stack([-brightness, brightness], axis=-1)
        >>> images, labels = jnp.full((10, 4, 4, 1), 0.6), jnp.ones(10, int)
        >>> shifts = jnp.stack([jnp.full((4, 4, 1), shift) for shift in (0.0, 0.1, -0.2)])
        >>> worst = find_worst_perturbation(predict_fn, 0.5, images, labels, shifts)
        >>> int(worst.index), int(worst.correct), int(worst.total)
        (2, 0, 10)

    See also:
        :func:`worst_perturbation_search`, the same in rounds.
    """
    return worst_perturbation_search(
        predict_fn, params, images, labels, perturbations,
        num_perturbations=num_perturbations, tolerance=tolerance, confidence=confidence, key=key, bounds=bounds,
        batch_size=batch_size, attacks_per_step=attacks_per_step,
    ).run()  # fmt: skip


def worst_perturbation_search(
    predict_fn: PredictFn,
    params: PyTree,
    images: ArrayLike,
    labels: ArrayLike,
    perturbations: Perturbations,
    *,
    num_perturbations: int | None = None,
    tolerance: float = 0.0,
    confidence: float | None = None,
    key: Array | None = None,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 64,
    attacks_per_step: int | None = None,
) -> WorstSearch[WorstPerturbation]:
    """:func:`find_worst_perturbation` in rounds, as :func:`worst_frequency_search`.

    Args:
        predict_fn, params, images, labels, perturbations: as in :func:`find_worst_perturbation`.
        num_perturbations, tolerance, confidence, key, bounds, batch_size, attacks_per_step: likewise.

    Returns:
        A :class:`WorstSearch`.

    Raises:
        ValueError: as :func:`find_worst_perturbation`.

    Example:
        >>> import jax.numpy as jnp
        >>> def predict_fn(params, images):
        ...     return images.mean(axis=(1, 2))
        >>> images = jnp.tile(jnp.array([0.4, 0.6]), (9, 2, 2, 1))
        >>> shifts = jnp.stack([jnp.tile(jnp.array([shift, -shift]), (2, 2, 1)) for shift in (0.0, 0.2, 0.4)])
        >>> search = worst_perturbation_search(predict_fn, (), images, jnp.ones(9, int), shifts, batch_size=3)
        >>> state = search.advance(search.start())
        >>> state.evaluated.tolist(), state.survivors.tolist()
        ([[3, 3, 3]], [[3, 3]])
    """
    images, labels, shape = check_images(predict_fn, params, images, labels, bounds=bounds, batch_size=batch_size)
    attack, number = check_perturbations(perturbations, num_perturbations, shape)
    return make_search(
        predict_fn, Problem(params, images, labels, attack), (1, number), without_axis,
        tolerance=tolerance, confidence=confidence, key=key, bounds=bounds, batch_size=batch_size,
        attacks_per_step=attacks_per_step,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _FourierAttack:
    """From frequencies [F, 2], epsilons [E], the phase and the number e F + f of an attack to its perturbation.

    Compared by its fields, so that it is compiled in once.
    """

    image_shape: ImageShape
    norm: str

    def __call__(self, frequencies: Array, epsilons: Array, phase: Array, number: Array) -> Array:
        frequency, epsilon = frequencies[number % len(frequencies)], epsilons[number // len(frequencies)]
        return fourier_perturbation(frequency, self.image_shape, epsilon, norm=self.norm, phase=phase)
