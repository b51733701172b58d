"""The lines of docs/losses.md run, and give what the plain formulas give."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigsoftmax_jax import log_sigsoftmax

pytestmark = pytest.mark.devices(8)

TEXT = (Path(__file__).parents[2] / "docs" / "losses.md").read_text()


@pytest.fixture(scope="module")
def page():
    """What the lines define."""
    names = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)), names)
    return names


@pytest.fixture(scope="module")
def counted(page):
    """The rows of the tokens that count, their labels, and the log-probabilities of every word."""
    where = np.asarray(page["labels"]) != -100
    return where, np.asarray(page["labels"])[where], np.asarray(log_sigsoftmax(page["logits"]), np.float64)


def close(actual, expected):
    # Sums of a thousand float32 terms.
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_the_mean_is_over_the_tokens_that_count(page, counted):
    where, labels, log_probs = counted
    mean = jax.jit(page["mean_loss"])(*(page[name] for name in ("hidden", "embedding", "bias", "labels")))
    close(mean, -log_probs[where, labels].mean())
    close(jax.jit(page["mean_loss_on_logits"])(page["logits"], page["labels"]), mean)


def test_a_cap_is_a_score(page, counted):
    where, labels, _ = counted
    log_probs = log_sigsoftmax(30 * jnp.tanh(page["logits"] / 30))
    close(page["capped"][where], -log_probs[where, labels])
    np.testing.assert_array_equal(page["capped"][~where], 0)


def test_the_terms_and_the_words_come_with_the_loss(page, counted):
    where, labels, log_probs = counted
    scores = np.asarray(page["sigsoftmax_score"](page["logits"]), np.float64)
    log_z = np.log(np.exp(scores).sum(-1))
    losses = -0.9 * log_probs[where, labels] - 0.1 * log_probs[where].mean(-1) + 1e-4 * log_z[where] ** 2
    close(page["total"], losses.sum())
    assert page["correct"] == np.sum(np.argmax(scores[where], -1) == labels)
    assert all(np.any(gradient) for gradient in page["gradients"])


def test_a_teacher_is_matched_on_its_words(page, counted):
    _, _, log_probs = counted
    targets = np.exp(page["log_probs"]) / np.exp(page["log_probs"]).sum(-1, keepdims=True)
    close(page["distilled"], -np.sum(targets * np.take_along_axis(log_probs, np.asarray(page["words"]), -1), -1))


def test_the_log_normalizer_is_that_of_the_scores(page, counted):
    head = [page[name] for name in ("hidden", "embedding", "bias")]
    labels = jnp.abs(page["labels"])
    losses, log_z = jax.jit(page["loss_and_log_normalizer"])(*head, labels)
    close(log_z, jax.nn.logsumexp(page["sigsoftmax_score"](page["logits"]), -1))
    close(losses, -counted[2][np.arange(8), labels])


def test_samples_have_the_probabilities_of_the_sigsoftmax(page):
    logits = jnp.array([-3.0, -1.0, 0.0, 2.0, -2.0])
    keys = jax.random.split(jax.random.key(1), 20_000)
    drawn = jax.vmap(lambda key: page["sample"](key, logits))(keys)
    share = np.bincount(drawn, minlength=5) / len(keys)
    probs = np.exp(log_sigsoftmax(logits))
    # Five standard deviations of a share.
    assert np.all(np.abs(share - probs) < 5 * np.sqrt(probs * (1 - probs) / len(keys)))
    # The softmax is told apart.
    assert np.abs(share - np.asarray(jax.nn.softmax(logits))).max() > 0.05
    few = jax.vmap(lambda key: page["sample"](key, logits, k=2))(keys[:200])
    assert set(np.asarray(few).tolist()) == {2, 3}


def test_the_best_words_are_those_of_the_largest_logits(page):
    np.testing.assert_array_equal(page["best"], jax.lax.top_k(page["logits"], 5)[1])


def test_a_learned_score_and_its_embedding_both_move_and_lower_the_loss(page):
    params, state = page["params"], page["state"]
    assert np.any(params["log_slopes"])
    assert np.any(np.asarray(params["embedding"]) != np.asarray(page["embedding"]))
    *_, value = page["learn"](params, state, page["hidden"], page["labels"])
    assert value < page["value"]


def test_on_a_mesh_the_losses_are_those_of_one_device(page):
    hidden, embedding, labels = page["arrays"]
    log_probs = np.asarray(log_sigsoftmax(hidden @ embedding.T), np.float64)
    close(page["mean_on_mesh"], -log_probs[np.arange(8), labels].mean())
    gradients = jax.grad(
        lambda h, w: -jnp.take_along_axis(log_sigsoftmax(h @ w.T), labels[:, None], -1).mean(), (0, 1)
    )(hidden, embedding)
    for actual, expected, axis in zip(page["gradients_on_mesh"], gradients, ("data", "vocab"), strict=True):
        assert actual.sharding.spec[0] == axis
        close(actual, expected)
