"""A small language model whose state matters, and its log-probabilities in one pass over a text."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.sigsoftmax.heads import TiedHead
from experiments.sigsoftmax.models import Dropouts, LanguageModel, LSTMBody
from sigsoftmax_jax import softmax_score

VOCAB, WIDTH = 23, 4
RNG = np.random.default_rng(5)
TEXT = RNG.integers(VOCAB, size=60).astype(np.int32)
RATES = Dropouts(*[0.5] * 6)  # none of which may act in an evaluation


def language_model(*, num_experts=1, score=softmax_score):
    last = WIDTH if num_experts == 1 else 6
    head = TiedHead(VOCAB, WIDTH, last, num_experts, score, latent_dropout=RATES.latent)
    return LanguageModel(LSTMBody((last,), RATES), head, RATES)


def parameters(model):
    """Larger than at the start of training, so that words differ in probability and the state matters; no bias."""
    tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    where = jax.ShapeDtypeStruct((1, 2), bool)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens, where, model.initial_carry(1))["params"]
    rng = np.random.default_rng(1)
    drawn = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(-1, 1, leaf.shape), jnp.float32), shapes)
    return drawn | {"decoder_bias": jnp.zeros(VOCAB)}


MODEL = language_model()
PARAMS = parameters(MODEL)


@functools.cache
def compiled_log_probs(model):
    return jax.jit(functools.partial(model.apply, method="log_probs"))


def whole_log_probs(model, params, tokens):
    """Log-probabilities after each word but the last of a part of TEXT, in one pass of one shape."""
    padded = np.zeros((1, len(TEXT)), np.int32)
    padded[0, : len(tokens) - 1] = tokens[:-1]
    where = np.arange(len(TEXT))[None] < len(tokens) - 1
    result, _ = compiled_log_probs(model)({"params": params}, padded, where, model.initial_carry(1))
    return np.asarray(result[0, : len(tokens) - 1], np.float64)


def whole_loss(model, params, tokens):
    log_probs = whole_log_probs(model, params, tokens)
    return -sum(row[word] for row, word in zip(log_probs, tokens[1:], strict=True))
