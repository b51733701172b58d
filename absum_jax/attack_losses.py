"""What a gradient attack raises: losses of logits [N, classes] with labels [N], one value per image.

With targets instead of labels, a targeted attack lowers the same losses.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def cross_entropy_loss(logits: Float[Array, "N classes"], labels: Int[Array, "N"]) -> Float[Array, "N"]:
    r"""Cross-entropy of the softmax.

    .. math:: \ell(z, y) = \log \textstyle\sum_j e^{z_j} - z_y

    Its gradient vanishes where the softmax is saturated, that is for logits of a large scale; the other two losses
    keep theirs.

    Args:
        logits: float array [N, classes].
        labels: int array [N].

    Returns:
        float array [N], in nats.

    Example:
        >>> import jax.numpy as jnp
        >>> cross_entropy_loss(jnp.zeros((1, 4)), jnp.array([2])).round(3).tolist()
        [1.3860000371932983]

    References:
        Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018,
        https://arxiv.org/abs/1706.06083

    See also:
        :func:`margin_loss`, :func:`logits_ratio_loss`
    """
    return jax.nn.logsumexp(logits, axis=-1) - _logit_of(logits, labels)


def margin_loss(logits: Float[Array, "N classes"], labels: Int[Array, "N"]) -> Float[Array, "N"]:
    r"""Largest logit of another class less that of the label.

    .. math:: \ell(z, y) = \max_{j \ne y} z_j - z_y

    It is positive where the prediction is wrong.

    Args:
        logits: float array [N, classes].
        labels: int array [N].

    Returns:
        float array [N].

    Example:
        >>> import jax.numpy as jnp
        >>> margin_loss(jnp.array([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0]]), jnp.array([0, 2])).tolist()
        [-2.0, 3.0]

    References:
        Carlini and Wagner, Towards Evaluating the Robustness of Neural Networks, S&P 2017, the function f6,
        https://arxiv.org/abs/1608.04644

    See also:
        :func:`logits_ratio_loss`, the same whatever the scale of the logits
    """
    others = jnp.where(_is_label(logits, labels), -jnp.inf, logits)
    return jnp.max(others, axis=-1) - _logit_of(logits, labels)


def logits_ratio_loss(logits: Float[Array, "N classes"], labels: Int[Array, "N"]) -> Float[Array, "N"]:
    r"""Difference of logits ratio (DLR): the margin over the distance from the largest logit to the third.

    .. math:: \ell(z, y) = \frac{\max_{j \ne y} z_j - z_y}{z_{(1)} - z_{(3)} + 10^{-12}}

    with z_(1) >= z_(2) >= ... the sorted logits. Neither a shift nor a positive factor of the logits changes it,
    so that a model cannot hide its gradient behind a large scale.

    Args:
        logits: float array [N, classes] of three or more classes.
        labels: int array [N].

    Returns:
        float array [N].

    Raises:
        ValueError: if there are fewer than three classes.

    Example:
        >>> import jax.numpy as jnp
        >>> logits = jnp.array([[4.0, 2.0, 0.0, -1.0]])
        >>> [logits_ratio_loss(scale * logits, jnp.array([0])).tolist() for scale in (1, 8)]
        [[-0.5], [-0.5]]

    References:
        Croce and Hein, Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
        Attacks, ICML 2020, equation 6, https://arxiv.org/abs/2003.01690
    """
    if logits.shape[-1] < 3:
        raise ValueError(f"logits must have 3 or more classes, got shape {logits.shape}")
    largest = jax.lax.top_k(logits, 3)[0]  # [N, 3]
    return margin_loss(logits, labels) / (largest[:, 0] - largest[:, 2] + 1e-12)


def _is_label(logits: Array, labels: Array) -> Array:
    """Bools [N, classes]; selecting by them has an elementwise gradient, indexing has a scatter."""
    return jnp.arange(logits.shape[-1])[None] == labels[:, None]


def _logit_of(logits: Array, labels: Array) -> Array:
    return jnp.sum(jnp.where(_is_label(logits, labels), logits, 0), axis=-1)
