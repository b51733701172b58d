"""The language model: AWD-LSTM, alone or with a mixture of output distributions."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from experiments.sigsoftmax.dropout import check_rate, embedding_dropout, locked_dropout, weight_drop
from experiments.sigsoftmax.lstm import Carry, lstm
from experiments.training.task import StepKeys
from sigsoftmax_jax import (
    linear_cross_entropy,
    log_normalize,
    mixture_cross_entropy,
    mixture_log_probs,
    sigsoftmax_score,
)
from sigsoftmax_jax.scores import Score

Carries = tuple[Carry, ...]


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


class Output(NamedTuple):
    """What the network makes of a window.

    Args:
        hidden: what the decoder is applied to [b, T, d], or [b, T, K, d] of K experts.
        mixture_logits: [b, T, K], or None without a mixture.
        raw: last layer's output [b, T, last] before its dropout.
        dropped: the same after it.
        carry: the layers' states after the window.
    """

    hidden: Array
    mixture_logits: Array | None
    raw: Array
    dropped: Array
    carry: Carries


def symmetric_uniform(bound: float) -> nn.initializers.Initializer:
    """Initialiser: uniform in (-bound, bound)."""

    def init(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class LSTMLayer(nn.Module):
    """One layer of ``size`` units with weight drop; kernels and bias start in U(+-1/sqrt(size))."""

    size: int
    weight_drop: float

    @nn.compact
    def __call__(self, inputs: Array, where: Array, carry: Carry, key: Array | None) -> tuple[Array, Carry]:
        """Outputs [b, T, size] of inputs [b, T, in], and the state after; no weight drop without a key."""
        init = symmetric_uniform(self.size**-0.5)
        input_kernel = self.param("input_kernel", init, (inputs.shape[-1], 4 * self.size))
        recurrent_kernel = self.param("recurrent_kernel", init, (self.size, 4 * self.size))
        bias = self.param("bias", init, (4 * self.size,))
        dropped = weight_drop(key, recurrent_kernel, self.weight_drop)
        return lstm(inputs, where, carry, input_kernel=input_kernel, recurrent_kernel=dropped, bias=bias)


class LanguageModel(nn.Module):
    """AWD-LSTM with tied embeddings, and the mixture of softmaxes (MoS) or of any other score on top of it.

    Args:
        vocab_size: V.
        embedding_size: d, of the embedding that is also the decoder.
        hidden_size: units of all layers but the last.
        last_size: units of the last layer; d where there is no mixture.
        num_layers: of the LSTM.
        num_experts: K; 1 is no mixture.
        score: log-score of the output activation.
        dropouts: rates.

    Raises:
        ValueError: a size below 1, or ``last_size`` unlike ``embedding_size`` without a mixture.

    References:
        Merity et al., Regularizing and Optimizing LSTM Language Models, ICLR 2018, arXiv:1708.02182; Yang et al.,
        Breaking the Softmax Bottleneck, ICLR 2018, arXiv:1711.03953, for the mixture.
    """

    vocab_size: int
    embedding_size: int
    hidden_size: int
    last_size: int
    num_layers: int = 3
    num_experts: int = 1
    score: Score = sigsoftmax_score
    dropouts: Dropouts = Dropouts()

    def __post_init__(self) -> None:
        """Check the sizes before anything is made."""
        for name in ("vocab_size", "embedding_size", "hidden_size", "last_size", "num_layers", "num_experts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_experts == 1 and self.last_size != self.embedding_size:
            raise ValueError(
                f"last_size {self.last_size} must equal embedding_size {self.embedding_size} without a mixture"
            )
        super().__post_init__()

    def setup(self) -> None:
        """Declare the parameters."""
        shape = (self.vocab_size, self.embedding_size)
        self.embedding = self.param("embedding", symmetric_uniform(0.1), shape)
        self.decoder_bias = self.param("decoder_bias", nn.initializers.zeros, shape[:1])
        self.layers = [LSTMLayer(size, self.dropouts.weight) for size in self._layer_sizes()]
        if self.num_experts > 1:
            init = symmetric_uniform(self.last_size**-0.5)
            width = self.num_experts * self.embedding_size
            self.latent = nn.Dense(width, kernel_init=init, bias_init=init)
            self.mixture = nn.Dense(self.num_experts, use_bias=False, kernel_init=init)

    def __call__(self, tokens: Array, where: Array, carry: Carries, keys: StepKeys | None = None) -> Output:
        """Run the network over a window.

        Args:
            tokens: int [b, T].
            where: bool [b, T], False at the padding, which leaves the state as it is.
            carry: state (h, c) of each layer before the window.
            keys: for dropout; None runs without any, as evaluation does.
        """
        rates = self.dropouts
        key = _shared_key(keys, self.num_layers)
        embedded = embedding_dropout(key, self.embedding, tokens, rates.embedding)
        inputs, states = locked_dropout(_row_keys(keys, 0), embedded, rates.input), []
        for i, layer in enumerate(self.layers):
            raw, state = layer(inputs, where, carry[i], _shared_key(keys, i))
            rate = rates.output if i == self.num_layers - 1 else rates.hidden
            inputs = locked_dropout(_row_keys(keys, i + 1), raw, rate)
            states.append(state)
        hidden, mixture_logits = inputs, None
        if self.num_experts > 1:
            latent = jnp.tanh(self.latent(inputs))
            latent = locked_dropout(_row_keys(keys, self.num_layers + 1), latent, rates.latent)
            hidden = latent.reshape(*latent.shape[:-1], self.num_experts, self.embedding_size)
            mixture_logits = self.mixture(inputs)
        return Output(hidden, mixture_logits, raw, inputs, tuple(states))

    def token_losses(
        self, tokens: Array, labels: Array, where: Array, carry: Carries, keys: StepKeys | None = None
    ) -> tuple[Array, Output]:
        """Losses [b, T] in nats, 0 where ``where`` is False; no array of tokens x experts x vocabulary is made."""
        output = self(tokens, where, carry, keys)
        rest = self.embedding, labels, self.decoder_bias
        if output.mixture_logits is None:
            losses = linear_cross_entropy(output.hidden, *rest, score=self.score, where=where)
        else:
            states = output.hidden, output.mixture_logits
            losses = mixture_cross_entropy(*states, *rest, score=self.score, where=where)
        return losses, output

    def log_probs(self, tokens: Array, where: Array, carry: Carries) -> tuple[Array, Carries]:
        """Log-probabilities [b, T, V] of the next word, in nats, and the state after the window."""
        output = self(tokens, where, carry)
        if output.mixture_logits is None:
            logits = output.hidden @ self.embedding.T + self.decoder_bias[None, None]
            return log_normalize(self.score(logits)), output.carry
        states = output.hidden, output.mixture_logits
        return mixture_log_probs(*states, self.embedding, self.decoder_bias, score=self.score), output.carry

    def initial_carry(self, rows: int) -> Carries:
        """The state before the first word of ``rows`` texts: zeros."""
        return tuple((jnp.zeros((rows, size)), jnp.zeros((rows, size))) for size in self._layer_sizes())

    def _layer_sizes(self) -> tuple[int, ...]:
        return (self.hidden_size,) * (self.num_layers - 1) + (self.last_size,)


def _shared_key(keys: StepKeys | None, index: int) -> Array | None:
    """The window's key of this number: one for each layer's weight drop, then one for the embedding."""
    return None if keys is None else jax.random.fold_in(keys.shared, index)


def _row_keys(keys: StepKeys | None, index: int) -> Array | None:
    """Each row's key of this number: for the input, after each layer, and for the experts' states."""
    return None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys.per_example, index)
