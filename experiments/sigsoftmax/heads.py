"""The output of a language model: a tied embedding with a bias, a score, and a mixture or none."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from experiments.sigsoftmax.dropout import locked_dropout
from sigsoftmax_jax import (
    Score,
    linear_cross_entropy,
    log_normalize,
    mixture_cross_entropy,
    mixture_log_probs,
    sigsoftmax_score,
)


def symmetric_uniform(bound: float) -> nn.initializers.Initializer:
    """Initialiser: uniform in (-bound, bound)."""

    def init(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class TiedHead(nn.Module):
    """Log-probabilities of the next word from the states of a body, by the embedding that the words go in through.

    With ``num_experts`` K > 1, each expert has a state tanh(W_k h + b_k), and the softmax of V h weighs them.

    Args:
        vocab_size: V.
        embedding_size: d.
        input_size: of the body's states; d where there is no mixture.
        num_experts: K; 1 is no mixture.
        score: log-score of the output activation.
        latent_dropout: locked, on the experts' states.
        dtype: of the states that the embedding is applied to, and of the embedding then; ``None`` for that of the
            parameters. Mixture logits, log-probabilities and losses are float32 in any case.

    Raises:
        ValueError: a size below 1, or ``input_size`` unlike ``embedding_size`` without a mixture.

    References:
        Press and Wolf, Using the Output Embedding to Improve Language Models, 2017; Yang et al., Breaking the
        Softmax Bottleneck, ICLR 2018, arXiv:1711.03953, for the mixture.
    """

    vocab_size: int
    embedding_size: int
    input_size: int
    num_experts: int = 1
    score: Score = sigsoftmax_score
    latent_dropout: float = 0.0
    dtype: Any = None

    def __post_init__(self) -> None:
        """Check the sizes before anything is made."""
        for name in ("vocab_size", "embedding_size", "input_size", "num_experts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_experts == 1 and self.input_size != self.embedding_size:
            raise ValueError(
                f"last_size must equal embedding_size {self.embedding_size} without a mixture,"
                f" got {self.input_size}"
            )
        super().__post_init__()

    def setup(self) -> None:
        """Declare the parameters."""
        shape = (self.vocab_size, self.embedding_size)
        self.embedding = self.param("embedding", symmetric_uniform(0.1), shape)
        self.decoder_bias = self.param("decoder_bias", nn.initializers.zeros, shape[:1])
        if self.num_experts > 1:
            init = symmetric_uniform(self.input_size**-0.5)
            width = self.num_experts * self.embedding_size
            self.latent = nn.Dense(width, kernel_init=init, bias_init=init, dtype=self.dtype)
            self.mixture = nn.Dense(self.num_experts, use_bias=False, kernel_init=init)

    def __call__(self, states: Array, keys: Array | None = None) -> tuple[Array, Array | None]:
        """What the embedding is applied to [b, T, d], and ``None``; or [b, T, K, d] and mixture logits [b, T, K].

        Args:
            states: of the body [b, T, input_size].
            keys: [b], for dropout; None runs without any.
        """
        if self.num_experts == 1:
            return self._narrow(states), None
        latent = locked_dropout(keys, jnp.tanh(self.latent(states)), self.latent_dropout)
        hidden = latent.reshape(*latent.shape[:-1], self.num_experts, self.embedding_size)
        return hidden, self.mixture(states)

    def losses(self, hidden: Array, mixture_logits: Array | None, labels: Array, where: Array) -> Array:
        """Losses [b, T] in nats, 0 where ``where`` is False; no array of tokens x experts x vocabulary is made."""
        rest = self._narrow(self.embedding), labels, self.decoder_bias
        if mixture_logits is None:
            return linear_cross_entropy(hidden, *rest, score=self.score, where=where)
        return mixture_cross_entropy(hidden, mixture_logits, *rest, score=self.score, where=where)

    def log_probs(self, hidden: Array, mixture_logits: Array | None) -> Array:
        """Log-probabilities [b, T, V] of the next word, in nats."""
        embedding, bias = self._narrow(self.embedding), self.decoder_bias
        if mixture_logits is None:
            products = jnp.matmul(hidden, embedding.T, preferred_element_type=bias.dtype)
            return log_normalize(self.score(products + bias[None, None]))
        return mixture_log_probs(hidden, mixture_logits, embedding, bias, score=self.score)

    def _narrow(self, values: Array) -> Array:
        """In the dtype that is computed in."""
        return values if self.dtype is None else values.astype(self.dtype)
