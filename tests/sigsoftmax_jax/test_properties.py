"""Properties that hold for whatever is given, extreme values included; references in float64 from the formulas."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies
from hypothesis.extra.numpy import arrays

from sigsoftmax_jax import (
    cross_entropy,
    cross_entropy_with_integer_labels,
    gss_score,
    linear_argmax,
    linear_cross_entropy,
    linear_cross_entropy_and_argmax,
    linear_log_normalizer,
    linear_token_accuracy,
    log_mixture,
    log_normalize,
    log_prob_rank,
    log_sigsoftmax,
    mixture_cross_entropy,
    mixture_log_probs,
    perplexity,
    plif_score,
    sigsoftmax,
    sigsoftmax_score,
    softmax_score,
    streamed_log_prob_rank,
)
from sigsoftmax_jax.scores import SCORES
from tests.sigsoftmax_jax import reference

# One shape for each function, so that few programs are compiled; the same examples in every run.
SETTINGS = hypothesis.settings(max_examples=25, deadline=None, derandomize=True, database=None)
TOKENS, EXPERTS, WIDTH, VOCAB = 3, 2, 4, 7
LIMIT = 2.0**125  # the sigsoftmax doubles a negative logit, and float32 ends at 2**128
DTYPES = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
NAMES = pytest.mark.parametrize("name", list(SCORES))
EPS = float(jnp.finfo(jnp.float32).eps)

priors = arrays(np.float32, (TOKENS, EXPERTS), elements=strategies.floats(-1e4, 1e4, width=32))
labels = arrays(np.int32, TOKENS, elements=strategies.integers(0, VOCAB - 1))
seeds = strategies.integers(0, 2**32 - 1)


def logits(limit=LIMIT, *, masks=True):
    """[TOKENS, VOCAB]: normal ones about a centre, or whatever comes; some masked."""
    normal = strategies.builds(
        lambda seed, centre, scale: np.random.default_rng(seed).normal(centre, scale, (TOKENS, VOCAB)),
        seeds,
        strategies.sampled_from([0.0, -300.0, -1e4, 300.0, 1e4]),
        strategies.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e4]),
    ).map(lambda x: x.astype(np.float32))
    elements = strategies.floats(-limit, limit, width=32)
    elements = elements | strategies.just(-np.inf) if masks else elements
    return normal | arrays(np.float32, (TOKENS, VOCAB), elements=elements)


def in_dtype(values, dtype):
    """Rounded to a dtype; what it does not hold is cut to a quarter of its largest number."""
    limit = float(jnp.finfo(dtype).max) / 4
    return jnp.asarray(np.where(np.isfinite(values), np.clip(values, -limit, limit), values), dtype)


def row_size(expected):
    """The largest finite number of each row, at least 1."""
    return np.maximum(1, np.max(np.abs(np.where(np.isfinite(expected), expected, 0)), -1, keepdims=True))


LOG_PROBS = {"sigsoftmax": jax.jit(log_sigsoftmax), "softmax": jax.jit(log_normalize)}
probabilities = jax.jit(sigsoftmax)


@DTYPES
@pytest.mark.parametrize("name", LOG_PROBS)
@SETTINGS
@hypothesis.given(z=logits())
def test_log_probabilities(name, dtype, z):
    z = in_dtype(z, dtype)
    found = LOG_PROBS[name](z)
    assert (found.shape, found.dtype) == (z.shape, z.dtype)
    expected = reference.log_probs(np.asarray(z, np.float64), name)
    found, live = np.asarray(found, np.float64), np.asarray(z) > -np.inf
    np.testing.assert_array_equal(found[~live], -np.inf)
    assert np.all(found <= 0)
    # Rounded in float32 at the size of the largest of the row, then to the dtype.
    tolerance = 4 * EPS * row_size(expected) + float(jnp.finfo(dtype).eps) * np.abs(np.where(live, expected, 0))
    assert np.all(np.abs(np.where(live, found - np.where(live, expected, 0), 0)) <= tolerance)


@DTYPES
@SETTINGS
@hypothesis.given(z=logits())
def test_probabilities_sum_to_one_and_keep_the_order(dtype, z):
    z = in_dtype(z, dtype)
    found = probabilities(z)
    assert (found.shape, found.dtype) == (z.shape, z.dtype)
    known, found = np.asarray(z, np.float64), np.asarray(found, np.float64)
    has_class = np.any(known > -np.inf, -1)
    slack = VOCAB * (float(jnp.finfo(dtype).eps) + 4 * EPS)
    np.testing.assert_allclose(found.sum(-1), has_class, atol=slack)
    order = np.argsort(known, -1)
    assert np.all(np.diff(np.take_along_axis(found, order, -1), axis=-1) >= -slack)


@functools.partial(jax.jit, static_argnames="score")
def loss_and_gradient(z, labels, score):
    def total(z):
        losses = cross_entropy_with_integer_labels(z, labels, score=score)
        return jnp.sum(jnp.where(jnp.isfinite(losses), losses, 0)), losses

    gradient, losses = jax.grad(total, has_aux=True)(z)
    return losses, gradient


@functools.partial(jax.jit, static_argnames="score")
def soft_loss(z, targets, score):
    return cross_entropy(z, targets, score=score)


@NAMES
@SETTINGS
@hypothesis.given(z=logits(), labels=labels)
def test_the_loss_and_its_gradient(name, z, labels):
    losses, gradient = map(np.asarray, loss_and_gradient(z, labels, score=SCORES[name]))
    targets = reference.one_hot(labels, VOCAB)
    soft = np.asarray(soft_loss(z, targets.astype(np.float32), score=SCORES[name]))
    assert np.all(np.isfinite(gradient))
    live = np.take_along_axis(z, labels[:, None], -1)[:, 0] > -np.inf
    np.testing.assert_array_equal(losses[~live], np.inf)
    losses, soft, gradient, targets, z = losses[live], soft[live], gradient[live], targets[live], z[live]
    tolerance = 8 * EPS * row_size(reference.SCORES[name](z.astype(np.float64)))[:, 0]
    expected = reference.cross_entropy(z, targets, name)
    assert np.all(np.abs(losses - expected) <= tolerance)
    assert np.all(np.abs(soft - expected) <= tolerance)
    wanted = reference.cross_entropy_gradient(z, targets, name)
    slope = np.abs(reference.SLOPES[name](np.where(z > -np.inf, z, 0).astype(np.float64)))
    assert np.all(np.abs(gradient - wanted) <= 1e-5 * slope + 1e-37)


def heads(experts=()):
    """Hidden states, embedding and bias, whose logits are about as large as a scale; some words are masked."""

    def head(seed, scale, masked):
        rng = np.random.default_rng(seed)
        hidden = scale * rng.normal(size=(TOKENS, *experts, WIDTH))
        bias = np.where(masked, -np.inf, rng.normal(size=VOCAB))
        return tuple(x.astype(np.float32) for x in (hidden, rng.normal(size=(VOCAB, WIDTH)), bias))

    scales = strategies.sampled_from([0.0, 1e-6, 1.0, 30.0, 1e3])
    return strategies.builds(head, seeds, scales, arrays(bool, VOCAB, elements=strategies.booleans()))


BLOCKS = pytest.mark.parametrize("block_size", [1, 3, None])


@functools.partial(jax.jit, static_argnames="block_size")
def linear(hidden, embedding, bias, labels, block_size):
    """Losses, gradients of the finite ones, log normalisers and most probable words."""

    def total(*head):
        losses, words = linear_cross_entropy_and_argmax(*head[:2], labels, head[2], block_size=block_size)
        return jnp.sum(jnp.where(jnp.isfinite(losses), losses, 0)), (losses, words)

    head = hidden, embedding, bias
    gradients, (losses, words) = jax.grad(total, (0, 1, 2), has_aux=True)(*head)
    alone = linear_cross_entropy(hidden, embedding, labels, bias, block_size=block_size)
    normalizers = linear_log_normalizer(*head, block_size=block_size)
    accuracy = linear_token_accuracy(hidden, embedding, labels, bias, block_size=block_size)
    return losses, alone, gradients, normalizers, words, linear_argmax(*head, block_size=block_size), accuracy


@BLOCKS
@SETTINGS
@hypothesis.given(head=heads(), labels=labels)
def test_blocked_losses_are_those_of_the_logits(block_size, head, labels):
    losses, alone, gradients, normalizers, words, found, accuracy = linear(*head, labels, block_size=block_size)
    assert losses.dtype == normalizers.dtype == jnp.float32
    np.testing.assert_array_equal(losses, alone)
    np.testing.assert_array_equal(words, found)
    z = reference.linear_logits(*head)
    scores = reference.SCORES["sigsoftmax"](z)
    size = row_size(scores)[:, 0] * WIDTH
    expected = reference.cross_entropy(z, reference.one_hot(labels, VOCAB))
    live = head[2][labels] > -np.inf
    np.testing.assert_array_equal(np.asarray(losses)[~live], np.inf)
    assert np.all(np.abs(losses[live] - expected[live]) <= 16 * EPS * size[live])
    wanted = reference.log_sum_exp(scores)
    if np.any(head[2] > -np.inf):
        assert np.all(np.abs(normalizers - wanted) <= 16 * EPS * size)
        # Words whose scores differ by the rounding of the logits are as good as each other.
        assert np.all(scores[np.arange(TOKENS), found] >= scores.max(-1) - 16 * EPS * size)
    else:
        np.testing.assert_array_equal(normalizers, -np.inf)
        np.testing.assert_array_equal(found, 0)
    np.testing.assert_array_equal(accuracy, np.asarray(found) == labels)
    assert all(np.all(np.isfinite(each)) for each in gradients)


@functools.partial(jax.jit, static_argnames="block_size")
def mixture(hidden, prior, embedding, bias, labels, block_size):
    """Losses, gradients of the finite ones, and the log-probabilities of all words."""

    def total(*arguments):
        losses = mixture_cross_entropy(*arguments[:3], labels, arguments[3], block_size=block_size)
        return jnp.sum(jnp.where(jnp.isfinite(losses), losses, 0)), losses

    arguments = hidden, prior, embedding, bias
    gradients, losses = jax.grad(total, (0, 1, 2, 3), has_aux=True)(*arguments)
    return losses, gradients, mixture_log_probs(*arguments)


@BLOCKS
@SETTINGS
@hypothesis.given(head=heads((EXPERTS,)), labels=labels, prior=priors)
def test_mixtures_are_those_of_the_logits(block_size, head, labels, prior):
    hidden, embedding, bias = head
    losses, gradients, log_probs = mixture(hidden, prior, embedding, bias, labels, block_size=block_size)
    assert (log_probs.shape, losses.dtype) == ((TOKENS, VOCAB), jnp.float32)
    expected = reference.mixture_log_probs(hidden, prior, embedding, bias)
    scores = reference.SCORES["sigsoftmax"](reference.linear_logits(hidden, embedding, bias))
    size = WIDTH * (row_size(scores).max((1, 2)) + row_size(prior)[:, 0])
    is_live = bias > -np.inf
    np.testing.assert_array_equal(np.asarray(log_probs)[:, ~is_live], -np.inf)
    assert np.all(np.abs(log_probs[:, is_live] - expected[:, is_live]) <= 16 * EPS * size[:, None])
    at_label, live = -expected[np.arange(TOKENS), labels], is_live[labels]
    np.testing.assert_array_equal(np.asarray(losses)[~live], np.inf)
    assert np.all(np.abs(losses[live] - at_label[live]) <= 16 * EPS * size[live])
    assert all(np.all(np.isfinite(each)) for each in gradients)


mixed = jax.jit(log_mixture)


@SETTINGS
@hypothesis.given(log_weights=logits(1e4), components=logits(1e4))
def test_a_mixture_is_no_more_and_no_less_than_its_components(log_weights, components):
    log_weights = reference.log_probs(log_weights[:, :EXPERTS], "softmax").astype(np.float32)
    components = np.stack([components, np.roll(components, 1, -1)], 1)
    components = reference.log_probs(components, "softmax").astype(np.float32)
    found = np.asarray(mixed(log_weights, components))
    expected = reference.log_sum_exp(log_weights[..., None].astype(np.float64) + components, -2)
    live = expected > -np.inf
    np.testing.assert_array_equal(found[~live], -np.inf)
    tolerance = np.broadcast_to(8 * EPS * row_size(expected), found.shape)
    assert np.all(np.abs(found[live] - expected[live]) <= tolerance[live])


generalised = jax.jit(lambda z, c, k: gss_score(c, k)(z))
piecewise = jax.jit(lambda z, log_slopes, limit: plif_score(log_slopes, limit)(z))


@SETTINGS
@hypothesis.given(
    z=logits(2.0**100, masks=False),
    c=strategies.floats(-100, 100, width=32),
    k=strategies.floats(0.125, 8, width=32),
)
def test_the_generalised_sigsoftmax(z, c, k):
    wide = z.astype(np.float64)
    expected = k * (wide - c) + c - (k - 1) * np.logaddexp(0, wide - c)
    size = np.maximum(1, np.maximum(k, 1) * (np.abs(wide) + abs(c)))
    assert np.all(np.abs(generalised(z, c, k) - expected) <= 8 * EPS * size)
    np.testing.assert_array_equal(generalised(z, 0.0, 1.0), softmax_score(jnp.asarray(z)))
    assert np.all(
        np.abs(generalised(z, 0.0, 2.0) - sigsoftmax_score(jnp.asarray(z)))
        <= 4 * EPS * np.maximum(1, 2 * np.abs(z))
    )


@SETTINGS
@hypothesis.given(
    z=logits(2.0**60, masks=False),
    slopes=arrays(np.float32, 5, elements=strategies.floats(-3, 3, width=32)),
    limit=strategies.floats(0.5, 100, width=32),
)
def test_the_learnable_piecewise_linear_score(z, slopes, limit):
    found = np.asarray(piecewise(z, slopes, limit))
    edges = np.linspace(-limit, limit, 6)
    heights = np.concatenate([[0], np.cumsum(np.exp(slopes.astype(np.float64)))]) * (2 * limit / 5) - limit
    wide = z.astype(np.float64)
    inside = np.interp(wide, edges, heights)
    below, above = (
        np.minimum(wide + limit, 0) * np.exp(slopes[0]),
        np.maximum(wide - limit, 0) * np.exp(slopes[-1]),
    )
    size = 21 * np.maximum(limit, np.abs(wide))  # slopes are up to exp(3)
    assert np.all(np.abs(found - (inside + below + above)) <= 8 * EPS * size)
    zeros = np.asarray(piecewise(z, np.zeros(5, np.float32), limit))
    assert np.all(np.abs(zeros - z) <= 8 * EPS * np.maximum(limit, np.abs(z)))


@SETTINGS
@hypothesis.given(nll=strategies.floats(0, 2.0**100, width=32), num_tokens=strategies.integers(1, 2**40))
def test_perplexity_is_the_exponential_of_the_mean(nll, num_tokens):
    with np.errstate(over="ignore"):
        expected = float(np.float32(np.exp(nll / num_tokens)))
    # The rounding of the mean is multiplied by it.
    assert float(perplexity(nll, num_tokens)) == pytest.approx(expected, rel=2 * EPS * max(1, nll / num_tokens))


@SETTINGS
@hypothesis.given(
    seed=seeds, rank=strategies.integers(0, 5), contexts=strategies.integers(1, 12),
    cuts=strategies.lists(strategies.integers(0, 12), max_size=3), exponent=strategies.integers(-100, 100),
)  # fmt: skip
def test_the_rank_is_that_of_the_factors_however_it_is_cut(seed, rank, contexts, cuts, exponent):
    rng = np.random.default_rng(seed)
    factors = np.linalg.qr(rng.normal(size=(12, 5)))[0], np.linalg.qr(rng.normal(size=(VOCAB, 5)))[0]
    matrix = np.ldexp((factors[0][:, :rank] @ factors[1][:, :rank].T)[:contexts], exponent)
    found = log_prob_rank(matrix)
    assert found.shape == matrix.shape
    assert found.rank == min(rank, contexts)
    blocks = np.split(matrix, sorted(min(cut, contexts) for cut in cuts))
    streamed = streamed_log_prob_rank(iter(blocks))
    assert (streamed.rank, streamed.shape) == (found.rank, found.shape)
    size = found.singular_values[0]
    np.testing.assert_allclose(streamed.singular_values, found.singular_values, atol=1e-13 * size)
