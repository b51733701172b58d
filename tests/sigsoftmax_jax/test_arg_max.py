"""The most probable words against NumPy: in blocks, with ties and masks, over a sharded vocabulary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from sigsoftmax_jax import (
    linear_argmax,
    linear_cross_entropy,
    linear_cross_entropy_and_argmax,
    linear_token_accuracy,
    sigmoid_score,
    sigsoftmax_score,
)
from tests.sigsoftmax_jax import reference

RNG = np.random.default_rng(13)
HIDDEN = RNG.normal(size=(2, 9, 5)).astype(np.float32)
EMBEDDING = RNG.normal(size=(24, 5)).astype(np.float32)
BIAS = RNG.normal(size=24).astype(np.float32)
BIAS[[0, 7, 23]] = -np.inf
WORDS = np.argmax(reference.linear_logits(HIDDEN, EMBEDDING, BIAS), -1)
compiled = jax.jit(linear_argmax, static_argnames=("score", "block_size"))


@pytest.mark.parametrize("block_size", [1, 7, None])
def test_words_are_those_of_the_largest_logits(block_size):
    np.testing.assert_array_equal(compiled(HIDDEN, EMBEDDING, BIAS, block_size=block_size), WORDS)


def test_a_score_that_decreases_has_another_word():
    words = compiled(HIDDEN, EMBEDDING, score=lambda z: -(z**2), block_size=7)
    expected = np.argmin(reference.linear_logits(HIDDEN, EMBEDDING) ** 2, -1)
    np.testing.assert_array_equal(words, expected)


@pytest.mark.parametrize("score", [sigsoftmax_score, sigmoid_score])
def test_logits_of_twenty_are_told_apart(score):
    hidden, embedding = np.ones((1, 1), np.float32), np.array([[20], [20.5], [19]], np.float32)
    assert compiled(hidden, embedding, score=score, block_size=1) == 1


def test_the_first_of_equal_words_and_the_first_of_none():
    hidden, embedding = np.ones((1, 1), np.float32), np.array([0, 1, 0, 1, 1, 0, 1], np.float32)[:, None]
    for size in (1, 2, 3, 7):
        assert compiled(hidden, embedding, block_size=size) == 1
    assert compiled(hidden, embedding, np.full(7, -np.inf, np.float32), block_size=2) == 0


@pytest.mark.parametrize("block_size", [1, 4, None])
def test_a_word_that_is_not_a_number_is_found_as_by_jax(block_size):
    embedding = EMBEDDING.copy()
    embedding[8] = np.nan
    np.testing.assert_array_equal(compiled(HIDDEN, embedding, block_size=block_size), 8)
    np.testing.assert_array_equal(jnp.argmax(jnp.asarray(HIDDEN @ embedding.T), -1), 8)


@pytest.mark.usefixtures("x64")
def test_a_label_that_no_word_has_is_not_one_after_a_cast():
    accuracy = jax.jit(linear_token_accuracy)
    labels = WORDS.astype(np.int64)
    np.testing.assert_array_equal(accuracy(HIDDEN, EMBEDDING, labels, BIAS), 1)
    np.testing.assert_array_equal(accuracy(HIDDEN, EMBEDDING, labels + 2**32, BIAS), 0)


@pytest.mark.devices(8)
def test_words_of_a_sharded_vocabulary_and_their_loss():
    labels = RNG.integers(1, 7, (2, 9))
    options = {"label_smoothing": 0.1, "z_loss": 0.1}

    def step(hidden, embedding, bias):
        return linear_cross_entropy_and_argmax(hidden, embedding, labels, bias, axis_name="vocab", **options)

    mesh = jax.make_mesh((8,), ("vocab",), axis_types=(AxisType.Auto,))
    sharded = jax.shard_map(step, mesh=mesh, in_specs=(P(), P("vocab"), P("vocab")), out_specs=(P(), P()))
    losses, words = jax.jit(sharded)(HIDDEN, EMBEDDING, BIAS)
    np.testing.assert_array_equal(words, WORDS)
    expected = jax.jit(lambda *head: linear_cross_entropy(*head[:2], labels, head[2], **options))
    np.testing.assert_allclose(losses, expected(HIDDEN, EMBEDDING, BIAS), rtol=1e-5)
    equal = jnp.zeros_like(EMBEDDING)
    np.testing.assert_array_equal(jax.jit(sharded)(HIDDEN, equal, jnp.zeros(24))[1], 0)


def test_the_loss_and_its_gradient_are_those_without_the_words():
    labels = RNG.integers(1, 7, (2, 9))

    def both(embedding):
        losses, words = linear_cross_entropy_and_argmax(HIDDEN, embedding, labels, BIAS, block_size=7)
        return losses.sum(), words

    (loss, words), gradient = jax.jit(jax.value_and_grad(both, has_aux=True))(EMBEDDING)
    alone = jax.value_and_grad(lambda w: linear_cross_entropy(HIDDEN, w, labels, BIAS, block_size=7).sum())
    expected, expected_gradient = jax.jit(alone)(EMBEDDING)
    np.testing.assert_array_equal(words, WORDS)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6, atol=1e-6)


def test_token_accuracy_is_of_the_tokens_that_count():
    labels, where = WORDS.copy(), RNG.random((2, 9)) < 0.7
    labels[:, ::2] = 1
    labels[~where] = -100
    correct = jax.jit(lambda h, where: linear_token_accuracy(h, EMBEDDING, labels, BIAS, where=where))(
        HIDDEN, where
    )
    np.testing.assert_array_equal(correct, (labels == WORDS) & where)
    assert correct.dtype == jnp.float32


@pytest.mark.usefixtures("no_shape_types")
def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"labels must have shape \(2, 9\), .*, got \(9,\)"):
        linear_token_accuracy(HIDDEN, EMBEDDING, WORDS[0])
    with pytest.raises(ValueError, match="block_size must be at least 1, got 0"):
        linear_argmax(HIDDEN, EMBEDDING, block_size=0)


@pytest.mark.usefixtures("no_shape_types")
def test_an_accuracy_needs_labels():
    with pytest.raises(ValueError, match="labels must be integers, got None"):
        linear_token_accuracy(HIDDEN, EMBEDDING, None, BIAS)
