"""A trained model as plain functions of one window, without dropout; one function per model, so compiled once."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from jax import Array

from experiments.sigsoftmax.models import LanguageModel

PyTree = Any
Window = Mapping[str, Any]  # tokens, labels and where, [b, T] each
# (params, tokens [b, T], labels [b, T], where [b, T], carry) -> (losses [b, T] in nats, carry after the window)
LossFn = Callable[[PyTree, Array, Array, Array, PyTree], tuple[Array, PyTree]]
# (params, tokens [b, T], where [b, T], carry) -> (log-probabilities [b, T, V] in nats, carry after the window)
LogProbsFn = Callable[[PyTree, Array, Array, PyTree], tuple[Array, PyTree]]


@functools.cache
def model_loss(model: LanguageModel) -> LossFn:
    """``(params, tokens, labels, where, carry) -> (losses, carry)``, no dropout; one function per model."""

    def loss(params: PyTree, tokens: Array, labels: Array, where: Array, carry: PyTree) -> tuple[Array, PyTree]:
        result: Any = model.apply({"params": params}, tokens, labels, where, carry, method="token_losses")
        losses, output = result
        return losses, output.carry

    return loss


@functools.cache
def model_log_probs(model: LanguageModel) -> LogProbsFn:
    """``(params, tokens, where, carry) -> (log-probabilities, carry)``; one function per model."""

    def log_probs(params: PyTree, tokens: Array, where: Array, carry: PyTree) -> tuple[Array, PyTree]:
        result: Any = model.apply({"params": params}, tokens, where, carry, method="log_probs")
        return result

    return log_probs


def arrays_of(window: Window) -> Window:
    """The arrays of a window that the functions take, without what only training needs."""
    return {name: window[name] for name in ("tokens", "labels", "where")}
