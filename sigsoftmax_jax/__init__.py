"""Output activations beyond the softmax, their losses and mixtures, without building the logits."""

import importlib.metadata

from sigsoftmax_jax.activations import log_normalize, log_sigsoftmax, sigsoftmax
from sigsoftmax_jax.arg_max import linear_argmax, linear_cross_entropy_and_argmax, linear_token_accuracy
from sigsoftmax_jax.learnable_scores import gss_score, plif_score
from sigsoftmax_jax.linear import linear_cross_entropy, linear_log_normalizer
from sigsoftmax_jax.losses import cross_entropy, cross_entropy_with_integer_labels, perplexity
from sigsoftmax_jax.mixture import log_mixture, mixture_cross_entropy, mixture_log_probs
from sigsoftmax_jax.rank import RankReport, log_prob_rank, streamed_log_prob_rank
from sigsoftmax_jax.scores import Score, relu_score, sigmoid_score, sigsoftmax_score, softmax_score

__all__ = [
    "RankReport",
    "Score",
    "cross_entropy",
    "cross_entropy_with_integer_labels",
    "gss_score",
    "linear_argmax",
    "linear_cross_entropy",
    "linear_cross_entropy_and_argmax",
    "linear_log_normalizer",
    "linear_token_accuracy",
    "log_mixture",
    "log_normalize",
    "log_prob_rank",
    "log_sigsoftmax",
    "mixture_cross_entropy",
    "mixture_log_probs",
    "perplexity",
    "plif_score",
    "relu_score",
    "sigmoid_score",
    "sigsoftmax",
    "sigsoftmax_score",
    "softmax_score",
    "streamed_log_prob_rank",
]

try:
    __version__ = importlib.metadata.version("absum-sigsoftmax")
except importlib.metadata.PackageNotFoundError:  # a checkout that is on the path but not installed
    __version__ = "0+unknown"
