"""What each dropout drops together, and that its expectation is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.sigsoftmax.dropout import embedding_dropout, locked_dropout, weight_drop

KEY = jax.random.key(0)
ROW_KEYS = jax.random.split(KEY, 6)
RATE = 0.3


def test_locked_dropout_is_constant_over_time_and_differs_between_sequences():
    values = jax.random.uniform(KEY, (6, 5, 40), minval=1.0, maxval=2.0)
    scales = np.asarray(locked_dropout(ROW_KEYS, values, RATE) / values)
    assert np.all(np.isclose(scales, 0) | np.isclose(scales, 1 / (1 - RATE)))
    np.testing.assert_allclose(scales, np.repeat(scales[:, :1], 5, 1), rtol=1e-6)  # a quotient of float32
    masks = scales[:, 0] > 0
    assert len(np.unique(masks, axis=0)) == 6
    # A row's mask comes from its own key alone, however the batch is split.
    parts = [locked_dropout(ROW_KEYS[i : i + 3], values[i : i + 3], RATE) for i in (0, 3)]
    np.testing.assert_array_equal(jnp.concatenate(parts) / values, scales)


def test_embedding_dropout_drops_words():
    embedding = jax.random.uniform(KEY, (50, 4), minval=1.0, maxval=2.0)
    tokens = jnp.tile(jnp.arange(50), 2).reshape(10, 10)
    embedded = np.asarray(embedding_dropout(KEY, embedding, tokens, RATE)).reshape(2, 50, 4)
    np.testing.assert_array_equal(embedded[0], embedded[1])  # all occurrences of a word share its fate
    kept = embedded[0, :, 0] > 0
    assert 0 < kept.sum() < 50
    np.testing.assert_allclose(embedded[0], kept[:, None] * embedding / (1 - RATE), rtol=1e-6)  # float32


def drop_rows(shape):
    return locked_dropout(jax.random.split(KEY, shape[0]), jnp.ones((shape[0], 1, shape[1])), RATE)


def drop_words(shape):
    return embedding_dropout(KEY, jnp.ones((shape[0] * shape[1], 1)), jnp.arange(shape[0] * shape[1]), RATE)


def drop_weights(shape):
    return weight_drop(KEY, jnp.ones(shape), RATE)


@pytest.mark.parametrize("drop", [drop_rows, drop_words, drop_weights])
def test_the_expectation_is_kept(drop):
    dropped = np.asarray(drop((200, 200)))
    assert set(np.unique(dropped)) == {0, np.float32(1 / (1 - RATE))}
    # Five standard deviations of the mean of 40,000 draws, each of variance RATE / (1 - RATE) = 0.43.
    assert abs(dropped.mean() - 1) < 0.017


def test_no_key_and_rate_0_change_nothing():
    values, tokens = jnp.ones((6, 5, 4)), jnp.arange(5)
    for key, rate in ((None, RATE), (KEY, 0.0)):
        row_keys = key if key is None else ROW_KEYS
        assert locked_dropout(row_keys, values, rate) is values
        assert weight_drop(key, values, rate) is values
        np.testing.assert_array_equal(embedding_dropout(key, values[0], tokens, rate), values[0])
    jaxpr = jax.make_jaxpr(lambda keys: locked_dropout(keys, values, 0.0))(ROW_KEYS)
    assert not jaxpr.eqns


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_bad_rates(rate):
    for drop in (
        lambda: locked_dropout(ROW_KEYS, jnp.ones((6, 5, 4)), rate),
        lambda: embedding_dropout(KEY, jnp.ones((3, 2)), jnp.arange(3), rate),
        lambda: weight_drop(KEY, jnp.ones((3, 12)), rate),
    ):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\), got"):
            drop()
