"""The dropouts of the AWD-LSTM; each keeps the expectation.

No key, as in evaluation, means no dropout; neither that nor a rate of 0 draws any random number.
"""

import jax
import jax.numpy as jnp
from jax import Array


def check_rate(name: str, rate: float) -> None:
    """A rate lies in [0, 1).

    Raises:
        ValueError: if it does not.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout rate {name} must lie in [0, 1), got {rate}")


def locked_dropout(keys: Array | None, values: Array, rate: float) -> Array:
    """Variational dropout: one mask per sequence and feature, the same at all time steps.

    Args:
        keys: [b], one per sequence, or None.
        values: [b, T, features].
        rate: probability of a 0, in [0, 1); the rest is divided by 1 - rate.

    Returns:
        [b, T, features].

    Raises:
        ValueError: a rate outside [0, 1).

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> dropped = locked_dropout(keys, jnp.ones((2, 3, 400)), 0.5)
        >>> print(bool(jnp.all(dropped[:, 0] == dropped[:, 2])), sorted(set(dropped.ravel().tolist())))
        True [0.0, 2.0]

    References:
        Gal and Ghahramani, A Theoretically Grounded Application of Dropout in Recurrent Neural Networks, 2016.
    """
    check_rate("rate", rate)
    if keys is None or rate == 0:
        return values
    wide = jnp.promote_types(values.dtype, jnp.float32)
    # Not in half precision, to which 1 / (1 - rate), and so the expectation, would be rounded.
    scales = jax.vmap(lambda key: _scales(key, values.shape[-1:], rate, wide))(keys)
    return (values * scales[:, None]).astype(values.dtype)


def embedding_dropout(key: Array | None, embedding: Array, tokens: Array, rate: float) -> Array:
    """Embed tokens, with whole words dropped: one Bernoulli per row of the embedding.

    Args:
        key: one for the window, so that all occurrences of a word share its fate; or None.
        embedding: [V, d].
        tokens: [...], in [0, V).
        rate: probability that a word is 0, in [0, 1); the rest is divided by 1 - rate.

    Returns:
        [..., d].

    Raises:
        ValueError: a rate outside [0, 1).

    References:
        Gal and Ghahramani, 2016.
    """
    check_rate("rate", rate)
    embedded = embedding[tokens]
    if key is None or rate == 0:
        return embedded
    return embedded * _scales(key, embedding.shape[:1], rate, embedding.dtype)[tokens][..., None]


def weight_drop(key: Array | None, kernel: Array, rate: float) -> Array:
    """DropConnect on a recurrent kernel: one mask for all sequences and time steps of a window.

    Args:
        key: one for the window, or None.
        kernel: any shape.
        rate: probability of a 0, in [0, 1); the rest is divided by 1 - rate.

    Returns:
        The kernel to run the window with.

    Raises:
        ValueError: a rate outside [0, 1).

    References:
        Wan et al., Regularization of Neural Networks using DropConnect, ICML 2013; Merity et al., Regularizing
        and Optimizing LSTM Language Models, ICLR 2018.
    """
    check_rate("rate", rate)
    if key is None or rate == 0:
        return kernel
    return kernel * _scales(key, kernel.shape, rate, kernel.dtype)


def _scales(key: Array, shape: tuple[int, ...], rate: float, dtype: jnp.dtype) -> Array:
    """0 with probability ``rate``, else 1 / (1 - rate)."""
    return jax.random.bernoulli(key, 1 - rate, shape).astype(dtype) / (1 - rate)
