"""Labels of every integer dtype, in and out of range, for every loss that takes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigsoftmax_jax import cross_entropy_with_integer_labels, linear_cross_entropy, mixture_cross_entropy
from tests.sigsoftmax_jax import reference

RNG = np.random.default_rng(7)
HIDDEN = RNG.normal(size=(3, 4)).astype(np.float32)
EMBEDDING = RNG.normal(size=(300, 4)).astype(np.float32)


def on_logits(labels, vocab):
    return cross_entropy_with_integer_labels(HIDDEN @ EMBEDDING[:vocab].T, labels)


def linear(labels, vocab):
    return linear_cross_entropy(HIDDEN, EMBEDDING[:vocab], labels)


def mixture(labels, vocab):
    return mixture_cross_entropy(HIDDEN[:, None], np.zeros((3, 1), np.float32), EMBEDDING[:vocab], labels)


LOSSES = [on_logits, linear, mixture]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint32, np.int64])
@pytest.mark.parametrize("vocab", [127, 128, 255, 256, 300])
@pytest.mark.parametrize("loss", LOSSES)
def test_labels_of_a_dtype_that_cannot_hold_the_vocabulary(loss, vocab, dtype):
    last = min(vocab - 1, np.iinfo(dtype).max)
    labels = np.array([0, 100, last], dtype)
    logits = reference.linear_logits(HIDDEN, EMBEDDING[:vocab])
    expected = reference.cross_entropy(logits, reference.one_hot(labels.astype(int), vocab))
    # A few float32 roundings of sums and products near 10.
    np.testing.assert_allclose(loss(labels, vocab), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.usefixtures("x64")
def test_a_traced_label_is_not_wrapped_into_range(loss):
    losses = jax.jit(loss, static_argnums=1)(jnp.array([2**32 + 1, -(2**32) + 1, 1]), 300)
    np.testing.assert_array_equal(np.isnan(losses), [True, True, False])
