"""Numerical rank: what it is for, the default tolerance, and the streamed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigsoftmax_jax import (
    _streamed_qr,
    log_normalize,
    log_prob_rank,
    log_sigsoftmax,
    mixture_log_probs,
    rank,
    softmax_score,
    streamed_log_prob_rank,
)
from sigsoftmax_jax._streamed_qr import append_columns

RNG = np.random.default_rng(6)
CONTEXTS, VOCAB, WIDTH = 500, 200, 10
HIDDEN = RNG.normal(size=(CONTEXTS, WIDTH)).astype(np.float32)
EMBEDDING = RNG.normal(size=(VOCAB, WIDTH)).astype(np.float32)
BIAS = RNG.normal(size=(1, VOCAB)).astype(np.float32)
LOGITS = jnp.array(HIDDEN @ EMBEDDING.T)  # standard deviation about 3


def graded(shape, smallest=1e-12):
    """A matrix with known singular values from 1 down to ``smallest`` in random directions."""
    count = min(shape)
    left, _ = np.linalg.qr(RNG.normal(size=(shape[0], count)))
    right, _ = np.linalg.qr(RNG.normal(size=(shape[1], count)))
    values = np.geomspace(1, smallest, count)
    return (left * values) @ right.T, values


def test_sigsoftmax_breaks_the_bottleneck_and_softmax_does_not():
    # float32, default tolerance 0.5 sqrt(m + n + 1) s_max eps = 1.6e-6 s_max.
    with_bias, without, by_sigsoftmax = jax.jit(
        lambda z: (log_normalize(z + BIAS), log_normalize(z), log_sigsoftmax(z + BIAS))
    )(LOGITS)
    softmax = log_prob_rank(with_bias)
    assert softmax.dtype == np.float32
    assert softmax.rank == WIDTH + 2
    assert log_prob_rank(without).rank == WIDTH + 1
    assert log_prob_rank(by_sigsoftmax).rank == VOCAB


def test_mixture_of_softmaxes_breaks_the_bottleneck():
    states = jnp.array(RNG.normal(size=(CONTEXTS, 3, WIDTH)), jnp.float32)
    compiled = jax.jit(mixture_log_probs, static_argnames="score")
    log_probs = compiled(states, jnp.zeros((CONTEXTS, 3)), EMBEDDING, score=softmax_score)
    assert log_prob_rank(log_probs).rank > 10 * (WIDTH + 2)


def test_default_tolerance_is_that_of_the_literature():
    report = log_prob_rank(np.diag([4.0, 3.0, 1e-20]))
    assert report.tolerance == pytest.approx(0.5 * np.sqrt(7) * 4 * np.finfo(np.float64).eps, rel=1e-12)
    assert (report.rank, report.dtype, report.shape) == (2, np.float64, (3, 3))
    assert log_prob_rank(np.diag([4.0, 3.0, 1e-20]), tolerance=3.5).rank == 1
    half = log_prob_rank(jnp.eye(3, dtype=jnp.bfloat16))
    assert (half.dtype, half.tolerance) == (jnp.bfloat16, pytest.approx(0.5 * np.sqrt(7) * 2.0**-7))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
def test_rounding_to_half_precision_adds_no_rank(dtype):
    log_probs = log_normalize(jnp.asarray(LOGITS + BIAS, dtype))
    whole = log_prob_rank(log_probs)
    assert (whole.rank <= WIDTH + 2, whole.dtype) == (True, dtype)
    assert (whole.singular_values > 1e-6 * whole.singular_values[0]).all()  # what float32's eps would count
    streamed = streamed_log_prob_rank(log_probs[i : i + 64] for i in range(0, CONTEXTS, 64))
    assert (streamed.rank, streamed.dtype) == (whole.rank, dtype)
    assert f"500 x 200 {jnp.dtype(dtype).name} at tolerance" in str(whole)


def test_effective_rank_is_the_fewest_that_hold_the_share():
    report = log_prob_rank(np.diag([3.0, 2.0, 1.0]))  # squares 9, 4, 1 of 14
    assert [report.effective_rank(e) for e in (0.5, 0.36, 0.35, 0.07)] == [1, 1, 2, 3]
    assert log_prob_rank(np.zeros((2, 3))).effective_rank() == 0
    for scale in (1e-200, 1e200):  # whose squares are 0 and inf
        assert log_prob_rank(scale * np.diag([3.0, 2.0, 1.0])).effective_rank(0.35) == 2
    assert "rank 3 of 3 x 3 float64" in str(report)
    with pytest.raises(ValueError, match=r"epsilon must be in \(0, 1\), got 0.0"):
        report.effective_rank(0.0)


@pytest.mark.parametrize("shape", [(280, 200), (300, 130), (90, 150), (129, 129)])
@pytest.mark.parametrize("contexts", [1_000, 128, 37])
def test_streamed_equals_whole(shape, contexts):
    matrix, values = graded(shape)
    report = streamed_log_prob_rank(matrix[i : i + contexts] for i in range(0, shape[0], contexts))
    # Orthogonal transformations: a few eps times the largest value, which is 1.
    np.testing.assert_allclose(report.singular_values, values, rtol=0, atol=50 * np.finfo(float).eps)
    assert report.shape == shape
    assert report.rank == log_prob_rank(matrix).rank == min(shape)


@pytest.mark.parametrize("contexts", [7, 16, 45])
def test_contexts_are_folded_in_together_however_the_blocks_are_cut(contexts, monkeypatch):
    # A vocabulary of several panels and chunks, and blocks below, at and above the number folded in at once.
    folded = []
    monkeypatch.setattr(_streamed_qr, "PANEL", 12)
    monkeypatch.setattr(_streamed_qr, "CHUNK", 10)
    monkeypatch.setattr(rank, "BLOCK_CONTEXTS", 16)
    monkeypatch.setattr(
        rank, "append_columns", lambda *args: folded.append(args[1].shape[1]) or append_columns(*args)
    )
    matrix, values = graded((90, 57))
    report = streamed_log_prob_rank(matrix[i : i + contexts] for i in range(0, 90, contexts))
    np.testing.assert_allclose(report.singular_values, values, rtol=0, atol=50 * np.finfo(float).eps)
    # What was held when the contexts became more than the words, then each block.
    assert folded == [48, 16, 16, 10]


def test_the_gram_matrix_would_lose_the_small_values():
    matrix, values = graded((280, 200))
    gram = np.sqrt(np.maximum(np.linalg.eigvalsh(matrix.T @ matrix)[::-1], 0))
    streamed = streamed_log_prob_rank([matrix]).singular_values
    small = values < 1e-9
    # This is the plant for the test above: squaring leaves nothing right below sqrt(eps) = 1.5e-8.
    assert np.abs(gram - values)[small].max() > 1e-10
    assert np.abs(streamed - values)[small].max() < 1e-14


def test_streamed_log_probabilities_keep_dtype_and_rank():
    log_probs = log_normalize(LOGITS + BIAS)
    whole = log_prob_rank(log_probs)
    streamed = streamed_log_prob_rank(log_probs[i : i + 64] for i in range(0, CONTEXTS, 64))
    assert (streamed.rank, streamed.dtype, streamed.shape) == (whole.rank, whole.dtype, whole.shape)
    assert streamed.tolerance == pytest.approx(whole.tolerance, rel=1e-12)


@pytest.mark.parametrize("shape", [(400, 300), (5_000, 20)])
def test_every_context_of_a_long_block_counts_and_none_is_changed(shape):
    matrix = RNG.normal(size=shape)
    before = matrix.copy()
    values = streamed_log_prob_rank([matrix[:1], matrix[1:]]).singular_values
    np.testing.assert_array_equal(matrix, before)
    np.testing.assert_allclose(values, np.linalg.svd(before, compute_uv=False), rtol=1e-12)


def test_a_bad_tolerance_consumes_no_block():
    blocks = iter([np.eye(3)])
    with pytest.raises(ValueError, match="tolerance must be finite"):
        streamed_log_prob_rank(blocks, tolerance=-1.0)
    assert len(list(blocks)) == 1


def test_a_zero_block_and_a_repeated_context_add_no_rank():
    context = RNG.normal(size=(1, 20))
    blocks = [np.zeros((5, 20)), context, context, np.zeros((200, 20)), 3 * context]
    assert streamed_log_prob_rank(blocks).rank == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_prob_rank(np.zeros(3)), r"log_probs must be \[contexts, vocab\], got \(3,\)"),
        (lambda: log_prob_rank(np.array([[0.0, -np.inf]])), "log_probs must be finite .*, got -inf"),
        (lambda: log_prob_rank(np.zeros((2, 2), int)), "log_probs must be floating-point, got int"),
        (
            lambda: jax.jit(log_prob_rank)(np.zeros((2, 2))),
            "log_probs must be known: the rank is computed on the host",
        ),
        (lambda: log_prob_rank(np.eye(2), tolerance=np.ones(2)), "tolerance must be finite and not negative"),
        (lambda: log_prob_rank(np.zeros((0, 5))), r"log_probs must have at least one context, got \(0, 5\)"),
        (lambda: log_prob_rank(np.eye(2), tolerance=-1.0), "tolerance must be finite and not negative, got -1"),
        (lambda: log_prob_rank(np.eye(2), tolerance=np.nan), "tolerance must be finite and not negative"),
        (lambda: log_prob_rank(np.eye(2), tolerance=np.inf), "tolerance must be finite and not negative"),
        (lambda: streamed_log_prob_rank(iter([]), tolerance=-1.0), "tolerance must be finite and not negative"),
        (lambda: streamed_log_prob_rank([]), "blocks must have at least one context, got none"),
        (
            lambda: streamed_log_prob_rank([np.eye(3), np.eye(4)]),
            r"blocks must have 3 columns .*, got \(4, 4\)",
        ),
        (
            lambda: streamed_log_prob_rank([np.eye(3), np.eye(3, dtype=np.float32)]),
            "blocks must have dtype float64 .*, got float32",
        ),
    ],
)
@pytest.mark.usefixtures("no_shape_types")
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
