"""Blocked losses of hidden states against float64 and against materialised logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigsoftmax_jax import (
    linear_cross_entropy,
    linear_log_normalizer,
    relu_score,
    sigsoftmax_score,
    softmax_score,
)
from sigsoftmax_jax.scores import SCORES
from tests.sigsoftmax_jax import reference

TOKENS, WIDTH, VOCAB = 7, 6, 37
RNG = np.random.default_rng(3)
HIDDEN = RNG.normal(size=(TOKENS, WIDTH)).astype(np.float32)
EMBEDDING = RNG.normal(size=(VOCAB, WIDTH)).astype(np.float32)
BIAS = RNG.normal(size=VOCAB).astype(np.float32)
LABELS = RNG.integers(0, VOCAB, TOKENS)
LABELS[:2] = 0, VOCAB - 1
# 5 leaves a ragged last block; then one word, a last block of one word, and all. What is larger than all, or the
# default, is cut to all: see tests/sigsoftmax_jax/test_vocabulary_blocks.py.
GRID = [(name, 5) for name in SCORES] + [("sigsoftmax", size) for size in (1, 36, 37)]
REST = [(name, size) for name in SCORES for size in (1, 18, 36, 37, 100, None) if (name, size) not in GRID]


def value_and_gradients(loss, *arguments):
    def total(*arguments):
        losses = loss(*arguments)
        return losses.sum(), losses

    (_, losses), gradients = jax.jit(jax.value_and_grad(total, tuple(range(len(arguments))), has_aux=True))(
        *arguments
    )
    return losses, gradients


@functools.partial(jax.jit, static_argnames=("score", "block_size"))
def compiled_loss(hidden, embedding, bias, labels, *, score=sigsoftmax_score, block_size=5):
    """The losses, and the gradients of their sum for the first three: one program for most of the tests."""

    def loss(*head):
        losses = linear_cross_entropy(*head[:2], labels, head[2], score=score, block_size=block_size)
        return losses.sum(), losses

    (_, losses), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(hidden, embedding, bias)
    return losses, gradients


def close(actual, expected, atol=1e-5):
    # Sums of a few dozen float32 products of size 1 to 10 differ by a few 1e-6.
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=atol), actual, expected)


@pytest.mark.parametrize(
    ("name", "block_size"), [*GRID, *(pytest.param(*case, marks=pytest.mark.slow) for case in REST)]
)
def test_matches_float64_for_every_block_size(name, block_size):
    arguments = HIDDEN, EMBEDDING, BIAS
    losses, gradients = compiled_loss(*arguments, LABELS, score=SCORES[name], block_size=block_size)
    logits = reference.linear_logits(*arguments)
    close(losses, reference.cross_entropy(logits, reference.one_hot(LABELS, VOCAB), name))
    close(gradients, reference.linear_gradients(HIDDEN, EMBEDDING, LABELS, BIAS, name))


def test_without_bias():
    actual = value_and_gradients(lambda h, w: linear_cross_entropy(h, w, LABELS, block_size=5), HIDDEN, EMBEDDING)
    logits = reference.linear_logits(HIDDEN, EMBEDDING)
    losses = reference.cross_entropy(logits, reference.one_hot(LABELS, VOCAB))
    close(actual, (losses, reference.linear_gradients(HIDDEN, EMBEDDING, LABELS)[:2]))


def normalizers_and_gradients(hidden, embedding, bias, name):
    """log sum_j exp(s(z_j)), whose gradient for z_j is s'(z_j) p_j, in float64."""
    logits = reference.linear_logits(hidden, embedding, bias)
    at_logits = reference.SLOPES[name](logits) * np.exp(reference.log_probs(logits, name))
    gradients = at_logits @ embedding, at_logits.T @ hidden, at_logits.sum(0)
    return reference.log_sum_exp(reference.SCORES[name](logits)), gradients


def test_log_normalizer_and_its_gradient():
    actual = value_and_gradients(
        lambda h, w, b: linear_log_normalizer(h, w, b, score=softmax_score, block_size=8),
        *(HIDDEN, EMBEDDING, BIAS),
    )
    close(actual, normalizers_and_gradients(HIDDEN, EMBEDDING, BIAS, "softmax"))


def test_any_leading_shape_and_no_token_at_all():
    @jax.jit
    def losses(hidden, labels):
        shaped = hidden[:6].reshape(1, 2, 3, -1), EMBEDDING, labels[:6].reshape(1, 2, 3), BIAS
        one = linear_cross_entropy(hidden[6], EMBEDDING, labels[6], BIAS)
        return linear_cross_entropy(*shaped), one, linear_cross_entropy(hidden[:0], EMBEDDING, labels[:0], BIAS)

    expected, _ = compiled_loss(HIDDEN, EMBEDDING, BIAS, LABELS)
    close(losses(HIDDEN, LABELS), (expected[:6].reshape(1, 2, 3), expected[6], expected[:0]))


def test_large_logits_stay_finite():
    losses, gradients = compiled_loss(HIDDEN * 1e3, EMBEDDING, BIAS, LABELS)
    logits = reference.linear_logits(HIDDEN * 1e3, EMBEDDING, BIAS)
    # Logits of 1e4 come out of a float32 product with an error of a few 1e-3.
    close(losses, reference.cross_entropy(logits, reference.one_hot(LABELS, VOCAB)), atol=2e-2)
    assert all(np.all(np.isfinite(g)) for g in gradients)


def test_masked_words_and_a_masked_label():
    bias = BIAS.copy()
    masked = np.array([0, 4, 5, 6, 7, 8, 9, VOCAB - 1])
    bias[masked] = -np.inf  # one whole block of 5 among them, and the labels of the first two tokens
    losses, gradients = compiled_loss(HIDDEN, EMBEDDING, bias, LABELS)
    logits = reference.linear_logits(HIDDEN, EMBEDDING, bias)
    targets = reference.one_hot(LABELS, VOCAB)
    assert np.all(losses[:2] == np.inf)
    close(losses[2:], reference.cross_entropy(logits[2:], targets[2:]))
    assert all(np.all(np.isfinite(g)) for g in gradients)
    np.testing.assert_array_equal(gradients[1][masked], 0)
    np.testing.assert_array_equal(gradients[2][masked], 0)


def test_every_word_masked():
    bias = np.full(VOCAB, -np.inf, np.float32)
    losses, gradients = compiled_loss(HIDDEN, EMBEDDING, bias, LABELS)
    assert np.all(losses == np.inf)
    assert np.all(linear_log_normalizer(HIDDEN, EMBEDDING, bias) == -np.inf)
    close(gradients, jax.tree.map(np.zeros_like, (HIDDEN, EMBEDDING, bias)), atol=0)


def test_where_drops_tokens_whatever_they_hold():
    where = np.array([True, False, True, True, False, True, True])
    hidden, labels = HIDDEN.copy(), LABELS.copy()
    hidden[1], hidden[4], labels[1], labels[4] = np.nan, np.inf, -100, VOCAB + 9
    losses, gradients = value_and_gradients(
        lambda h, w, b: linear_cross_entropy(h, w, labels, b, block_size=8, where=where),
        *(hidden, EMBEDDING, BIAS),
    )
    expected = reference.linear_gradients(HIDDEN[where], EMBEDDING, LABELS[where], BIAS)
    np.testing.assert_array_equal(losses[~where], 0)
    np.testing.assert_array_equal(gradients[0][~where], 0)
    close((gradients[0][where], *gradients[1:]), expected)
    normalizers, gradients = value_and_gradients(
        lambda h, w, b: linear_log_normalizer(h, w, b, block_size=8, where=where), hidden, EMBEDDING, BIAS
    )
    np.testing.assert_array_equal(normalizers[~where], 0)
    np.testing.assert_array_equal(gradients[0][~where], 0)
    expected = normalizers_and_gradients(HIDDEN[where], EMBEDDING, BIAS, "sigsoftmax")
    close((normalizers[where], (gradients[0][where], *gradients[1:])), expected)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
def test_half_precision_accumulates_in_float32(dtype):
    arguments = [jnp.asarray(x, dtype) for x in (HIDDEN, EMBEDDING, BIAS)]
    losses, gradients = value_and_gradients(
        lambda h, w, b: linear_cross_entropy(h, w, LABELS, b, block_size=8), *arguments
    )
    assert losses.dtype == jnp.float32
    assert all(g.dtype == dtype for g in gradients)
    wide = [np.asarray(x, np.float64) for x in arguments]
    targets = reference.one_hot(LABELS, VOCAB)
    expected = reference.cross_entropy(reference.linear_logits(*wide), targets)
    eps = float(jnp.finfo(dtype).eps)
    # Sums of a few dozen exact products in float32.
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-5)
    # Each logit gradient, at most 2, is rounded before a product whose factors are at most 3.
    for actual, wanted in zip(
        gradients, reference.linear_gradients(wide[0], wide[1], LABELS, wide[2]), strict=True
    ):
        np.testing.assert_allclose(np.asarray(actual, float), wanted, rtol=eps, atol=3 * eps)


def test_the_slope_of_the_relu_score_does_not_overflow_in_float16():
    hidden = jnp.array([[1e-6, 0], [1e-6, 1]], jnp.float16)
    embedding = jnp.array([[1, 0], [0, 1], [1, 0.5]], jnp.float16)
    # The label's logit is 1e-6, where the slope is 1e6: more than float16 holds.
    losses, gradients = value_and_gradients(
        lambda h, w: linear_cross_entropy(h, w, np.zeros(2, int), score=relu_score, block_size=2) / 1024,
        *(hidden, embedding),
    )
    wide = [np.asarray(x, np.float64) for x in (hidden, embedding)]
    logits, targets = reference.linear_logits(*wide), reference.one_hot(np.zeros(2, int), 3)
    np.testing.assert_allclose(losses, reference.cross_entropy(logits, targets, "relu") / 1024, rtol=1e-5)
    expected = reference.linear_gradients(*wide, np.zeros(2, int), score="relu")[:2]
    for actual, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(np.asarray(actual, float), wanted / 1024, rtol=2e-3, atol=2e-3)


def test_many_tokens_do_not_lose_the_bias_gradient_in_bfloat16():
    hidden, embedding = jnp.zeros((4096, 2), jnp.bfloat16), jnp.zeros((4, 2), jnp.bfloat16)
    labels = jnp.zeros(4096, jnp.int32)
    _, (gradient,) = value_and_gradients(
        lambda b: linear_cross_entropy(hidden, embedding, labels, b, score=softmax_score),
        jnp.zeros(4, jnp.bfloat16),
    )
    # A bfloat16 sum of 4096 quarters stops at 64; these totals are exact in float32.
    np.testing.assert_array_equal(np.asarray(gradient, float), [-3072, 1024, 1024, 1024])


@pytest.mark.usefixtures("x64")
def test_hessian_vector_product_matches_finite_differences():
    hidden, embedding = jnp.array(HIDDEN, jnp.float64), jnp.array(EMBEDDING, jnp.float64)
    direction = jnp.array(RNG.normal(size=hidden.shape))
    gradient = jax.grad(lambda h: linear_cross_entropy(h, embedding, LABELS, block_size=8).sum())
    derivatives = jax.jit(lambda h: jax.jvp(gradient, (h,), (direction,)))
    step = 1e-5
    _, actual = derivatives(hidden)
    expected = (derivatives(hidden + step * direction)[0] - derivatives(hidden - step * direction)[0]) / (2 * step)
    # Central differences err by step^2 and by eps / step, both about 1e-10, times sizes of 10.
    np.testing.assert_allclose(actual, expected, atol=1e-7)


def test_a_score_of_the_users_own():
    def generalised(z):
        return 3 * (z + 1.5) - 1.5 - 2 * jax.nn.softplus(z + 1.5)

    blocked = value_and_gradients(
        lambda h, w: linear_cross_entropy(h, w, LABELS, score=generalised, block_size=8), HIDDEN, EMBEDDING
    )
    whole = value_and_gradients(
        lambda h, w: -jax.nn.log_softmax(generalised(h @ w.T))[np.arange(TOKENS), LABELS], HIDDEN, EMBEDDING
    )
    close(blocked, whole)


def test_memory_stays_below_the_logits():
    tokens, width, vocab = 256, 16, 8192
    hidden, embedding = jnp.zeros((tokens, width)), jnp.zeros((vocab, width))
    labels = jnp.zeros(tokens, jnp.int32)

    def step(hidden, embedding):
        return linear_cross_entropy(hidden, embedding, labels, block_size=256).sum()

    compiled = jax.jit(jax.grad(step, (0, 1))).lower(hidden, embedding).compile()
    # Three blocks, of logits, weights and their gradient, and the sums over tokens: far below the logits.
    assert compiled.memory_analysis().temp_size_in_bytes < tokens * vocab * 4 / 8


def test_matrix_products_follow_the_precision_of_the_context():
    with jax.default_matmul_precision("highest"):
        traced = str(jax.make_jaxpr(jax.grad(lambda h: linear_cross_entropy(h, EMBEDDING, LABELS).sum()))(HIDDEN))
    assert traced.count("dot_general") == traced.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") >= 4


@pytest.mark.usefixtures("no_shape_types")
def test_a_block_size_of_any_integer_type():
    expected = linear_cross_entropy(HIDDEN, EMBEDDING, LABELS, block_size=8)
    for size in (np.int64(8), jnp.int32(8)):
        close(linear_cross_entropy(HIDDEN, EMBEDDING, LABELS, block_size=size), expected, atol=0)


def test_a_traced_label_out_of_range_is_nan():
    loss = jax.jit(lambda labels: linear_cross_entropy(HIDDEN[:2], EMBEDDING, labels))
    assert np.all(np.isnan(loss(jnp.array([VOCAB, -1]))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"embedding": EMBEDDING[:, 1:]},
            r"must be equal in their last dimension, got \(7, 6\) and \(37, 5\)",
        ),
        ({"embedding": EMBEDDING[:0]}, r"must be \[..., d\] and \[V, d\] .*, got \(7, 6\) and \(0, 6\)"),
        ({"labels": LABELS[1:]}, r"labels must have shape \(7,\), one label per example, got \(6,\)"),
        ({"labels": LABELS + 1}, r"labels must be in \[0, 37\), got 1 to 37"),
        ({"labels": LABELS.astype(float)}, "labels must be integers, got float"),
        ({"bias": BIAS[1:]}, r"bias must have shape \(37,\), .*, got \(36,\)"),
        ({"block_size": 0}, "block_size must be at least 1, got 0"),
        ({"block_size": 2.5}, "block_size must be an integer known before tracing, got 2.5"),
        ({"block_size": 8.0}, "block_size must be an integer known before tracing, got 8.0"),
        ({"where": np.ones(6, bool)}, r"where must broadcast to labels of shape \(7,\), got \(6,\)"),
        ({"hidden": np.ones((7, 6), int)}, "hidden must be floating-point, got int"),
    ],
)
@pytest.mark.usefixtures("no_shape_types")
def test_bad_input_is_named(changes, message):
    arguments = {"hidden": HIDDEN, "embedding": EMBEDDING, "labels": LABELS, "bias": BIAS} | changes
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(**arguments)


def test_the_default_score_is_the_sigsoftmax():
    close(
        linear_cross_entropy(HIDDEN, EMBEDDING, LABELS, block_size=8),
        linear_cross_entropy(HIDDEN, EMBEDDING, LABELS, score=sigsoftmax_score, block_size=8),
        atol=0,
    )
