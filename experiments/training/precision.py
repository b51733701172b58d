"""The precision that networks are computed in.

Whatever it is, parameters, batch statistics, the optimiser's state, losses and gradients between devices are
float32: what is rounded is what a layer takes and gives, and the operands of its products.
"""

from typing import Any

import jax.numpy as jnp

COMPUTE_DTYPES = ("float32", "bfloat16")


def require_compute_dtype(name: str) -> None:
    """Raise ``ValueError`` for a precision that networks are not computed in."""
    if name not in COMPUTE_DTYPES:
        raise ValueError(f"--compute-dtype must be one of {', '.join(COMPUTE_DTYPES)}, got {name!r}")


def layer_dtype(name: str) -> Any:
    """The ``dtype`` of flax layers: ``None``, their own default, for float32, so that float64 stays float64.

    Raises:
        ValueError: for another name than those of ``COMPUTE_DTYPES``.

    Example:
        >>> print(layer_dtype("float32"), jnp.dtype(layer_dtype("bfloat16")))
        None bfloat16
    """
    require_compute_dtype(name)
    return None if name == "float32" else jnp.bfloat16
