"""Measures of robustness that are counted, with their uncertainty."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from absum_jax._argument_checks import as_array, concrete, require_finite, require_nonnegative
from absum_jax._types import Values


def fooling_rate(clean_predictions: ArrayLike, attacked_predictions: ArrayLike) -> Float[Array, "..."]:
    """Share of predictions that an attack changed, whether or not they were right before.

    Args:
        clean_predictions: integer classes [N] (argmax of the logits) on the clean images.
        attacked_predictions: classes [..., N] on the attacked images; leading axes are kept.

    Returns:
        float array [...] in [0, 1].

    Raises:
        ValueError: if the arrays are not of integers, are empty, or differ in N.

    Example:
        >>> import jax.numpy as jnp
        >>> float(fooling_rate(jnp.array([0, 1, 2, 3]), jnp.array([0, 1, 2, 0])))
        0.25

    References:
        Moosavi-Dezfooli et al., Universal Adversarial Perturbations, CVPR 2017,
        https://arxiv.org/abs/1610.08401
    """
    clean, attacked = jnp.asarray(clean_predictions), jnp.asarray(attacked_predictions)
    _require_classes("clean_predictions", clean)
    _require_classes("attacked_predictions", attacked)
    if clean.ndim != 1 or not clean.size or attacked.shape[-1:] != clean.shape:
        raise ValueError(f"predictions must be [N] and [..., N], got {clean.shape} and {attacked.shape}")
    return jnp.mean(attacked != clean.reshape((1,) * (attacked.ndim - 1) + clean.shape), axis=-1)


def worst_case(labels: ArrayLike, *predictions: ArrayLike) -> Bool[Array, "N"]:
    """Which examples stay right under every attack: the robust accuracy of several attacks is their share.

    The worst case is taken for each example, so it is at most the smallest accuracy of the attacks, and smaller
    where they fool different examples.

    Args:
        labels: integer classes [N].
        predictions: of each attack, integer classes [..., N] on the attacked images, for example [A, N] of
            :func:`attack_predictions`; at least one. Those on the clean images may be among them.

    Returns:
        bool array [N].

    Raises:
        ValueError: if there is no attack, or the arrays are not of integers, are empty, or differ in N.

    Example:
        >>> import jax.numpy as jnp
        >>> labels, fourier = jnp.array([0, 1, 2]), jnp.array([[0, 1, 0], [0, 1, 2]])
        >>> worst_case(labels, fourier, jnp.array([1, 1, 2])).tolist()
        [False, True, False]

    References:
        Carlini et al., On Evaluating Adversarial Robustness, 2019, https://arxiv.org/abs/1902.06705
    """
    labels = jnp.asarray(labels)
    _require_classes("labels", labels)
    if labels.ndim != 1 or not labels.size:
        raise ValueError(f"labels must have shape [N] with N > 0, got {labels.shape}")
    if not predictions:
        raise ValueError("predictions must be of at least one attack, got none")
    is_right = jnp.ones(labels.shape, bool)
    for index, classes in enumerate(map(jnp.asarray, predictions)):
        _require_classes(f"predictions {index}", classes)
        if classes.shape[-1:] != labels.shape or not classes.size:
            raise ValueError(f"predictions {index} must have shape [..., {len(labels)}], got {classes.shape}")
        is_right &= jnp.all(classes.reshape(-1, len(labels)) == labels[None], axis=0)
    return is_right


def _require_classes(name: str, classes: Array) -> None:
    if not jnp.issubdtype(classes.dtype, jnp.integer):
        raise ValueError(f"{name} must be integer classes, got dtype {classes.dtype}")


def epsilon_at_chance(
    epsilons: ArrayLike | Sequence[float],
    correct: Values,
    total: ArrayLike,
    *,
    num_classes: int,
    confidence: float = 0.95,
) -> Float[Array, "..."]:
    """The smallest epsilon at which an attack leaves no more than chance; infinity if the curve ends before.

    An attack that never gets there, however large epsilon is, says more about the attack than about the network:
    the curve of accuracy over epsilon has to be continued until it does. Chance is 1 / num_classes, reached
    where it is not below the interval of :func:`accuracy_interval`.

    Args:
        epsilons: float [E], in any order.
        correct: counts [..., E], for example ``FourierSweep.worst_correct``.
        total: number of images, at least 1.
        num_classes: at least 2.
        confidence: of the interval, in (0, 1).

    Returns:
        float array [...]: one of the epsilons, or infinity.

    Raises:
        ValueError: if a value is outside the range above, or the shapes do not fit.

    Example:
        >>> float(epsilon_at_chance([0.25, 0.5, 1.0], [80, 30, 11], 100, num_classes=10))
        1.0
        >>> float(epsilon_at_chance([0.25, 0.5], [80, 30], 100, num_classes=10))
        inf
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, (int, np.integer)) or num_classes < 2:
        raise ValueError(f"num_classes must be an integer of at least 2, got {num_classes!r}")
    require_nonnegative("epsilons", epsilons)
    epsilons, correct = jnp.asarray(epsilons, dtype=float), as_array("correct", correct)
    if epsilons.ndim != 1 or not epsilons.size or correct.shape[-1:] != epsilons.shape:
        raise ValueError(f"epsilons and correct must be [E] and [..., E], got {epsilons.shape}, {correct.shape}")
    low, _ = accuracy_interval(correct, total, confidence)
    epsilons = jnp.broadcast_to(epsilons, correct.shape)
    return jnp.min(jnp.where(low <= 1 / num_classes, epsilons, jnp.inf), axis=-1)


def accuracy_interval(
    correct: ArrayLike, total: ArrayLike, confidence: float = 0.95
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    r"""Wilson score interval of a proportion.

    .. math:: \frac{1}{1 + z^2/n} \Big( p + \frac{z^2}{2n} \pm z \sqrt{\frac{p(1-p)}{n} + \frac{z^2}{4n^2}} \Big)

    with p = correct / n and z the (1 + confidence)/2 quantile of the normal distribution. Unlike p +- z s it stays
    in [0, 1] and has width at p = 0 and p = 1.

    Args:
        correct: counts, 0 <= correct <= total; any shape.
        total: number of trials n, at least 1; a number, or an array of the shape of ``correct``.
        confidence: in (0, 1), default 0.95.

    Returns:
        Lower and upper bound, float arrays of the shape of ``correct``.

    Raises:
        ValueError: if a value is no number, of another shape or outside the range above.

    Example:
        >>> [round(float(bound), 3) for bound in accuracy_interval(90, 100)]
        [0.826, 0.945]

    References:
        Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927).
    """
    require_confidence(confidence)
    correct, total = as_array("correct", correct), as_array("total", total)
    if total.shape not in ((), correct.shape):
        raise ValueError(f"total must be a number or of the shape {correct.shape} of correct, got {total.shape}")
    known_correct, known_total = concrete(correct), concrete(total)
    if known_total is not None and not (known_total >= 1).all():
        raise ValueError(f"total must be at least 1, got {known_total}")
    if known_correct is not None and known_total is not None:
        in_range = (known_correct >= 0) & (known_correct <= known_total)
        if not in_range.all():
            raise ValueError(f"correct must lie between 0 and total = {known_total}, got {known_correct}")
    n = jnp.asarray(total, dtype=float)
    p = jnp.asarray(correct, dtype=float) / n
    z = ndtri((1 + confidence) / 2)
    centre, spread = p + z**2 / (2 * n), z * jnp.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # The bounds touch 0 and 1 exactly at p = 0 and p = 1; rounding must not carry them across.
    return (
        jnp.clip((centre - spread) / (1 + z**2 / n), 0, 1),
        jnp.clip((centre + spread) / (1 + z**2 / n), 0, 1),
    )


def require_confidence(confidence: ArrayLike) -> None:
    """Raise ``ValueError`` unless ``confidence`` is one known number between 0 and 1."""
    require_finite("confidence", confidence)
    known = concrete(confidence)
    if known is None or known.ndim or not 0 < known < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
