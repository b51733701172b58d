"""The ``score`` argument: a function with its parameters, a pytree that is traced and differentiated like any."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array

from sigsoftmax_jax.scores import FORMS, Score

# Of this library; what a user adds to its tables may hold something.
_BUILT_IN = tuple(form.score for form in FORMS.values())


def as_partial(score: Score, dtype: jnp.dtype) -> Partial:
    """The score as a ``Partial`` whose parameters, if any, have this dtype.

    A function that holds nothing is compiled once. One that may hold something (a closure, a method, an
    object) becomes a new function each time, so that nothing it held before is used again.

    Raises:
        ValueError: if it is no function, is not elementwise in shape or dtype, has parameters that are no
            numbers, or closes over traced arrays.
    """
    if not callable(score):
        names = ", ".join(built_in.__name__ for built_in in _BUILT_IN)
        raise ValueError(f"score must be a function such as {names}, got {score!r}")
    partial = score if isinstance(score, Partial) else Partial(score)
    partial = jax.tree.map(lambda parameter: _as_array(parameter, dtype), partial)
    function = partial.func
    if any(function is built_in for built_in in _BUILT_IN):
        return partial
    _check_elementwise(partial, dtype)
    if _holds_nothing(function):
        return partial
    _, traced = jax.closure_convert(lambda s, z: s(z), partial, np.zeros((), dtype))
    if traced:
        raise ValueError(
            f"score must be a function that closes over no traced arrays, got {function!r} with arrays of shape "
            f"{[x.shape for x in traced]}: pass them as parameters, score=jax.tree_util.Partial(function, "
            "*parameters) of a function(*parameters, logits)"
        )

    def anew(*args: Any, **keywords: Any) -> Array:
        return function(*args, **keywords)

    return Partial(anew, *partial.args, **partial.keywords)


def _as_array(parameter: Any, dtype: jnp.dtype) -> Array:
    """The parameter in this dtype; a number is moved to the device by name, as a transfer guard demands."""
    if isinstance(parameter, jax.Array):
        return parameter.astype(dtype)
    try:
        return jax.device_put(np.asarray(parameter, dtype))
    except (TypeError, ValueError):
        raise ValueError(
            f"the parameters of score must be numbers or arrays, got {parameter!r}: what is neither goes in by a"
            " function that holds it"
        ) from None


def _check_elementwise(score: Partial, dtype: jnp.dtype) -> None:
    """The score of an array has its shape and dtype: others would give losses that are wrong in silence."""
    given = jax.ShapeDtypeStruct((2, 3), dtype)
    got = jax.eval_shape(lambda s, z: s(z), score, given)
    if (got.shape, got.dtype) != (given.shape, given.dtype):
        raise ValueError(
            f"score must give an array of the shape and dtype of its logits, got {got.dtype}{list(got.shape)} of"
            f" {dtype}{list(given.shape)}"
        )


def _holds_nothing(function: Callable[..., Array]) -> bool:
    """Whether the function's result depends on its arguments alone, module globals aside."""
    plain = isinstance(function, FunctionType)
    return plain and not (function.__closure__ or function.__defaults__ or function.__kwdefaults__)
