"""Scores with parameters: values, limits, and gradients of the parameters through every loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from sigsoftmax_jax import (
    cross_entropy,
    cross_entropy_with_integer_labels,
    gss_score,
    linear_cross_entropy,
    linear_log_normalizer,
    mixture_cross_entropy,
    mixture_log_probs,
    plif_score,
    sigsoftmax_score,
    softmax_score,
)
from tests.sigsoftmax_jax import plain

LOGITS = np.array([-1e4, -300, -110, -60, -17.5, -1.5, -1e-4, 0, 1e-4, 1, 17.5, 60, 110, 300, 1e4], np.float32)
RNG = np.random.default_rng(11)
SLOPES = np.exp(RNG.normal(size=7))


def gss(c, k, z):
    """The formula, with the softplus of NumPy."""
    return k * (z - c) + c - (k - 1) * np.logaddexp(0, z - c)


def plif(slopes, limit, z):
    """The integral of the slopes from -limit on, less limit, by interpolation and the two ends."""
    knots = np.linspace(-limit, limit, len(slopes) + 1)
    values = np.concatenate([[0], np.cumsum(slopes)]) * (2 * limit / len(slopes)) - limit
    inside = np.interp(z, knots, values)
    return inside + slopes[0] * np.minimum(z + limit, 0) + slopes[-1] * np.maximum(z - limit, 0)


@pytest.mark.parametrize(("c", "k"), [(-1.5, 2.5), (0.0, 2.0), (3.0, 0.5), (0.0, 1.0)])
def test_the_generalised_sigsoftmax_matches_float64(c, k):
    score = jax.jit(gss_score(c, k))
    # Three float32 operations, each rounding by half an ulp of up to 25,000.
    np.testing.assert_allclose(score(LOGITS), gss(c, k, LOGITS.astype(float)), rtol=4e-7, atol=3e-7)


def test_special_cases_of_the_generalised_sigsoftmax():
    logits = jnp.array(LOGITS)
    # Below c the constant is subtracted and added again.
    np.testing.assert_allclose(gss_score(0.7, 1.0)(logits), softmax_score(logits), rtol=2e-7, atol=1e-7)
    np.testing.assert_allclose(gss_score(0.0, 2.0)(logits), sigsoftmax_score(logits), rtol=2e-7)


@pytest.mark.parametrize("limit", [2.0, 20.0])
def test_the_piecewise_linear_score_matches_float64(limit):
    z = np.concatenate([LOGITS, np.linspace(-1.1 * limit, 1.1 * limit, 101, dtype=np.float32)])
    scores = jax.jit(plif_score(np.log(SLOPES).astype(np.float32), limit))(z)
    np.testing.assert_allclose(scores, plif(SLOPES, limit, z.astype(float)), rtol=1e-6, atol=2e-6 * limit)


def test_slopes_of_one_are_the_softmax():
    z = jnp.linspace(-30, 30, 1001)
    np.testing.assert_allclose(plif_score(np.zeros(1000, np.float32), 20.0)(z), z, atol=4e-6)  # 2 ulp at 30


@pytest.mark.parametrize("score", [gss_score(-1.5, 2.5), plif_score(np.log(SLOPES), 20.0)], ids=["gss", "plif"])
@pytest.mark.usefixtures("x64")
def test_slopes_at_extreme_logits_are_finite_and_positive(score):
    z = np.concatenate([LOGITS, [-1.5, -1e30, 1e30]]).astype(np.float32)
    slopes = jax.jit(jax.vmap(jax.grad(score)))(z)
    ends = (2.5, 1.0) if np.ndim(score.args[0]) == 0 else SLOPES[[0, -1]]
    np.testing.assert_allclose(slopes[-2:], ends, rtol=1e-6)
    assert np.all((slopes >= min(1, SLOPES.min())) & (slopes <= max(2.5, SLOPES.max()) * (1 + 1e-6)))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_rounds_once(dtype):
    z = jnp.array([-17.5, -1.25, 0.0, 0.5, 17.5], dtype)
    wide = np.asarray(z, np.float64)
    for score, expected in (
        (gss_score(-1.5, 2.5), gss(-1.5, 2.5, wide)),
        (plif_score(np.log(SLOPES), 20.0), plif(SLOPES, 20.0, wide)),
    ):
        assert score(z).dtype == dtype
        rounding = 0.51 * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(np.asarray(score(z), np.float64), expected, rtol=rounding, atol=1e-5)


HIDDEN = RNG.normal(size=(6, 4)) * 2
EMBEDDING = RNG.normal(size=(11, 4))
BIAS = np.where(np.arange(11) == 3, -np.inf, 0)  # one masked word
LABELS = RNG.integers(4, 11, 6)
STATES, PRIOR = np.stack([HIDDEN, -HIDDEN], 1), RNG.normal(size=(6, 2))
ONE_HOT = np.eye(11)[LABELS]
BLOCKED = {"block_size": 4}
# name -> the loss, and the same by the formula.
LOSSES = {
    "logits": (
        lambda s: cross_entropy_with_integer_labels(plain.logits(HIDDEN, EMBEDDING, BIAS), LABELS, score=s),
        lambda s: -plain.at(plain.log_probs(s, plain.logits(HIDDEN, EMBEDDING, BIAS)), LABELS[:, None]),
    ),
    "targets": (
        lambda s: cross_entropy(plain.logits(HIDDEN, EMBEDDING, BIAS), ONE_HOT, score=s),
        lambda s: -plain.at(plain.log_probs(s, plain.logits(HIDDEN, EMBEDDING, BIAS)), LABELS[:, None]),
    ),
    "linear": (
        lambda s: linear_cross_entropy(HIDDEN, EMBEDDING, LABELS, BIAS, score=s, **BLOCKED),
        lambda s: -plain.at(plain.log_probs(s, plain.logits(HIDDEN, EMBEDDING, BIAS)), LABELS[:, None]),
    ),
    "normalizer": (
        lambda s: linear_log_normalizer(HIDDEN, EMBEDDING, score=s, **BLOCKED),
        lambda s: jax.nn.logsumexp(s(plain.logits(HIDDEN, EMBEDDING, 0 * EMBEDDING[:, 0])), -1),
    ),
    "mixture": (
        lambda s: mixture_cross_entropy(STATES, PRIOR, EMBEDDING, LABELS, BIAS, score=s, **BLOCKED),
        lambda s: -plain.at(plain.mixture_log_probs(s, STATES, PRIOR, EMBEDDING, BIAS), LABELS[:, None]),
    ),
    "mixture log-probabilities": (
        lambda s: jnp.exp(mixture_log_probs(STATES, PRIOR, EMBEDDING, BIAS, score=s)[:, :2]),
        lambda s: jnp.exp(plain.mixture_log_probs(s, STATES, PRIOR, EMBEDDING, BIAS)[:, :2]),
    ),
}
SCORES = {
    "gss": (lambda p: gss_score(p[0], jnp.exp(p[1])), np.array([-0.4, 0.9])),
    "plif": (lambda p: plif_score(p, 3.0), np.log(SLOPES)),
}
FEW = [("gss", "linear"), ("plif", "linear"), ("gss", "logits"), ("plif", "mixture"), ("gss", "normalizer")]
REST = [(score, loss) for score in SCORES for loss in LOSSES if (score, loss) not in FEW]


@pytest.mark.parametrize(
    ("score", "loss"), [*FEW, *(pytest.param(*case, marks=pytest.mark.slow) for case in REST)]
)
@pytest.mark.usefixtures("x64")
def test_parameters_are_trained_by_every_loss_as_by_its_formula(score, loss):
    make, parameters = SCORES[score]
    direction = np.linspace(-1, 1, len(parameters))

    def derivatives(function):
        """The value, the gradient for the parameters, and the product of a second derivative."""

        def total(p):
            return function(make(p)).sum()

        value, gradient = jax.value_and_grad(total)(parameters)
        return value, gradient, jax.jvp(jax.grad(total), (parameters,), (direction,))[1]

    ours, formula = jax.jit(lambda: tuple(map(derivatives, LOSSES[loss])))()
    # Sums of up to 66 terms of size 10 in float64.
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-12), ours, formula)
    assert np.abs(ours[1]).max() > 1e-3


@pytest.mark.devices(8)
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.usefixtures("x64")
def test_parameters_are_trained_over_a_sharded_vocabulary(score):
    make, parameters = SCORES[score]
    embedding, bias = np.pad(EMBEDDING, ((0, 5), (0, 0))), np.pad(BIAS, (0, 5), constant_values=-np.inf)

    def loss(p, embedding, bias, axis_name=None):
        options = {"score": make(p), "axis_name": axis_name, "block_size": 1}
        return linear_cross_entropy(HIDDEN, embedding, LABELS, bias, **options).sum()

    step = jax.value_and_grad(lambda p, w, b: loss(p, w, b, "vocab"))
    mesh = jax.make_mesh((8,), ("vocab",), axis_types=(AxisType.Auto,))
    sharded = jax.shard_map(step, mesh=mesh, in_specs=(P(), P("vocab"), P("vocab")), out_specs=(P(), P()))
    ours = jax.jit(sharded)(parameters, embedding, bias)
    formula = jax.jit(jax.value_and_grad(lambda p: LOSSES["linear"][1](make(p)).sum()))(parameters)
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-12), ours, formula)


@pytest.mark.devices(8)
def test_tokens_sharded_over_an_explicit_axis():
    def loss(p):
        score = plif_score(p, 3.0)
        linear = linear_cross_entropy(hidden, EMBEDDING.astype(np.float32), np.arange(8), score=score)
        return cross_entropy_with_integer_labels(hidden, np.arange(8) % 4, score=score).sum() + linear.sum()

    hidden = jnp.array(RNG.normal(size=(8, 4)), jnp.float32)
    parameters = np.log(SLOPES).astype(np.float32)
    expected = jax.jit(jax.value_and_grad(loss))(parameters)
    mesh = jax.make_mesh((8,), ("data",))
    with jax.set_mesh(mesh):
        hidden = jax.device_put(hidden, P("data"))
        actual = jax.jit(jax.value_and_grad(loss))(parameters)
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5), actual, expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gss_score(np.nan, 1.0), "c must be finite, got nan"),
        (lambda: gss_score(0.0, 0.0), "k must be above 0 and finite, got 0.0"),
        (lambda: gss_score(0.0, -jnp.ones(())), "k must be above 0 and finite, got -1.0"),
        (lambda: gss_score(0.0, np.nan), "k must be above 0 and finite, got nan"),
        (lambda: gss_score(np.zeros(2), 2.0), r"c must have shape \(\), one for all logits, got \(2,\)"),
        (lambda: plif_score(jnp.zeros(3), 0.0), "limit must be above 0 and finite, got 0.0"),
        (lambda: plif_score(jnp.zeros((3, 1)), 1.0), r"log_slopes must be \[pieces\] .*, got \(3, 1\)"),
        (lambda: plif_score(jnp.zeros(0), 1.0), r"log_slopes must be \[pieces\] .*, got \(0,\)"),
        (lambda: plif_score(jnp.zeros(3, int), 1.0), "log_slopes must be floating-point, got int"),
    ],
)
@pytest.mark.usefixtures("no_shape_types")
def test_bad_parameters_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
