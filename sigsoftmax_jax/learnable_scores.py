"""Scores with parameters: pytrees that every ``score`` argument takes, and whose leaves get gradients.

Make the score from its parameters inside the loss; what is left out of the differentiated arguments stays as it
is. Several losses with one score add up in the parameters' gradient like any other weight's.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from sigsoftmax_jax._arguments import AnyArray, as_floating, check_shape, compute_dtype, known_values
from sigsoftmax_jax._sharding import with_automatic_axes
from sigsoftmax_jax.scores import exp_minus_abs

Number = Float[AnyArray, ""] | float


def gss_score(c: Number, k: Number) -> Partial:
    """Generalised sigsoftmax: s(z) = k (z - c) + c - (k - 1) softplus(z - c), which is z far above c.

    Its slope k - (k - 1) sigmoid(z - c) falls from k far below c to 1 far above it. k = 1 is the softmax; c = 0,
    k = 2 the sigsoftmax.

    Args:
        c: where the slope changes, a logit; a scalar, traced or not.
        k: slope far below c, above 0; a scalar. To learn it, learn its logarithm.

    Returns:
        A ``jax.tree_util.Partial`` with the leaves c and k, in at least float32 when it is evaluated.

    Raises:
        ValueError: ``c`` or ``k`` that is no scalar, a known ``k`` that is not above 0, or not finite.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from sigsoftmax_jax import cross_entropy_with_integer_labels
        >>> print(gss_score(c=-1.5, k=2.5)(jnp.array([-300.0, -1.5, 300.0])))
        [-747.75        -2.5397208  300.       ]
        >>> def loss(c, log_k):
        ...     score = gss_score(c, jnp.exp(log_k))
        ...     return cross_entropy_with_integer_labels(jnp.array([0.0, 1.0, 2.0]), jnp.array(2), score=score)
        >>> dc, dlog_k = jax.grad(loss, (0, 1))(0.0, jnp.log(2.0))
        >>> print(f"{dc:.3f} {dlog_k:.3f}")
        -0.054 -0.145

    References:
        Parthiban, Mao, Inkpen, "On the Softmax Bottleneck of Recurrent Language Models", AAAI 2021, where c and
        k are fixed for each corpus: -1.5 and 2.5 for Penn Treebank, -1.5 and 3 for WikiText-2.
    """
    for name, value in {"c": c, "k": k}.items():
        check_shape(name, jnp.shape(value), (), "one for all logits")
    if (known := known_values(c)) is not None and not np.isfinite(known):
        raise ValueError(f"c must be finite, got {c}")
    _check_positive("k", k)
    return Partial(_generalised, c, k)


def plif_score(log_slopes: Float[AnyArray, " pieces"], limit: Number) -> Partial:
    """Learnable piecewise linear increasing function, of slope exp(log_slopes[i]) on piece i of [-limit, limit].

    The pieces have equal widths; the first and the last go on beyond the limits. s(-limit) = -limit, a constant
    that cancels in every log-probability. Zeros are the softmax. Positive slopes keep the order of the logits.

    Args:
        log_slopes: [pieces], the parameters to learn; with a learning rate of their own, as each is moved by the
            few logits that fall on its piece.
        limit: above 0, a logit; gets no gradient.

    Returns:
        A ``jax.tree_util.Partial`` with the leaves ``log_slopes`` and ``limit``, in at least float32 when it is
        evaluated.

    Raises:
        ValueError: ``log_slopes`` that is no vector of floating-point numbers, ``limit`` that is no scalar or,
            when known, not above 0 or not finite.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from sigsoftmax_jax import cross_entropy_with_integer_labels
        >>> print(plif_score(jnp.log(jnp.array([2.0, 1.0])), limit=20.0)(jnp.array([-300.0, 0.0, 300.0])))
        [-580.   20.  320.]
        >>> def loss(log_slopes):
        ...     logits, score = jnp.array([[0.0, 1.0, 2.0]]), plif_score(log_slopes, limit=2.0)
        ...     return cross_entropy_with_integer_labels(logits, jnp.array([2]), score=score).mean()
        >>> with jnp.printoptions(precision=3, suppress=True):
        ...     print(jax.grad(loss)(jnp.zeros(4)))
        [-0.    -0.    -0.09  -0.335]

    References:
        Ganea et al., "Breaking the Softmax Bottleneck via Learnable Monotonic Pointwise Non-linearities", ICML
        2019, with 100,000 pieces on [-20, 20].
    """
    log_slopes = as_floating("log_slopes", log_slopes)
    if jnp.ndim(log_slopes) != 1 or not jnp.size(log_slopes):
        raise ValueError(f"log_slopes must be [pieces] with at least one, got {jnp.shape(log_slopes)}")
    check_shape("limit", jnp.shape(limit), (), "one for all logits")
    _check_positive("limit", limit)
    return Partial(_piecewise_linear, log_slopes, limit)


def _generalised(c: Number, k: Number, logits: Array) -> Array:
    logits = as_floating("logits", logits)
    wide = compute_dtype(logits)
    z, c, k = logits.astype(wide), jnp.asarray(c, wide), jnp.asarray(k, wide)
    # As softplus(x) = max(x, 0) + log1p(exp(-|x|)), the logit itself is left far above c, with no k to cancel.
    far = jnp.where(z > c, z, k * (z - c) + c)
    return (far - (k - 1) * jnp.log1p(exp_minus_abs(z - c))).astype(logits.dtype)


def _piecewise_linear(log_slopes: AnyArray, limit: Number, logits: Array) -> Array:
    logits = as_floating("logits", logits)
    wide = compute_dtype(logits)
    limit = jax.lax.stop_gradient(jnp.asarray(limit, wide))
    slopes = jnp.exp(jnp.asarray(log_slopes, wide))  # [pieces]
    width = 2 * limit / len(slopes)
    # The score where a piece begins: what the pieces before it rise.
    starts = jnp.pad(jnp.cumsum(slopes[:-1]), (1, 0)) * width - limit  # [pieces]

    # A gather has no sharding of its own.
    run = with_automatic_axes(_interpolate, logits, logits.ndim)
    return run(logits.astype(wide), starts, slopes, limit, width).astype(logits.dtype)


def _interpolate(z: Array, starts: Array, slopes: Array, limit: Array, width: Array) -> Array:
    piece = jnp.clip(jnp.floor((z + limit) / width), 0, len(slopes) - 1)
    index = piece.astype(jnp.int32)
    return starts[index] + slopes[index] * (z - (piece * width - limit))


def _check_positive(name: str, value: Number) -> None:
    known = known_values(value)
    if known is not None and not 0 < known < np.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value}")
