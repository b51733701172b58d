"""Output activations beyond the softmax, their losses and mixtures, without building the logits."""

from sigsoftmax_jax.activations import log_normalize, log_sigsoftmax, sigsoftmax
from sigsoftmax_jax.losses import cross_entropy, cross_entropy_with_integer_labels, perplexity
from sigsoftmax_jax.scores import relu_score, sigmoid_score, sigsoftmax_score, softmax_score

__all__ = [
    "cross_entropy",
    "cross_entropy_with_integer_labels",
    "log_normalize",
    "log_sigsoftmax",
    "perplexity",
    "relu_score",
    "sigmoid_score",
    "sigsoftmax",
    "sigsoftmax_score",
    "softmax_score",
]
