"""Perplexity and rank of a small language model, against one pass over the whole text."""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.sigsoftmax.dynamic import DynamicEvaluation, dynamic_loss, gradient_rms
from experiments.sigsoftmax.evaluation import (
    log_prob_rank_of,
    model_loss,
    rank_row,
    text_perplexity,
    unigram_perplexity,
)
from experiments.sigsoftmax.models import Dropouts, LanguageModel
from sigsoftmax_jax import log_prob_rank, sigsoftmax_score, softmax_score

VOCAB, WIDTH = 23, 4
RNG = np.random.default_rng(5)
TEXT = RNG.integers(VOCAB, size=60).astype(np.int32)
RATES = Dropouts(*[0.5] * 6)  # none of which may act in an evaluation


def language_model(**changes):
    sizes = {"vocab_size": VOCAB, "embedding_size": WIDTH, "hidden_size": 5, "last_size": WIDTH, "num_layers": 2}
    return LanguageModel(**{**sizes, "score": softmax_score, "dropouts": RATES, **changes})


def parameters(model, scale=4.0):
    tokens = jnp.zeros((1, 2), int)
    variables = jax.jit(model.init)(jax.random.key(1), tokens, tokens == 0, model.initial_carry(1))
    # Larger than at the start of training, so that the words differ in probability and the state matters.
    return jax.tree.map(lambda value: scale * value, variables["params"])


MODEL = language_model()
PARAMS = parameters(MODEL)


@functools.cache
def compiled_log_probs(model):
    return jax.jit(functools.partial(model.apply, method="log_probs"))


def whole_log_probs(model, params, tokens):
    """Log-probabilities after each word but the last, in one pass."""
    tokens = jnp.asarray(tokens[:-1])[None]
    carry = model.initial_carry(1)
    result, _ = compiled_log_probs(model)({"params": params}, tokens, jnp.ones(tokens.shape, bool), carry)
    return np.asarray(result[0], np.float64)


def whole_loss(model, params, tokens):
    log_probs = whole_log_probs(model, params, tokens)
    return -sum(row[word] for row, word in zip(log_probs, tokens[1:], strict=True))


@pytest.mark.parametrize(("batch_size", "window"), [(1, 70), (1, 7), (4, 6), (7, 59)])
def test_perplexity_is_that_of_whole_streams(batch_size, window):
    bounds = [row * (len(TEXT) - 1) // batch_size for row in range(batch_size + 1)]
    streams = [TEXT[begin : end + 1] for begin, end in itertools.pairwise(bounds)]
    expected = np.exp(sum(whole_loss(MODEL, PARAMS, stream) for stream in streams) / (len(TEXT) - 1))
    # float32 throughout, mean over 59 words.
    found = text_perplexity(MODEL, PARAMS, TEXT, batch_size=batch_size, window=window)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 58, 59, 64])
def test_every_label_counts_once_whatever_the_batch_size(batch_size):
    # All words are equally likely, so each label left out or counted twice shows in the 59th root.
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    assert text_perplexity(MODEL, zeros, TEXT, batch_size=batch_size, window=16) == pytest.approx(VOCAB, rel=1e-5)


def test_unigram_perplexity_counts_words_plus_one():
    train, text = np.array([0, 0, 0, 2]), np.array([2, 0, 1])
    probs = np.array([4, 1, 2]) / 7
    assert unigram_perplexity(train, text, 3) == pytest.approx((probs[0] * probs[1]) ** -0.5, rel=1e-12)
    with pytest.raises(ValueError, match="expected at least 2"):
        unigram_perplexity(train, text[:1], 3)


@pytest.mark.parametrize("contexts", [None, 30, 1])
def test_rank_is_that_of_the_whole_matrix(contexts):
    row = log_prob_rank_of(MODEL, PARAMS, TEXT, contexts=contexts, window=8)
    report = log_prob_rank(whole_log_probs(MODEL, PARAMS, TEXT)[:contexts].astype(np.float32))
    assert (row["rank"], row["contexts"], row["vocabulary"]) == (report.rank, *report.shape)
    assert (row["dtype"], row["contexts"]) == ("float32", contexts or len(TEXT) - 1)
    assert row["tolerance"] == pytest.approx(report.tolerance, rel=1e-5)
    assert row["effective_ranks"]["0.001"] == report.effective_rank(1e-3)
    numbers, values = zip(*row["singular_values"], strict=True)
    assert numbers == tuple(range(1, len(report.singular_values) + 1))  # so few that all are kept
    # float32 entries of two compilations: rounding of 1e-6 relative to the largest.
    np.testing.assert_allclose(values, report.singular_values, rtol=0, atol=1e-5 * report.singular_values[0])
    assert json.loads(json.dumps(row)) == row


def test_softmax_keeps_to_its_bound_and_the_others_do_not():
    text = RNG.integers(VOCAB, size=200).astype(np.int32)
    ranks = {
        name: log_prob_rank_of(model, parameters(model), text)["rank"]
        for name, model in {
            "softmax": MODEL,
            "sigsoftmax": language_model(score=sigsoftmax_score),
            "mixture": language_model(num_experts=3, last_size=6),
        }.items()
    }
    assert ranks["softmax"] == WIDTH + 2 - 1  # the bias is 0 here, as at the start of training
    assert min(ranks["sigsoftmax"], ranks["mixture"]) > WIDTH + 2


def test_spectrum_is_thinned_to_points_evenly_spaced_on_a_logarithmic_axis():
    numbers = [k for k, _ in rank_row(log_prob_rank(np.diag(np.geomspace(1, 1e-3, 900))))["singular_values"]]
    assert numbers[:10] == list(range(1, 11))
    assert (numbers[-1], len(numbers)) == (900, len(set(numbers)))
    assert 100 < len(numbers) <= 200


@pytest.mark.parametrize("contexts", [0, 60])
def test_a_number_of_contexts_that_the_text_does_not_have_is_refused(contexts):
    with pytest.raises(ValueError, match=f"contexts is {contexts}, expected 1 to 59"):
        log_prob_rank_of(MODEL, PARAMS, TEXT, contexts=contexts)


def test_dynamic_evaluation_of_the_model_starts_from_the_static_one_and_learns():
    text = np.tile(TEXT[:12], 15)
    settings = DynamicEvaluation(learning_rate=0.0, decay=0.01, epsilon=1e-3, segment=5, statistics_batch=4)
    args = model_loss(MODEL), PARAMS, MODEL.initial_carry
    rms = gradient_rms(*args, TEXT, settings)
    static = dynamic_loss(*args, text, settings, rms=rms)
    # float32, segments of 5 words against windows of 70.
    assert np.exp(static.total / static.count) == pytest.approx(
        text_perplexity(MODEL, PARAMS, text, batch_size=1), rel=1e-5
    )
    learning = DynamicEvaluation(learning_rate=0.05, decay=1e-3, epsilon=1e-2)
    # A text that repeats itself can be learned: well below what the trained parameters make of it.
    assert dynamic_loss(*args, text, learning, rms=rms).total < 0.9 * static.total
