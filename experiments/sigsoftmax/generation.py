"""Text from a trained language model, for a look."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.data.corpus import Corpus
from experiments.data.text import EOS, tokenize
from experiments.data.vocabulary import UNKNOWN
from experiments.sigsoftmax.models import LanguageModel, LogProbsFn, PyTree, model_log_probs


def generate(
    model: LanguageModel,
    params: PyTree,
    corpus: Corpus,
    prompt: str,
    num_words: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
) -> str:
    """Go on with a prompt: each word is drawn from p(word | words before)^(1 / temperature), normalised.

    Args:
        model, params: a trained network.
        corpus: whose vocabulary and way to split a text they were trained with.
        prompt: at least one word.
        num_words: to add; ``<unk>`` is never among them.
        seed: of the random numbers.
        temperature: below 1 the likely words are favoured, above 1 the others; from 1e-6 to 1e6.

    Returns:
        The words of the prompt and those added, between spaces; ``<eos>`` is a new line.

    Raises:
        ValueError: a prompt without words or with one outside the vocabulary, a number of words below 1, or a
            temperature out of range.
    """
    if num_words < 1:
        raise ValueError(f"num_words must be at least 1, got {num_words}")
    require_temperature(temperature)
    ids = corpus.vocabulary.encode(tokenize(prompt, corpus.name))
    if not len(ids):
        raise ValueError(f"prompt must have at least one word, got {prompt!r}")
    allowed = np.array([word != UNKNOWN for word in corpus.vocabulary.words])
    keys = jax.random.split(jax.random.key(seed), num_words)
    start = jnp.asarray(ids)[None], model.initial_carry(1)
    added = _sample(model_log_probs(model), params, start, keys, (temperature, allowed))
    words = corpus.vocabulary.decode([*ids.tolist(), *np.asarray(added).tolist()])
    return re.sub(" ?\n ?", "\n", " ".join("\n" if word == EOS else word for word in words))


def require_temperature(temperature: float) -> None:
    """Raise ``ValueError`` unless log-probabilities divided by it are ordered and finite in float32."""
    if not 1e-6 <= temperature <= 1e6:
        raise ValueError(f"temperature must be from 1e-6 to 1e6, got {temperature}")


@functools.partial(jax.jit, static_argnums=0)
def _sample(
    log_probs_fn: LogProbsFn, params: PyTree, start: tuple[Array, PyTree], keys: Array, rule: tuple[Any, Any]
) -> Array:
    """The words, one per key, that follow the prompt [1, P] and the carry before it."""
    temperature, allowed = rule

    def next_log_probs(tokens: Array, carry: PyTree) -> tuple[Array, PyTree]:
        log_probs, carry = log_probs_fn(params, tokens, jnp.ones(tokens.shape, bool), carry)
        return log_probs[0, -1], carry

    def step(state: tuple[Array, PyTree], key: Array) -> tuple[tuple[Array, PyTree], Array]:
        log_probs, carry = state
        word = jax.random.categorical(key, jnp.where(allowed, log_probs / temperature, -jnp.inf))
        return next_log_probs(word[None, None], carry), word

    return jax.lax.scan(step, next_log_probs(*start), keys)[1]
