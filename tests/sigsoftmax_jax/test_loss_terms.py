"""Soft targets, label smoothing and z-loss of the blocked losses: as the formula on whole logits, and sharded."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from sigsoftmax_jax import (
    gss_score,
    linear_cross_entropy,
    mixture_cross_entropy,
    sigmoid_score,
    sigsoftmax_score,
    softmax_score,
)
from tests.sigsoftmax_jax import plain

TOKENS, EXPERTS, WIDTH, VOCAB = 6, 2, 4, 16
RNG = np.random.default_rng(12)
HIDDEN = RNG.normal(size=(TOKENS, WIDTH))
STATES, PRIOR = RNG.normal(size=(TOKENS, EXPERTS, WIDTH)), RNG.normal(size=(TOKENS, EXPERTS))
EMBEDDING = RNG.normal(size=(VOCAB, WIDTH)) * 2
BIAS = RNG.normal(size=VOCAB)
BIAS[[3, 14, 15]] = -np.inf  # two of them are all that the last of eight devices has
LABELS = RNG.integers(4, 14, TOKENS)
IDS = RNG.integers(4, 14, (TOKENS, 3))
IDS[0] = 5, 3, 5  # one word twice, and a masked one
WEIGHTS = RNG.random((TOKENS, 3))
WEIGHTS[0, 1] = 0
SOFT = {"labels": None, "target_ids": IDS}
HARD = {"labels": LABELS}
TERMS = {"label_smoothing": 0.1, "z_loss": 0.05}
CASES = {
    "smoothing": (sigsoftmax_score, HARD, {"label_smoothing": 0.1}),
    "z-loss": (sigsoftmax_score, HARD, {"z_loss": 0.05}),
    "both": (sigmoid_score, HARD, TERMS),
    "soft targets": (softmax_score, SOFT, {}),
    "soft targets and both": (gss_score(-0.5, 2.5), SOFT, TERMS),
}


def linear(case, arrays, **options):
    """The summed loss of hidden, embedding, bias and weights, of which integer labels have none."""
    score, targets, terms = CASES[case]
    hidden, embedding, bias, weights = arrays
    soft = {"targets": weights} if targets is SOFT else {}
    return linear_cross_entropy(
        hidden, embedding, bias=bias, score=score, **targets, **soft, **terms, **options
    ).sum()


def by_formula(case, arrays):
    score, targets, terms = CASES[case]
    hidden, embedding, bias, weights = arrays
    logits = plain.logits(hidden, embedding, bias)
    live = logits > -jnp.inf
    log_probs = plain.log_probs(score, logits)
    if targets is SOFT:
        losses = -jnp.sum(weights * plain.at(log_probs, IDS), -1)
    else:
        losses = -plain.at(log_probs, LABELS[:, None])[:, 0]
    mean = jnp.where(live, log_probs, 0).sum(-1) / live.sum(-1)
    scores = jnp.where(live, score(jnp.where(live, logits, 0)), plain.MASKED)
    smoothing, z_loss = terms.get("label_smoothing", 0), terms.get("z_loss", 0)
    losses = (1 - smoothing) * losses - smoothing * mean
    return jnp.sum(losses + z_loss * jax.nn.logsumexp(scores, -1) ** 2)


# With all terms at once, over devices; each term by itself is a slow test there.
SHARDED = ("both", "soft targets", "soft targets and both")
ARRAYS = HIDDEN, EMBEDDING, BIAS, WEIGHTS
DIRECTIONS = tuple(RNG.normal(size=array.shape) for array in ARRAYS)


def derivatives(total, arrays, directions):
    """The value, its gradients, and the product of its second derivative with the directions."""
    # A masked word stays where it is.
    directions = tuple(jnp.where(jnp.isfinite(a), d, 0) for a, d in zip(arrays, directions, strict=True))
    value, gradients = jax.value_and_grad(total)(arrays)
    return value, gradients, jax.jvp(jax.grad(total), (arrays,), (directions,))[1]


@functools.cache
def expected(case):
    return jax.jit(lambda: derivatives(functools.partial(by_formula, case), ARRAYS, DIRECTIONS))()


def close(actual, wanted):
    # Sums of a hundred float64 terms of size 10.
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-11), actual, wanted)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("x64")
def test_value_gradient_and_second_derivative_are_those_of_the_formula(case):
    total = functools.partial(linear, case, block_size=5)
    close(jax.jit(lambda *a: derivatives(total, *a))(ARRAYS, DIRECTIONS), expected(case))


@pytest.mark.devices(8)
@pytest.mark.parametrize(
    "case", [case if case in SHARDED else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
@pytest.mark.usefixtures("x64")
def test_the_same_over_a_sharded_vocabulary(case):
    total = functools.partial(linear, case, axis_name="vocab", block_size=1)
    specs = (P(), P("vocab"), P("vocab"), P())
    mesh = jax.make_mesh((8,), ("vocab",), axis_types=(AxisType.Auto,))
    step = jax.shard_map(
        lambda *a: derivatives(total, *a), mesh=mesh, in_specs=(specs, specs), out_specs=(P(), specs, specs)
    )
    close(jax.jit(step)(ARRAYS, DIRECTIONS), expected(case))


def mixture(arrays, **options):
    hidden, prior, embedding, bias, weights = arrays
    return mixture_cross_entropy(
        hidden, prior, embedding, None, bias, targets=weights, target_ids=IDS, **options
    ).sum()


def mixture_by_formula(arrays):
    *head, weights = arrays
    return -jnp.sum(weights * plain.at(plain.mixture_log_probs(sigsoftmax_score, *head), IDS))


@pytest.mark.devices(8)
@pytest.mark.parametrize("axis_name", [None, "vocab"])
@pytest.mark.usefixtures("x64")
def test_soft_targets_of_a_mixture_are_those_of_the_formula(axis_name):
    arrays = STATES, PRIOR, EMBEDDING, BIAS, WEIGHTS
    directions = tuple(np.random.default_rng(0).normal(size=array.shape) for array in arrays)
    total = functools.partial(mixture, axis_name=axis_name, block_size=5)
    step = functools.partial(derivatives, total)
    if axis_name is not None:
        specs = (P(), P(), P("vocab"), P("vocab"), P())
        mesh = jax.make_mesh((8,), ("vocab",), axis_types=(AxisType.Auto,))
        step = jax.shard_map(step, mesh=mesh, in_specs=(specs, specs), out_specs=(P(), specs, specs))
    wanted = jax.jit(lambda: derivatives(mixture_by_formula, arrays, directions))()
    close(jax.jit(step)(arrays, directions), wanted)


def test_tokens_that_do_not_count_may_hold_anything():
    where = np.array([True, False, True, True, False, True])
    hidden, weights, ids = HIDDEN.copy(), WEIGHTS.copy(), IDS.copy()
    hidden[1], weights[1], ids[4] = np.nan, np.inf, [-100, VOCAB, 0]
    narrow = [jnp.asarray(x, jnp.float32) for x in (hidden, EMBEDDING, BIAS, weights)]

    def total(arrays, where, ids):
        hidden, embedding, bias, weights = arrays
        options = {"targets": weights, "target_ids": ids, "where": where, **TERMS}
        losses = linear_cross_entropy(hidden, embedding, None, bias, **options)
        return losses.sum(), losses

    step = jax.jit(jax.value_and_grad(total, has_aux=True))
    (_, losses), gradients = step(narrow, where, ids)
    np.testing.assert_array_equal(losses[~where], 0)
    counted = [x[where] if len(x) == TOKENS else x for x in narrow]
    (_, wanted), wanted_gradients = step(counted, np.ones(4, bool), ids[where])
    np.testing.assert_allclose(losses[where], wanted, rtol=1e-6)
    for actual, some in zip(gradients, wanted_gradients, strict=True):
        if len(actual) == TOKENS:
            np.testing.assert_array_equal(actual[~where], 0)
        np.testing.assert_allclose(actual[where] if len(actual) == TOKENS else actual, some, rtol=1e-5, atol=1e-6)


def test_every_word_masked_is_an_infinite_loss_that_moves_nothing():
    bias = jnp.full(VOCAB, -jnp.inf)
    narrow = jnp.asarray(HIDDEN, jnp.float32), jnp.asarray(EMBEDDING, jnp.float32)
    step = jax.value_and_grad(
        lambda *a: linear_cross_entropy(*a, LABELS, bias, block_size=5, **TERMS).sum(), (0, 1)
    )
    loss, gradients = jax.jit(step)(*narrow)
    assert loss == np.inf
    jax.tree.map(lambda g: np.testing.assert_array_equal(g, 0), gradients)


def test_smoothing_at_large_logits_is_exact_to_the_size_of_the_loss():
    # Logits of 1e4 +- 1: a sum of scores that is not relative to the largest one would lose the loss's digits.
    bias = jnp.array(1e4 + np.arange(VOCAB) / 8, jnp.float32)
    hidden, embedding = jnp.zeros((1, 2)), jnp.zeros((VOCAB, 2))
    loss = linear_cross_entropy(hidden, embedding, jnp.array([3]), bias, label_smoothing=0.5, block_size=5)
    log_probs = np.arange(VOCAB) / 8 - np.log(np.sum(np.exp(np.arange(VOCAB) / 8)))
    np.testing.assert_allclose(loss, [-0.5 * log_probs[3] - 0.5 * log_probs.mean()], rtol=1e-6)


def test_a_traced_target_out_of_range_is_nan():
    hidden, embedding, targets = jnp.ones((2, 3)), jnp.ones((4, 3)), jnp.ones((2, 2))
    losses = jax.jit(lambda ids: linear_cross_entropy(hidden, embedding, None, targets=targets, target_ids=ids))
    np.testing.assert_array_equal(np.isnan(losses(jnp.array([[0, 4], [0, 1]]))), [True, False])


ONES = np.ones((TOKENS, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ONES}, "labels must be None where targets and target_ids are given"),
        ({"labels": None}, "targets and target_ids must be given where labels are None"),
        ({"labels": None, "targets": ONES}, "targets and target_ids must be given where labels are None"),
        (
            {"labels": None, "targets": ONES, "target_ids": IDS},
            r"target_ids must have shape \(6, 2\), one word for each target, got \(6, 3\)",
        ),
        (
            {"labels": None, "targets": ONES[1:], "target_ids": IDS},
            r"targets must have shape \(6,\) and a last dimension, got \(5, 2\)",
        ),
        ({"labels": None, "targets": ONES, "target_ids": ONES}, "target_ids must be integers, got float"),
        (
            {"labels": None, "targets": WEIGHTS, "target_ids": IDS + VOCAB},
            r"target_ids must be in \[0, 16\), got 19 to 28",
        ),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1.0"),
        ({"z_loss": -1.0}, "z_loss must be finite and not negative, got -1.0"),
        ({"z_loss": np.nan}, "z_loss must be finite and not negative, got nan"),
        ({"z_loss": np.ones(2)}, "z_loss must be a number known before tracing, got"),
    ],
)
@pytest.mark.usefixtures("no_shape_types")
def test_bad_input_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(HIDDEN, EMBEDDING, **({"labels": LABELS} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"label_smoothing": 0.1},
            "label_smoothing must be 0 for a mixture, as its mean needs log p of every word",
        ),
        ({"z_loss": 0.1}, "z_loss must be 0 for a mixture, as its probabilities have no normaliser, got 0.1"),
    ],
)
def test_a_mixture_says_why_it_has_no_such_term(changes, message):
    with pytest.raises(ValueError, match=message):
        mixture_cross_entropy(STATES, PRIOR, EMBEDDING, LABELS, **changes)
