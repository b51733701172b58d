"""Labels of every integer dtype, in and out of range, for every loss that takes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigsoftmax_jax import cross_entropy_with_integer_labels, linear_cross_entropy, mixture_cross_entropy
from sigsoftmax_jax._labels import check_labels, nan_where_out_of_range
from tests.sigsoftmax_jax import reference

RNG = np.random.default_rng(7)
HIDDEN = RNG.normal(size=(3, 4)).astype(np.float32)
EMBEDDING = RNG.normal(size=(300, 4)).astype(np.float32)
DTYPES = [np.int8, np.uint8, np.uint32, np.int64]
VOCABS = [127, 128, 255, 256, 300]


def on_logits(labels, vocab):
    return cross_entropy_with_integer_labels(HIDDEN @ EMBEDDING[:vocab].T, labels)


def linear(labels, vocab):
    return linear_cross_entropy(HIDDEN, EMBEDDING[:vocab], labels)


def mixture(labels, vocab):
    return mixture_cross_entropy(HIDDEN[:, None], np.zeros((3, 1), np.float32), EMBEDDING[:vocab], labels)


LOSSES = [on_logits, linear, mixture]


def up_to_the_last(vocab, dtype):
    """Labels that include the largest that the vocabulary and the dtype have."""
    return np.array([0, 100, min(vocab - 1, np.iinfo(dtype).max)], dtype)


def assert_matches_float64(losses, labels, vocab):
    logits = reference.linear_logits(HIDDEN, EMBEDDING[:vocab])
    expected = reference.cross_entropy(logits, reference.one_hot(labels.astype(int), vocab))
    # A few float32 roundings of sums and products near 10.
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize("vocab", VOCABS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_label_of_a_dtype_that_cannot_hold_the_vocabulary_is_refused(vocab, dtype):
    labels = up_to_the_last(vocab, dtype)
    check_labels(labels, (3,), vocab)
    np.testing.assert_array_equal(nan_where_out_of_range(jnp.zeros(3), labels, vocab), 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_label_beyond_the_vocabulary_is_out_of_range(dtype):
    labels = np.array([0, 1, 127], dtype)
    np.testing.assert_array_equal(nan_where_out_of_range(jnp.zeros(3), labels, 127), [0, 0, np.nan])
    with pytest.raises(ValueError, match=r"labels must be in \[0, 127\), got 0 to 127"):
        check_labels(labels, (3,), 127)


@pytest.mark.parametrize(("vocab", "dtype"), [(128, np.int8), (256, np.uint8), (300, np.uint32)])
def test_losses_of_labels_whose_dtype_holds_them(vocab, dtype):
    labels = up_to_the_last(vocab, dtype)
    for losses in jax.jit(lambda labels: [loss(labels, vocab) for loss in LOSSES])(labels):
        assert_matches_float64(losses, labels, vocab)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocab", VOCABS)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_labels_of_every_dtype(loss, vocab, dtype):
    labels = up_to_the_last(vocab, dtype)
    assert_matches_float64(loss(labels, vocab), labels, vocab)


@pytest.mark.usefixtures("x64")
def test_a_traced_label_is_not_wrapped_into_range():
    labels = jnp.array([2**32 + 1, -(2**32) + 1, 1])
    for losses in jax.jit(lambda labels: [loss(labels, 300) for loss in LOSSES])(labels):
        np.testing.assert_array_equal(np.isnan(losses), [True, True, False])
