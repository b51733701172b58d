"""The language model: a body that turns words into states, such as the LSTM, between a head's two ends."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from experiments.sigsoftmax.dropout import check_rate, embedding_dropout, locked_dropout, weight_drop
from experiments.sigsoftmax.heads import TiedHead, symmetric_uniform
from experiments.sigsoftmax.lstm import Carry, lstm
from experiments.training.task import StepKeys

PyTree = Any
Carries = PyTree  # a body's state between windows, of arrays [b, ...]
Window = Mapping[str, Any]  # tokens, labels and where, [b, T] each
# (params, tokens [b, T], labels [b, T], where [b, T], carry) -> (losses [b, T] in nats, carry after the window)
LossFn = Callable[[PyTree, Array, Array, Array, Carries], tuple[Array, Carries]]
# (params, tokens [b, T], where [b, T], carry) -> (log-probabilities [b, T, V] in nats, carry after the window)
LogProbsFn = Callable[[PyTree, Array, Array, Carries], tuple[Array, Carries]]


@dataclasses.dataclass(frozen=True)
class Dropouts:
    """Dropout rates in [0, 1).

    Args:
        output: locked, on the last layer's output.
        hidden: locked, between layers.
        input: locked, on the embedded input.
        embedding: of whole words of the input embedding.
        latent: locked, on the experts' states.
        weight: of the recurrent kernels.
    """

    output: float = 0.0
    hidden: float = 0.0
    input: float = 0.0
    embedding: float = 0.0
    latent: float = 0.0
    weight: float = 0.0

    def __post_init__(self) -> None:
        for name, rate in dataclasses.asdict(self).items():
            check_rate(name, rate)


class States(NamedTuple):
    """What a body makes of a window.

    Args:
        raw: last layer's output [b, T, size] before its dropout.
        dropped: the same after it.
        carry: the state after the window.
    """

    raw: Array
    dropped: Array
    carry: Carries


class LSTMLayer(nn.Module):
    """One layer of ``size`` units with weight drop; kernels and biases start in U(+-1/sqrt(size)).

    It has the two bias vectors of cuDNN and torch, of which the gates see the sum. Their gradients are equal, so
    that the sum moves twice as far as one would, and the gradient's norm has both.
    """

    size: int
    weight_drop: float

    @nn.compact
    def __call__(self, inputs: Array, where: Array, carry: Carry, key: Array | None) -> tuple[Array, Carry]:
        """Outputs [b, T, size] of inputs [b, T, in], and the state after; no weight drop without a key."""
        init = symmetric_uniform(self.size**-0.5)
        input_kernel = self.param("input_kernel", init, (inputs.shape[-1], 4 * self.size))
        recurrent_kernel = self.param("recurrent_kernel", init, (self.size, 4 * self.size))
        input_bias = self.param("input_bias", init, (4 * self.size,))
        bias = input_bias + self.param("recurrent_bias", init, (4 * self.size,))
        dropped = weight_drop(key, recurrent_kernel, self.weight_drop)
        return lstm(inputs, where, carry, input_kernel=input_kernel, recurrent_kernel=dropped, bias=bias)


class LSTMBody(nn.Module):
    """The AWD-LSTM between its embedding and its decoder.

    It computes in the dtype of its inputs, and its carry is float32. Another body has the same call,
    ``initial_carry`` and ``num_layers``; it takes shared keys 0 to num_layers - 1 and row keys 1 to num_layers.

    Args:
        sizes: units of each layer.
        dropouts: rates.

    References:
        Merity et al., Regularizing and Optimizing LSTM Language Models, ICLR 2018, arXiv:1708.02182.
    """

    sizes: tuple[int, ...]
    dropouts: Dropouts = Dropouts()

    def __post_init__(self) -> None:
        """Check the sizes before anything is made."""
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"sizes must be at least one, each at least 1, got {self.sizes}")
        super().__post_init__()

    @property
    def num_layers(self) -> int:
        """How many layers there are."""
        return len(self.sizes)

    def setup(self) -> None:
        """Declare the layers."""
        self.layers = [LSTMLayer(size, self.dropouts.weight) for size in self.sizes]

    def __call__(self, inputs: Array, where: Array, carry: Carries, keys: StepKeys | None) -> States:
        """Run over a window.

        Args:
            inputs: embedded words [b, T, d].
            where: bool [b, T], False at the padding, which leaves the state as it is.
            carry: state (h, c) of each layer before the window.
            keys: for dropout; None runs without any.
        """
        after = []
        for i, layer in enumerate(self.layers):
            raw, state = layer(inputs, where, carry[i], shared_key(keys, i))
            rate = self.dropouts.output if i == self.num_layers - 1 else self.dropouts.hidden
            inputs = locked_dropout(row_keys(keys, i + 1), raw, rate)
            after.append(state)
        return States(raw, inputs, tuple(after))

    def initial_carry(self, num_rows: int) -> Carries:
        """The state before the first word of ``num_rows`` texts: zeros."""
        return tuple((jnp.zeros((num_rows, size)), jnp.zeros((num_rows, size))) for size in self.sizes)


class LanguageModel(nn.Module):
    """Words to log-probabilities of the next word.

    Args:
        body: between the embedding and the head, such as :class:`LSTMBody`.
        head: the embedding, and what follows the body.
        dropouts: rates of the embedding and of the input.
    """

    body: Any
    head: TiedHead
    dropouts: Dropouts = Dropouts()

    def setup(self) -> None:
        """Let the parameters of body and head lie side by side."""
        nn.share_scope(self, self.head)
        nn.share_scope(self, self.body)

    def __call__(
        self, tokens: Array, where: Array, carry: Carries, keys: StepKeys | None = None
    ) -> tuple[States, tuple[Array, Array | None]]:
        """The body's states, and what the head makes of them.

        Args:
            tokens: int [b, T].
            where: bool [b, T], False at the padding, which leaves the state as it is.
            carry: the body's state before the window.
            keys: for dropout; None runs without any, as evaluation does.
        """
        last = self.body.num_layers
        embedded = embedding_dropout(shared_key(keys, last), self.head.embedding, tokens, self.dropouts.embedding)
        embedded = embedded if self.head.dtype is None else embedded.astype(self.head.dtype)
        inputs = locked_dropout(row_keys(keys, 0), embedded, self.dropouts.input)
        with jax.named_scope("body"):
            states = self.body(inputs, where, carry, keys)
        return states, self.head(states.dropped, row_keys(keys, last + 1))

    def token_losses(
        self, tokens: Array, labels: Array, where: Array, carry: Carries, keys: StepKeys | None = None
    ) -> tuple[Array, States]:
        """Losses [b, T] in nats, 0 where ``where`` is False, and the body's states."""
        states, outputs = self(tokens, where, carry, keys)
        return self.head.losses(*outputs, labels, where), states

    def log_probs(self, tokens: Array, where: Array, carry: Carries) -> tuple[Array, Carries]:
        """Log-probabilities [b, T, V] of the next word, in nats, and the state after the window."""
        states, outputs = self(tokens, where, carry)
        return self.head.log_probs(*outputs), states.carry

    def initial_carry(self, num_rows: int) -> Carries:
        """The state before the first word of ``num_rows`` texts."""
        return self.body.initial_carry(num_rows)


# How a body is made from a recipe: name -> recipe -> body.
BODIES: dict[str, Callable[[Any], Any]] = {
    "lstm": lambda recipe: LSTMBody(
        (recipe.hidden_size,) * (recipe.num_layers - 1) + (recipe.last_size,), recipe.dropouts
    ),
}


def num_parameters(model: LanguageModel) -> int:
    """How many numbers are trained."""
    window = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *window, model.initial_carry(1), None)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def shared_key(keys: StepKeys | None, index: int) -> Array | None:
    """The window's key of this number: one for each layer of the body, then one for the embedding."""
    return None if keys is None else jax.random.fold_in(keys.shared, index)


def row_keys(keys: StepKeys | None, index: int) -> Array | None:
    """Each row's key of this number: for the input, after each layer, and for the head."""
    return None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys.per_example, index)


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
