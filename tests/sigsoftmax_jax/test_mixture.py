"""Mixtures against float64: evaluation, blocked loss and its gradients by responsibilities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigsoftmax_jax import (
    log_mixture,
    mixture_cross_entropy,
    mixture_log_probs,
    sigsoftmax_score,
    softmax_score,
)
from sigsoftmax_jax.scores import SCORES
from tests.sigsoftmax_jax import reference

TOKENS, EXPERTS, WIDTH, VOCAB = 5, 3, 4, 23
RNG = np.random.default_rng(4)
HIDDEN = RNG.normal(size=(TOKENS, EXPERTS, WIDTH)).astype(np.float32)
PRIOR = RNG.normal(size=(TOKENS, EXPERTS)).astype(np.float32)
EMBEDDING = RNG.normal(size=(VOCAB, WIDTH)).astype(np.float32)
BIAS = RNG.normal(size=VOCAB).astype(np.float32)
LABELS = RNG.integers(0, VOCAB, TOKENS)
ALL = (HIDDEN, PRIOR, EMBEDDING, BIAS)


def close(actual, expected, atol=1e-5):
    # Sums of a few dozen float32 products of size 1 to 10 differ by a few 1e-6.
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=atol), actual, expected)


@functools.partial(jax.jit, static_argnames=("score", "block_size"))
def compiled_loss(hidden, prior, embedding, bias, labels, *, where=None, score=sigsoftmax_score, block_size=7):
    """The losses, and the gradients of their sum for the first four: one program for most of the tests."""

    def loss(hidden, prior, embedding, bias):
        options = {"where": where, "score": score, "block_size": block_size}
        losses = mixture_cross_entropy(hidden, prior, embedding, labels, bias, **options)
        return losses.sum(), losses

    (_, losses), gradients = jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True)(hidden, prior, embedding, bias)
    return losses, gradients


compiled_log_probs = jax.jit(mixture_log_probs)

# 7 leaves a ragged last block, the default is a single one; the rest of the grid is the same pass over the
# vocabulary as in tests/sigsoftmax_jax/test_linear.py.
GRID = [("softmax", 7), ("sigsoftmax", 7), ("sigsoftmax", None)]
REST = [(name, size) for name in ("softmax", "sigsoftmax") for size in (1, 7, 22, 23, 50, None)]


@pytest.mark.parametrize(
    ("name", "block_size"),
    [*GRID, *(pytest.param(*case, marks=pytest.mark.slow) for case in REST if case not in GRID)],
)
def test_matches_float64_for_every_block_size(name, block_size):
    losses, gradients = compiled_loss(*ALL, LABELS, score=SCORES[name], block_size=block_size)
    log_probs = reference.mixture_log_probs(*ALL, name)
    close(losses, -log_probs[np.arange(TOKENS), LABELS])
    expected = reference.mixture_gradients(HIDDEN, PRIOR, EMBEDDING, LABELS, bias=BIAS, score=name)
    close(gradients, expected)


def test_full_log_probabilities_match_float64_and_sum_to_one():
    log_probs = compiled_log_probs(*ALL)
    close(log_probs, reference.mixture_log_probs(*ALL))
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, atol=1e-6)


def test_log_mixture_is_the_log_of_the_weighted_sum():
    weights, components = RNG.dirichlet(np.ones(3), 2), RNG.dirichlet(np.ones(5), (2, 3))
    expected = np.log(np.einsum("nk,nkv->nv", weights, components))
    actual = jax.jit(log_mixture)(np.log(weights, dtype=np.float32), np.log(components, dtype=np.float32))
    close(actual, expected, atol=1e-6)


def test_log_probabilities_whose_exponentials_vanish():
    components = jnp.array([[-1000.0, -2000.0], [-1001.0, -1999.0]])
    expected = np.logaddexp(*(np.log([[0.25], [0.75]]) + np.asarray(components, float)))
    # Half an ulp at 1000 and at 2000.
    np.testing.assert_allclose(log_mixture(jnp.log(jnp.array([0.25, 0.75])), components), expected, rtol=1e-7)


def test_a_label_of_probability_exp_minus_thousand():
    hidden, bias = np.zeros_like(HIDDEN), np.zeros(VOCAB, np.float32)
    bias[0] = 1000
    losses, gradients = compiled_loss(hidden, PRIOR, EMBEDDING, bias, np.ones(TOKENS, int), score=softmax_score)
    np.testing.assert_allclose(losses, 1000, rtol=1e-6)
    # All experts are the same: their responsibilities are their weights, to two ulp at 1000.
    np.testing.assert_allclose(gradients[1], 0, atol=2 * 2.0**-14)
    np.testing.assert_allclose(gradients[3][:2], [TOKENS, -TOKENS], rtol=1e-6)


def test_one_expert_is_no_mixture():
    alone = compiled_loss(HIDDEN[:, :1], PRIOR[:, :1], EMBEDDING, BIAS, LABELS)
    logits = reference.linear_logits(HIDDEN[:, 0], EMBEDDING, BIAS)
    losses = reference.cross_entropy(logits, reference.one_hot(LABELS, VOCAB))
    dhidden, dembedding, dbias = reference.linear_gradients(HIDDEN[:, 0], EMBEDDING, LABELS, BIAS)
    close(alone, (losses, (dhidden[:, None], np.zeros((TOKENS, 1)), dembedding, dbias)))
    np.testing.assert_allclose(alone[1][1], 0, atol=1e-6)


def test_equal_experts_are_one_and_their_order_does_not_matter():
    equal, _ = compiled_loss(np.repeat(HIDDEN[:, :1], EXPERTS, 1), PRIOR, EMBEDDING, BIAS, LABELS)
    logits = reference.linear_logits(HIDDEN[:, 0], EMBEDDING, BIAS)
    close(equal, reference.cross_entropy(logits, reference.one_hot(LABELS, VOCAB)))
    reversed_order, _ = compiled_loss(HIDDEN[:, ::-1], PRIOR[:, ::-1], EMBEDDING, BIAS, LABELS)
    close(reversed_order, compiled_loss(*ALL, LABELS)[0])


def test_a_dead_expert_changes_nothing():
    prior = PRIOR.copy()
    prior[:, 1] = -np.inf
    losses, gradients = compiled_loss(HIDDEN, prior, EMBEDDING, BIAS, LABELS)
    others = HIDDEN[:, ::2], PRIOR[:, ::2], EMBEDDING
    log_probs = reference.mixture_log_probs(*others, BIAS)
    close(losses, -log_probs[np.arange(TOKENS), LABELS])
    np.testing.assert_array_equal(gradients[0][:, 1], 0)
    np.testing.assert_array_equal(gradients[1][:, 1], 0)
    expected = reference.mixture_gradients(*others, LABELS, bias=BIAS)
    close((gradients[0][:, ::2], gradients[1][:, ::2], *gradients[2:]), expected)
    close(compiled_log_probs(HIDDEN, prior, EMBEDDING, BIAS), log_probs)


def test_a_masked_label_costs_infinity_with_finite_gradients():
    bias = BIAS.copy()
    bias[LABELS[0]] = -np.inf
    losses, gradients = compiled_loss(HIDDEN, PRIOR, EMBEDDING, bias, LABELS)
    assert losses[0] == np.inf
    assert all(np.all(np.isfinite(g)) for g in gradients)
    np.testing.assert_array_equal(gradients[3][LABELS[0]], 0)
    assert compiled_log_probs(HIDDEN, PRIOR, EMBEDDING, bias)[0, LABELS[0]] == -np.inf


def test_where_drops_tokens_whatever_they_hold():
    where = np.array([True, False, True, True, False])
    hidden, prior, labels = HIDDEN.copy(), PRIOR.copy(), LABELS.copy()
    hidden[1], prior[1], prior[4], labels[4] = np.nan, np.nan, np.inf, -100
    # A known label that is out of range is not refused where it does not count.
    jax.eval_shape(lambda *arrays: mixture_cross_entropy(*arrays, labels, where=where), hidden, prior, EMBEDDING)
    losses, gradients = compiled_loss(hidden, prior, EMBEDDING, BIAS, labels, where=where)
    np.testing.assert_array_equal(losses[~where], 0)
    np.testing.assert_array_equal(gradients[0][~where], 0)
    np.testing.assert_array_equal(gradients[1][~where], 0)
    expected = reference.mixture_gradients(
        HIDDEN[where], PRIOR[where], EMBEDDING, LABELS[where], bias=BIAS, score="sigsoftmax"
    )
    close((gradients[0][where], gradients[1][where], *gradients[2:]), expected)


def test_leading_shape():
    shapes = (2, 2, EXPERTS, WIDTH), (2, 2, EXPERTS)
    hidden, prior = (x[:4].reshape(shape) for x, shape in zip((HIDDEN, PRIOR), shapes, strict=True))
    labels = LABELS[:4].reshape(2, 2)
    losses = jax.jit(lambda *arrays: mixture_cross_entropy(*arrays, labels, BIAS))(hidden, prior, EMBEDDING)
    close(losses.reshape(4), compiled_loss(*ALL, LABELS)[0][:4])


def test_the_loss_of_half_precision_is_float32():
    narrow = [jnp.asarray(x, jnp.bfloat16) for x in (HIDDEN, PRIOR, EMBEDDING)]
    losses = jax.jit(mixture_cross_entropy)(*narrow, LABELS)
    assert losses.dtype == jnp.float32
    log_probs = reference.mixture_log_probs(*(np.asarray(x, np.float64) for x in narrow))
    expected = -log_probs[np.arange(TOKENS), LABELS]
    close(losses, expected)


def test_no_array_of_tokens_times_experts_times_vocabulary():
    tokens, experts, width, vocab = 64, 8, 8, 4096
    shapes = [(tokens, experts, width), (tokens, experts), (vocab, width), (vocab,)]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    labels = jnp.zeros(tokens, jnp.int32)

    def step(hidden, prior, embedding, bias):
        return mixture_cross_entropy(hidden, prior, embedding, labels, bias, block_size=128).sum()

    compiled = jax.jit(jax.grad(step, (0, 1, 2, 3))).lower(*arguments).compile()
    # Blocks of 128 of 4096 words: a few thirty-seconds.
    assert compiled.memory_analysis().temp_size_in_bytes < tokens * experts * vocab * 4 / 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixture_logits": PRIOR[:, 1:]}, r"mixture_logits must have shape \(5, 3\), .*, got \(5, 2\)"),
        ({"labels": np.full(TOKENS, VOCAB)}, r"labels must be in \[0, 23\), got 23 to 23"),
        ({"labels": LABELS[None]}, r"labels must have shape \(5,\), .*, got \(1, 5\)"),
        ({"embedding": EMBEDDING[:, 1:]}, "must be equal in their last dimension"),
        ({"hidden": HIDDEN[0, 0]}, r"hidden must be \[..., K, d\] with K at least 1, got \(4,\)"),
        ({"hidden": HIDDEN[:, :0], "mixture_logits": PRIOR[:, :0]}, r"K at least 1, got \(5, 0, 4\)"),
        ({"block_size": -1}, "block_size must be at least 1, got -1"),
        (
            {"where": np.ones((TOKENS, EXPERTS), bool)},
            r"where must broadcast to labels .*, got \(5, 3\)",
        ),
        ({"where": np.ones(TOKENS)}, "where must be boolean, got float"),
    ],
)
@pytest.mark.usefixtures("no_shape_types")
def test_bad_input_is_named(changes, message):
    arguments = {
        "hidden": HIDDEN,
        "mixture_logits": PRIOR,
        "embedding": EMBEDDING,
        "labels": LABELS,
    } | changes
    with pytest.raises(ValueError, match=message):
        mixture_cross_entropy(**arguments)


@pytest.mark.usefixtures("no_shape_types")
def test_weights_and_components_must_agree():
    with pytest.raises(ValueError, match=r"log_weights must have shape \(3,\), .*, got \(2,\)"):
        log_mixture(jnp.zeros(2), jnp.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"component_log_probs must be \[..., K, V\], got \(5,\)"):
        log_mixture(jnp.zeros(()), jnp.zeros(5))
