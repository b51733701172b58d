"""The head of a language model: its memory, the table of scores, and the sizes that fit."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from experiments.sigsoftmax.heads import TiedHead, symmetric_uniform
from sigsoftmax_jax.scores import SCORES
from tests.sigsoftmax_jax import reference

PLAIN = TiedHead(vocab_size=11, embedding_size=6, input_size=6)
ROWS, STEPS = 4, 16


def shapes_in(jaxpr):
    for equation in jaxpr.eqns:
        yield from (v.aval.shape for v in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from shapes_in(inner)


def test_no_array_of_tokens_experts_and_vocabulary():
    vocab, experts = 9_000, 8
    head = TiedHead(vocab, 6, 7, experts, latent_dropout=0.3)
    states = jax.ShapeDtypeStruct((ROWS, STEPS, 7), jnp.float32)
    labels = jax.ShapeDtypeStruct((ROWS, STEPS), jnp.int32)
    where, keys = jax.ShapeDtypeStruct((ROWS, STEPS), bool), jax.random.split(jax.random.key(1), ROWS)
    params = jax.eval_shape(head.init, jax.random.key(0), states)

    def gradient(method, *more):
        def loss(params, states, *more):
            outputs = head.apply(params, states, keys)
            return jnp.sum(head.apply(params, *outputs, *more, method=method))

        return jax.make_jaxpr(jax.grad(loss))(params, states, *more).jaxpr

    limit = ROWS * STEPS * experts * vocab
    assert max(map(np.prod, shapes_in(gradient("losses", labels, where)))) < limit
    # The whole distribution, and autodiff through it, does have such an array: the test can tell.
    assert max(map(np.prod, shapes_in(gradient("log_probs")))) >= limit


@pytest.mark.parametrize("score", SCORES)
def test_every_score_of_the_table_is_what_its_name_says(score):
    head = dataclasses.replace(PLAIN, score=SCORES[score])
    rng = np.random.default_rng(0)
    embedding, states, bias = rng.normal(size=(11, 6)), rng.normal(size=(1, 3, 6)), rng.normal(size=11)
    params = {"embedding": jnp.asarray(embedding), "decoder_bias": jnp.asarray(bias)}
    log_probs = head.apply({"params": params}, jnp.asarray(states), None, method="log_probs")
    expected = reference.log_probs(states @ embedding.T + bias, score)
    np.testing.assert_allclose(log_probs, expected, atol=2e-5)  # float32; log-probabilities down to about -20


def test_no_mixture_hands_the_states_on():
    states = jnp.ones((1, 2, 6))
    hidden, mixture_logits = PLAIN.apply(PLAIN.init(jax.random.key(0), states), states)
    assert hidden is states
    assert mixture_logits is None


def test_the_initialiser_is_symmetric():
    drawn = np.asarray(symmetric_uniform(0.5)(jax.random.key(0), (10_000,)))
    # The mean of 10,000 uniform numbers of standard deviation 0.29 within five of its own.
    assert abs(drawn.mean()) < 5 * 0.29 / 100
    assert 0.49 < drawn.max() <= 0.5
    assert -0.5 <= drawn.min() < -0.49


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be at least 1, got 0"),
        ({"num_experts": -1}, "num_experts must be at least 1, got -1"),
        ({"input_size": 7}, "last_size must equal embedding_size 6 without a mixture, got 7"),
    ],
)
def test_bad_sizes(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PLAIN, **change)


def test_a_head_that_is_equal_is_compiled_once():
    """Models are what compilations are kept by, so heads are compared and hashed by value."""
    again = functools.partial(TiedHead, 11, 6, 6)
    assert again() == PLAIN
    assert hash(again()) == hash(PLAIN)
    assert again(score=SCORES["relu"]) != PLAIN
