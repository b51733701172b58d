"""Measures of robustness that are counted, with their uncertainty."""

import jax.numpy as jnp
from jax.scipy.special import ndtri
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from absum_jax._argument_checks import concrete


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
    for name, values in {"clean_predictions": clean, "attacked_predictions": attacked}.items():
        if not jnp.issubdtype(values.dtype, jnp.integer):
            raise ValueError(f"{name} must be integer classes, got dtype {values.dtype}")
    if clean.ndim != 1 or not clean.size or attacked.shape[-1:] != clean.shape:
        raise ValueError(f"predictions must be [N] and [..., N], got {clean.shape} and {attacked.shape}")
    return jnp.mean(attacked != clean.reshape((1,) * (attacked.ndim - 1) + clean.shape), axis=-1)


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
        ValueError: if a value is outside the range above.

    Example:
        >>> [round(float(bound), 3) for bound in accuracy_interval(90, 100)]
        [0.826, 0.945]

    References:
        Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
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
