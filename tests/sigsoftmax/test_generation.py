"""Generated words, against re-reading the whole text for each of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data.corpus import Corpus
from experiments.data.vocabulary import Vocabulary
from experiments.sigsoftmax.generation import generate
from experiments.sigsoftmax.heads import TiedHead
from experiments.sigsoftmax.models import LanguageModel, LSTMBody

WORDS = ("the", "<unk>", "state", "<eos>", "of", "union")
IDS = np.arange(len(WORDS), dtype=np.int32)
CORPUS = Corpus("ptb", Vocabulary(WORDS), IDS, IDS, IDS)
MODEL = LanguageModel(LSTMBody((4, 3)), TiedHead(len(WORDS), 3, 3))


TOKENS = jnp.zeros((1, 2), int)
INITIAL = jax.jit(MODEL.init)(jax.random.key(25), TOKENS, TOKENS == 0, MODEL.initial_carry(1))["params"]


def parameters(bias, scale):
    return {**jax.tree.map(lambda value: scale * value, INITIAL), "decoder_bias": jnp.array(bias)}


# <unk> would be drawn nearly always if it could be.
CONTEXTUAL = parameters([0.0, 20.0, 0.0, 0.0, 0.0, 0.0], 25.0)


def test_a_cold_sample_is_the_likeliest_continuation():
    # The two likeliest words are 0.07 or more apart, 700 temperatures: far above the noise of a draw.
    text = generate(MODEL, CONTEXTUAL, CORPUS, "of the", 12, temperature=1e-4)
    words = text.replace("\n", " <eos> ").split()
    assert (words[:2], len(words)) == (["of", "the"], 14)
    assert len(set(words[2:])) > 2  # the context counts, else a wrong state would go unseen
    tokens = jnp.array([CORPUS.vocabulary.encode(words)])
    where, carry = jnp.ones(tokens.shape, bool), MODEL.initial_carry(1)
    log_probs, _ = MODEL.apply({"params": CONTEXTUAL}, tokens, where, carry, method="log_probs")
    likeliest = np.array(log_probs[0]).argsort(-1)
    assert all(likeliest[:, -1] == WORDS.index("<unk>"))
    assert words[2:] == [WORDS[i] for i in likeliest[1:-1, -2]]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_words_are_drawn_with_their_probability(temperature):
    bias = np.array([1.0, 3.0, 0.0, -1.0, 0.5, -0.5])
    text = generate(MODEL, parameters(bias, 0.0), CORPUS, "the", 3_000, temperature=temperature, seed=7)
    drawn = text.replace("\n", " <eos> ").split()[1:]
    # With all other parameters 0 the logits are the bias; its sigsoftmax score is 2 z - log(1 + exp z).
    weights = np.exp((2 * bias - np.log1p(np.exp(bias))) / temperature)
    weights[WORDS.index("<unk>")] = 0
    probs = weights / weights.sum()
    shares = np.array([drawn.count(word) for word in WORDS]) / len(drawn)
    assert len(drawn) == 3_000
    # Four standard deviations; the seed is fixed.
    np.testing.assert_array_less(np.abs(shares - probs), 4 * np.sqrt(probs * (1 - probs) / 3_000) + 1e-12)


def test_the_end_of_a_sentence_is_a_new_line():
    text = generate(MODEL, parameters([0.0, 0.0, 0.0, 30.0, 0.0, 0.0], 0.0), CORPUS, "<eos> state", 12)
    assert text == "\nstate" + 12 * "\n"


def test_the_seed_decides():
    texts = [generate(MODEL, CONTEXTUAL, CORPUS, "the state", 12, seed=seed) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("the state ")
    assert "<unk>" not in texts[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "the estate"}, "words must be in the vocabulary of 6 words, got 'estate'"),
        ({"prompt": " "}, "prompt must have at least one word, got ' '"),
        ({"num_words": 0}, "num_words must be at least 1, got 0"),
        ({"temperature": 0.0}, "temperature must be from 1e-6 to 1e6, got 0.0"),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        generate(MODEL, CONTEXTUAL, CORPUS, **{"prompt": "the", "num_words": 3, **change})
