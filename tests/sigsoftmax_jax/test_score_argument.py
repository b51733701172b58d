"""Scores of the user's own: with parameters, with state, and what is no score."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from sigsoftmax_jax import (
    cross_entropy,
    cross_entropy_with_integer_labels,
    linear_cross_entropy,
    linear_log_normalizer,
    mixture_cross_entropy,
    mixture_log_probs,
    scores,
    sigsoftmax_score,
)
from sigsoftmax_jax._score_argument import as_partial

RNG = np.random.default_rng(8)
HIDDEN = RNG.normal(size=(5, 4))
EMBEDDING = RNG.normal(size=(11, 4))
BIAS = np.where(np.arange(11) == 3, -np.inf, 0)  # one masked word
LABELS = RNG.integers(4, 11, 5)
STATES, PRIOR = np.stack([HIDDEN, -HIDDEN], 1), RNG.normal(size=(5, 2))


def logits():
    return HIDDEN @ EMBEDDING.T + BIAS[None]


LOSSES = {
    "logits": lambda score: cross_entropy_with_integer_labels(logits(), LABELS, score=score).sum(),
    "targets": lambda score: cross_entropy(logits(), jax.nn.one_hot(LABELS, 11), score=score).sum(),
    "linear": lambda score: linear_cross_entropy(HIDDEN, EMBEDDING, LABELS, BIAS, score=score, block_size=4).sum(),
    "normalizer": lambda score: linear_log_normalizer(HIDDEN, EMBEDDING, BIAS, score=score, block_size=4).sum(),
    "mixture": lambda score: mixture_cross_entropy(
        STATES, PRIOR, EMBEDDING, LABELS, BIAS, score=score, block_size=4
    ).sum(),
    "mixture log-probabilities": lambda score: jnp.exp(
        mixture_log_probs(STATES, PRIOR, EMBEDDING, BIAS, score=score)[:, :2]
    ).sum(),
}


def generalised(slope, centre, z):
    """GSS: slope far below the centre, 1 far above it."""
    return slope * (z - centre) + centre - (slope - 1) * jax.nn.softplus(z - centre)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.usefixtures("x64")
def test_parameters_of_a_score_get_their_gradient(name):
    step = jax.jit(jax.value_and_grad(lambda parameters: LOSSES[name](Partial(generalised, *parameters))))
    parameters, size = jnp.array([2.5, -0.4]), 1e-6
    _, gradient = step(parameters)
    for i, direction in enumerate(np.eye(2)):
        above, below = (step(parameters + sign * size * direction)[0] for sign in (1, -1))
        # Central differences err by size^2 and by eps / size = 1e-10.
        np.testing.assert_allclose(gradient[i], (above - below) / (2 * size), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["logits", "linear"])
@pytest.mark.usefixtures("x64")
def test_parameters_of_a_score_give_the_value_of_the_function_without(name):
    @jax.jit
    def with_and_without(parameters):
        without = LOSSES[name](lambda z: generalised(2.5, -0.4, z))
        return LOSSES[name](Partial(generalised, *parameters)), without

    actual, expected = with_and_without(jnp.array([2.5, -0.4]))
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_second_derivative_for_a_parameter():
    def loss(slope):
        return LOSSES["linear"](Partial(generalised, slope, 0.0))

    @jax.jit
    def derivatives(slope):
        return jax.jvp(jax.grad(loss), (slope,), (jnp.ones_like(slope),))

    step = 1e-2
    _, actual = derivatives(2.0)
    expected = (derivatives(2.0 + step)[0] - derivatives(2.0 - step)[0]) / (2 * step)
    # Differences of float32 gradients near 1: 1e-7 / step, and step^2.
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


class Tempered:
    def __init__(self, temperature):
        self.temperature = temperature

    def score(self, z):
        return sigsoftmax_score(z / self.temperature)

    __hash__ = None

    def __call__(self, z):
        return self.score(z)


def by_method(holder):
    return holder.score


def by_object(holder):
    return holder


def by_closure(holder):
    return lambda z: holder.score(1 * z)


def tempered(temperature, z):
    return sigsoftmax_score(z / temperature)


@pytest.mark.parametrize("read", [by_method, by_object, by_closure])
def test_a_function_that_may_hold_something_is_a_new_one_each_time(read):
    score, dtype = read(Tempered(1.0)), jnp.dtype(jnp.float32)
    assert as_partial(score, dtype).func is not as_partial(score, dtype).func


def test_an_entry_of_a_users_own_in_the_table_is_a_function_like_any(monkeypatch):
    score, dtype = by_closure(Tempered(1.0)), jnp.dtype(jnp.float32)
    monkeypatch.setitem(scores.SCORES, "tempered", score)
    assert as_partial(score, dtype).func is not as_partial(score, dtype).func


# Every kind by some loss, on logits or blocked; the mixtures hand their score to the same two functions.
HOLDERS = [("logits", by_method), ("targets", by_object), ("linear", by_closure), ("normalizer", by_object)]
OTHER_HOLDERS = [(name, read) for name in LOSSES for read in (by_method, by_object, by_closure)]


@pytest.mark.parametrize(
    ("name", "read"),
    [*HOLDERS, *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHER_HOLDERS if case not in HOLDERS)],
)
def test_a_score_that_holds_state_is_read_anew(name, read):
    holder = Tempered(1.0)
    score = read(holder)
    expected = jax.jit(lambda temperature: LOSSES[name](Partial(tempered, temperature)))
    for temperature in (1.0, 5.0):
        holder.temperature = temperature
        np.testing.assert_allclose(LOSSES[name](score), expected(temperature), rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_traced_value_in_a_closure_is_refused(name):
    for transformed in (jax.grad, jax.jit):
        with pytest.raises(ValueError, match=r"score must be .* no traced arrays, got .* as parameters"):
            transformed(lambda t: LOSSES[name](lambda z: sigsoftmax_score(z / t)))(2.0)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.usefixtures("no_shape_types")
def test_what_is_no_function_is_refused(name):
    with pytest.raises(ValueError, match=r"such as softmax_score, sigsoftmax_score, .*, got 'softmax'"):
        LOSSES[name]("softmax")


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda z: jnp.zeros(()), r"got float32\[\] of float32\[2, 3\]"),
        (lambda z: z.sum(-1), r"shape and dtype of its logits, got float32\[2\] of"),
        (lambda z: z.astype(jnp.bfloat16), r"got bfloat16\[2, 3\] of"),
        (Partial(lambda mode, z: z, mode="a"), "parameters of score must be numbers or arrays, got 'a'"),
    ],
)
def test_a_function_that_is_no_score_is_refused(score, message):
    with pytest.raises(ValueError, match=message):
        LOSSES["linear"](score)


def plain(z):
    return 2 * z


def test_a_function_that_holds_nothing_is_compiled_once(count_compilations):
    linear_cross_entropy(HIDDEN, EMBEDDING, LABELS, score=plain)
    with count_compilations() as compiled:
        linear_cross_entropy(HIDDEN, EMBEDDING, LABELS, score=plain)
    assert compiled.count == 0
