"""Log-scores: the elementwise functions s = log g whose exponentials an output activation normalises.

Every ``score`` argument takes one of the four below, one of ``sigsoftmax_jax.learnable_scores`` or an elementwise
function of your own. Its learnable or traced parameters go in by
``score=jax.tree_util.Partial(function, *parameters)`` of a ``function(*parameters, logits)``, become arrays of the
floating-point dtype that is computed in and get their gradients; a function that closes over traced arrays is
refused. What a closure, a method, an object, a default argument or a jitted function holds is read anew at each
call, which outside of ``jax.jit`` compiles anew; a plain function without any that reads no changing global is
compiled once. Masked logits (-inf) have probability 0 whatever the score, which is not evaluated there.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sigsoftmax_jax._arguments import as_floating, compute_dtype


@runtime_checkable
class Score(Protocol):
    """A log-score: an elementwise function s = log g of the logits, whose exponentials are normalised.

    Called with an array of any shape, in float32 or float64; returns one of its shape and dtype. It need not
    accept -inf: masked logits have probability 0 whatever the score.

    Example:
        >>> import jax.numpy as jnp
        >>> from sigsoftmax_jax import cross_entropy_with_integer_labels
        >>> print(cross_entropy_with_integer_labels(jnp.zeros(2), jnp.array(0), score=lambda z: 2 * z))
        0.6931472
    """

    def __call__(self, logits: Array, /) -> Array:
        """The scores of the logits."""
        ...


def softmax_score(logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """Log-score of the softmax: s(z) = z, that is g(z) = exp(z).

    Args:
        logits: any shape, nats.

    Returns:
        ``logits`` unchanged.

    Raises:
        ValueError: logits that are not floating-point.

    Example:
        >>> import jax.numpy as jnp
        >>> print(softmax_score(jnp.array([-1.0, 0.0, 1.0])))
        [-1.  0.  1.]
    """
    return as_floating("logits", logits)


def sigsoftmax_score(logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """Log-score of the sigsoftmax: s(z) = z + log sigmoid(z), that is g(z) = exp(z) sigmoid(z).

    Evaluated as z + min(z, 0) - log1p(exp(-|z|)), which does not overflow. Its derivative is 2 - sigmoid(z).

    Args:
        logits: any shape, nats; -inf gives -inf. Half precision is evaluated in float32.

    Returns:
        The scores, of the shape and dtype of ``logits``.

    Raises:
        ValueError: logits that are not floating-point.

    Example:
        >>> import jax.numpy as jnp
        >>> print(sigsoftmax_score(jnp.array([-300.0, 0.0, 300.0])))
        [-600.          -0.6931472  300.       ]

    References:
        Kanai et al., "Sigsoftmax: Reanalysis of the Softmax Bottleneck", NeurIPS 2018, arXiv:1805.10829.
    """
    return _gated_score("sigsoftmax", logits)


def sigmoid_score(logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """Log-score of the sigmoid-based activation: s(z) = log sigmoid(z), that is g(z) = sigmoid(z).

    Evaluated as min(z, 0) - log1p(exp(-|z|)). Its derivative is 1 - sigmoid(z).

    Args:
        logits: any shape, nats; -inf gives -inf. Half precision is evaluated in float32.

    Returns:
        The scores, of the shape and dtype of ``logits``.

    Raises:
        ValueError: logits that are not floating-point.

    Example:
        >>> import jax.numpy as jnp
        >>> print(sigmoid_score(jnp.array([-300.0, 0.0, 300.0])))
        [-300.          -0.6931472    0.       ]

    References:
        Kanai et al., NeurIPS 2018, arXiv:1805.10829.
    """
    return _gated_score("sigmoid", logits)


def relu_score(logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """Log-score of the ReLU-based activation: s(z) = log(relu(z) + 1e-8).

    Its derivative is 1 / (z + 1e-8) for z > 0 (up to 1e8) and 0 elsewhere: of the four it alone is unbounded.

    Args:
        logits: any shape; -inf gives log(1e-8) like every negative logit, so mask the classes of
            ``log_normalize(relu_score(z))`` by its ``where``; the losses mask -inf themselves. Half precision
            is evaluated in float32, where 1e-8 exists.

    Returns:
        The scores, of the shape and dtype of ``logits``.

    Raises:
        ValueError: logits that are not floating-point.

    Example:
        >>> import jax.numpy as jnp
        >>> print(relu_score(jnp.array([-1.0, 0.0, 1.0])))
        [-18.420681 -18.420681   0.      ]

    References:
        Kanai et al., NeurIPS 2018, arXiv:1805.10829.
    """
    logits = as_floating("logits", logits)
    z = logits.astype(compute_dtype(logits))
    return jnp.log(jax.nn.relu(z) + 1e-8).astype(logits.dtype)


def keep_masked(score: Score) -> Score:
    """The score, but -inf where the logit is -inf, at which it is not evaluated."""

    def exponent(z: Array) -> Array:
        masked = z == -jnp.inf
        return jnp.where(masked, -jnp.inf, score(jnp.where(masked, 0, z)))

    return exponent


class ScoreForm(NamedTuple):
    """What the losses make use of: s(z) = exponent(z), or exponent(z) - log1p(exp(-|z|)) where ``gated``.

    The exponent of a gated score is piecewise linear, hence exact, and the rest lies in [-log 2, 0]:
    subtracting the shift from the exponent alone rounds once, at the size of the result and not of the logit.
    ``slope`` is s'(z) where it is written out and not left to JAX, and within [0, 2], so that gradients of logits
    are multiplied in float16 where the inputs are in it. It does not share exp(-|z|) with the shifted
    exponentials: XLA would write that out and read it back.
    """

    score: Score
    exponent: Callable[[Array], Array]
    gated: bool = False
    slope: Callable[[Array], Array] | None = None


# All that is known of the built-in scores: a new one is its function above and its entry here.
FORMS: dict[str, ScoreForm] = {
    "softmax": ScoreForm(softmax_score, exponent=softmax_score, slope=jnp.ones_like),
    "sigsoftmax": ScoreForm(
        sigsoftmax_score,
        exponent=lambda z: jnp.where(z > 0, z, 2 * z),
        gated=True,
        slope=lambda z: 2 - jax.nn.sigmoid(z),
    ),
    "sigmoid": ScoreForm(
        sigmoid_score,
        exponent=lambda z: jnp.where(z > 0, 0, z),
        gated=True,
        slope=lambda z: jax.nn.sigmoid(-z),
    ),
    "relu": ScoreForm(relu_score, exponent=keep_masked(relu_score)),
}
SCORES: dict[str, Score] = {name: form.score for name, form in FORMS.items()}
"""The built-in scores by name, for a command line or a table to choose from."""


def exp_minus_abs(z: Array) -> Array:
    """exp(-|z|), with |z| by branches: its derivatives at 0, and those of the scores, are those from the left."""
    return jnp.exp(jnp.where(z > 0, -z, z))


def _gated_score(name: str, logits: Array) -> Array:
    """exponent(z) - log1p(exp(-|z|)), in at least float32."""
    logits = as_floating("logits", logits)
    z = logits.astype(compute_dtype(logits))
    return (FORMS[name].exponent(z) - jnp.log1p(exp_minus_abs(z))).astype(logits.dtype)
