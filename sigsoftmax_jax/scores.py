"""Log-scores: the elementwise functions s = log g whose exponentials an output activation normalises.

Every ``score`` argument takes one of the four below or an elementwise function of your own. Learnable or
traced parameters go in as ``score=jax.tree_util.Partial(function, *parameters)`` of a
``function(*parameters, logits)`` and get their gradients; a function that closes over traced arrays is
refused. What a closure, a method or an object holds is read anew at each call, which outside of ``jax.jit``
compiles anew; a plain function that reads no changing global is compiled once. Masked logits (-inf) have
probability 0 whatever the score, which is not evaluated there.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Score = Callable[[Array], Array]


def softmax_score(logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """Log-score of the softmax: s(z) = z, that is g(z) = exp(z).

    Args:
        logits: any shape, nats.

    Returns:
        ``logits`` unchanged.

    Example:
        >>> import jax.numpy as jnp
        >>> print(softmax_score(jnp.array([-1.0, 0.0, 1.0])))
        [-1.  0.  1.]
    """
    return logits


def sigsoftmax_score(logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """Log-score of the sigsoftmax: s(z) = z + log sigmoid(z), that is g(z) = exp(z) sigmoid(z).

    Evaluated as z + min(z, 0) - log1p(exp(-|z|)), which does not overflow. Its derivative is 2 - sigmoid(z).

    Args:
        logits: any shape, nats; -inf gives -inf. Half precision is evaluated in float32.

    Returns:
        The scores, of the shape and dtype of ``logits``.

    Example:
        >>> import jax.numpy as jnp
        >>> print(sigsoftmax_score(jnp.array([-300.0, 0.0, 300.0])))
        [-600.          -0.6931472  300.       ]

    References:
        Kanai et al., "Sigsoftmax: Reanalysis of the Softmax Bottleneck", NeurIPS 2018, arXiv:1805.10829.
    """
    z = logits.astype(compute_dtype(logits))
    return (jnp.where(z > 0, z, 2 * z) - jnp.log1p(jnp.exp(minus_abs(z)))).astype(logits.dtype)


def sigmoid_score(logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """Log-score of the sigmoid-based activation: s(z) = log sigmoid(z), that is g(z) = sigmoid(z).

    Evaluated as min(z, 0) - log1p(exp(-|z|)). Its derivative is 1 - sigmoid(z).

    Args:
        logits: any shape, nats; -inf gives -inf. Half precision is evaluated in float32.

    Returns:
        The scores, of the shape and dtype of ``logits``.

    Example:
        >>> import jax.numpy as jnp
        >>> print(sigmoid_score(jnp.array([-300.0, 0.0, 300.0])))
        [-300.          -0.6931472    0.       ]

    References:
        Kanai et al., NeurIPS 2018, arXiv:1805.10829.
    """
    z = logits.astype(compute_dtype(logits))
    return (jnp.where(z > 0, 0, z) - jnp.log1p(jnp.exp(minus_abs(z)))).astype(logits.dtype)


def relu_score(logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """Log-score of the ReLU-based activation: s(z) = log(relu(z) + 1e-8).

    Its derivative is 1 / (z + 1e-8) for z > 0 (up to 1e8) and 0 elsewhere: of the four it alone is unbounded.

    Args:
        logits: any shape; -inf gives log(1e-8) like every negative logit, so mask the classes of
            ``log_normalize(relu_score(z))`` by its ``where``; the losses mask -inf themselves. Half precision
            is evaluated in float32, where 1e-8 exists.

    Returns:
        The scores, of the shape and dtype of ``logits``.

    Example:
        >>> import jax.numpy as jnp
        >>> print(relu_score(jnp.array([-1.0, 0.0, 1.0])))
        [-18.420681 -18.420681   0.      ]

    References:
        Kanai et al., NeurIPS 2018, arXiv:1805.10829.
    """
    z = logits.astype(compute_dtype(logits))
    return jnp.log(jax.nn.relu(z) + 1e-8).astype(logits.dtype)


def minus_abs(z: Array) -> Array:
    """-|z| by branches: its derivatives at 0, and those of the scores, are those from the left."""
    return jnp.where(z > 0, -z, z)


def compute_dtype(*arrays: Array | np.ndarray) -> jnp.dtype:
    """The dtype that sums and logarithms of these arrays are taken in: float32, or wider if one of them is."""
    wide = any(jnp.result_type(array) == jnp.float64 for array in arrays)
    return jnp.dtype(jnp.float64 if wide else jnp.float32)
