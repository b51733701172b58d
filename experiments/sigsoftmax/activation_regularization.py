"""Activation regularisation (AR) and temporal activation regularisation (TAR) of the last layer."""

import jax.numpy as jnp
from jax import Array


def activation_regularization(dropped: Array, raw: Array, where: Array, alpha: float, beta: float) -> Array:
    """alpha mean(dropped_t^2) + beta mean((raw_{t+1} - raw_t)^2), over the elements that count.

    Args:
        dropped: last layer's output after dropout [b, T, H].
        raw: the same before dropout [b, T, H].
        where: bool [b, T], the time steps that count; a difference counts if both of its steps do.
        alpha: strength of AR.
        beta: strength of TAR.

    Returns:
        The penalty, a scalar; the mean of nothing is 0.

    Example:
        >>> outputs, where = jnp.array([[[1.0], [3.0], [9.0]]]), jnp.array([[True, True, False]])
        >>> print(activation_regularization(outputs, outputs, where, 2.0, 1.0))
        14.0

    References:
        Merity, McCann, Socher, Revisiting Activation Regularization for Language RNNs, 2017, arXiv:1708.01009.
    """
    both = where[:, 1:] & where[:, :-1]
    return alpha * _mean_square(dropped, where) + beta * _mean_square(raw[:, 1:] - raw[:, :-1], both)


def _mean_square(values: Array, where: Array) -> Array:
    squares = jnp.where(where[..., None], values**2, 0)
    return jnp.sum(squares) / jnp.maximum(jnp.sum(where) * values.shape[-1], 1)
