"""log_normalize, log_sigsoftmax and sigsoftmax: values, masks, axes, derivatives, transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from sigsoftmax_jax import log_normalize, log_sigsoftmax, sigsoftmax, sigsoftmax_score
from sigsoftmax_jax.scores import SCORES
from tests.sigsoftmax_jax import reference
from tests.sigsoftmax_jax.hard_logits import (
    FEW_CLASSES,
    HARD_LOGITS,
    MANY_CLASSES,
    STANDARD_NORMAL,
    UNIFORM,
    assert_log_sigsoftmax,
    below,
)

compiled_log_sigsoftmax = jax.jit(log_sigsoftmax)


def test_log_sigsoftmax_is_within_4_ulp_of_float64():
    assert_log_sigsoftmax(compiled_log_sigsoftmax)
    # Operation by operation as well, where nothing is fused.
    assert_log_sigsoftmax(log_sigsoftmax, [FEW_CLASSES])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_within_its_own_rounding(dtype):
    # float16 ends at 65,504 and rounds 1e4 to 8. Evaluated in float32 and rounded once: half an ulp, and a
    # float32 ulp or two beside it.
    assert_log_sigsoftmax(compiled_log_sigsoftmax, below(400), dtype, ulps=0.51)
    assert log_sigsoftmax(jnp.zeros(3, dtype)).dtype == dtype


def shifted_before_the_sigmoid(z):
    return jax.nn.log_softmax(sigsoftmax_score(z - z.max(-1, keepdims=True)))


def log_of_the_sigmoid(z):
    return jax.nn.log_softmax(z + jnp.log(jax.nn.sigmoid(z) + 1e-8))


def one_maximum_for_the_batch(z):
    weights = jnp.exp(sigsoftmax_score(z) - sigsoftmax_score(z).max())
    return jnp.log(weights / weights.sum(-1, keepdims=True))


def sigmoid_left_unshifted(z):
    weights = jnp.exp(z - z.max(-1, keepdims=True)) * jax.nn.sigmoid(z)
    return jnp.log(weights / weights.sum(-1, keepdims=True))


def normalizer_left_unshifted(z):
    return sigsoftmax_score(z) - jax.nn.logsumexp(sigsoftmax_score(z), axis=-1, keepdims=True)


def one_maximum_and_epsilon(z):
    weights = jnp.exp(sigsoftmax_score(z) - sigsoftmax_score(z).max())
    return jnp.log(weights / weights.sum(-1, keepdims=True) + 1e-8)


WRONG_FORMS = [
    shifted_before_the_sigmoid,
    log_of_the_sigmoid,
    one_maximum_for_the_batch,
    one_maximum_and_epsilon,
    sigmoid_left_unshifted,
    normalizer_left_unshifted,
    jax.nn.log_softmax,
]


@pytest.mark.parametrize("form", WRONG_FORMS)
def test_the_check_rejects_wrong_forms(form):
    with pytest.raises(AssertionError):
        assert_log_sigsoftmax(jax.jit(form))


def test_log_normalize_matches_float64_for_every_score():
    z = jnp.array(STANDARD_NORMAL * 3, jnp.float32)
    actual = jax.jit(lambda z: {name: log_normalize(score(z)) for name, score in SCORES.items()})(z)
    for name, log_probs in actual.items():
        expected = reference.log_probs(np.asarray(z, np.float64), name)
        # 4 ulp at the largest log-probability, about 25.
        np.testing.assert_allclose(log_probs, expected, atol=4 * 2.0**-19)


def test_probabilities_are_the_exponentials_and_sum_to_one():
    z = jnp.array(MANY_CLASSES, jnp.float32)
    log_probs, probs = compiled_log_sigsoftmax(z), jax.jit(sigsoftmax)(z)
    # Two libraries round their exponentials; below 1e-37 only one of them has numbers.
    np.testing.assert_allclose(probs, np.exp(log_probs), rtol=2e-6, atol=1e-37)
    np.testing.assert_allclose(probs.sum(-1), 1, atol=1e-6)
    assert float(log_probs.max()) <= 0


def test_any_axis():
    z = np.random.default_rng(1).normal(size=(3, 4, 5)).astype(np.float32)
    s = reference.SCORES["sigsoftmax"](z.astype(np.float64))
    expected = {0: (0,), 1: (1,), -1: (2,), (0, 2): (0, 2), (-1, 1): (1, 2), None: (0, 1, 2)}
    actual = jax.jit(lambda z: [log_sigsoftmax(z, axis) for axis in expected])(z)
    for log_probs, axes in zip(actual, expected.values(), strict=True):
        wanted = s - np.log(np.exp(s).sum(axes, keepdims=True))
        np.testing.assert_allclose(log_probs, wanted, atol=2e-6, err_msg=str(axes))  # 4 ulp at 5


def test_where_equals_minus_infinity_and_broadcasts():
    z = jnp.array(STANDARD_NORMAL[:, :7], jnp.float32)
    keep = jnp.array([[True, False, True, True, False, True, True]])

    @jax.jit
    def masked(z):
        by_infinity = log_sigsoftmax(jnp.where(jnp.broadcast_to(keep, z.shape), z, -jnp.inf))
        gradient = jax.grad(lambda z: jnp.sum(sigsoftmax(z, where=keep) ** 2))(z)
        return by_infinity, log_sigsoftmax(z, where=keep), sigsoftmax(z, where=keep), gradient

    by_infinity, by_where, probs, gradient = masked(z)
    np.testing.assert_array_equal(by_where, by_infinity)
    np.testing.assert_array_equal(probs[:, 1], 0)
    np.testing.assert_array_equal(gradient[:, 1], 0)
    assert np.all(np.asarray(gradient[:, 0]) != 0)


def test_without_entries_probability_and_gradient_are_zero():
    z = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    keep = jnp.array([[False, False], [True, True]])

    def first(z):
        return sigsoftmax(z, where=keep)[:, 0].sum(), (log_sigsoftmax(z, where=keep), sigsoftmax(z, where=keep))

    gradient, (log_probs, probs) = jax.jit(jax.grad(first, has_aux=True))(z)
    np.testing.assert_array_equal(log_probs[0], [-jnp.inf, -jnp.inf])
    np.testing.assert_array_equal(probs[0], [0, 0])
    np.testing.assert_array_equal(gradient[0], [0, 0])
    assert np.all(np.asarray(gradient[1]) != 0)


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_jacobian_is_the_closed_form(mode):
    z = np.concatenate([x[:, :9] for x in HARD_LOGITS]).astype(np.float32)
    expected = [reference.jacobian(each) for each in z.astype(np.float64)]
    actual = jax.jit(jax.vmap(mode(log_sigsoftmax)))(z)
    # A probability carries the absolute rounding of its log-probability, 1e-6 wherever it is not 0.
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_gradients_are_finite_everywhere():
    @jax.jit
    def first_and_second(z):
        first = jax.grad(lambda z: jnp.sum(jnp.where(z > -jnp.inf, log_sigsoftmax(z), 0) ** 2))(z)
        return first, jax.jvp(jax.grad(lambda z: jnp.sum(sigsoftmax(z) ** 2)), (z,), (jnp.ones_like(z),))[1]

    for z in HARD_LOGITS:
        first, second = first_and_second(jnp.array(z, jnp.float32))
        assert np.all(np.isfinite(first))
        assert np.all(np.isfinite(second))


@pytest.mark.usefixtures("x64")
def test_hessian_vector_products_match_finite_differences():
    z = jnp.array([-2.0, 0.0, 0.5, 3.0, -jnp.inf])
    direction = jnp.array([0.3, -1.0, 0.7, 0.2, 0.0])
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(jnp.arange(4) * log_sigsoftmax(z)[:4])))
    step = 1e-5
    expected = (gradient(z + step * direction) - gradient(z - step * direction)) / (2 * step)
    forward_over_reverse = jax.jvp(gradient, (z,), (direction,))[1]
    reverse_over_reverse = jax.jit(jax.grad(lambda z: jnp.vdot(gradient(z), direction)))(z)
    # Central differences err by step^2 and by eps / step, both about 1e-10.
    np.testing.assert_allclose(forward_over_reverse, expected, atol=1e-8)
    np.testing.assert_allclose(reverse_over_reverse, expected, atol=1e-8)


def test_limits_of_a_shift():
    z = jnp.linspace(-3.0, 3.0, 11)
    # Either limit is 2 exp(-(40 - 3)) away, far below float32; z + 40 itself rounds to 4e-6.
    np.testing.assert_allclose(compiled_log_sigsoftmax(z + 40), jax.nn.log_softmax(z), atol=1e-5)
    np.testing.assert_allclose(compiled_log_sigsoftmax(z - 40), jax.nn.log_softmax(2 * z), atol=2e-5)


def test_is_not_shift_invariant_yet_keeps_the_order():
    z = jnp.array(STANDARD_NORMAL, jnp.float32)
    log_probs = compiled_log_sigsoftmax(z)
    assert float(jnp.abs(compiled_log_sigsoftmax(z + 1) - log_probs).max()) > 0.1
    np.testing.assert_array_equal(jnp.argsort(log_probs), jnp.argsort(z))


@pytest.mark.devices(8)
def test_same_value_and_gradient_under_every_transformation():
    z = jnp.array(STANDARD_NORMAL[:, :6], jnp.float32)
    expected = reference.log_probs(z)[:, 2]
    expected_gradients = [reference.jacobian(each)[2] for each in np.asarray(z)]

    def value_and_gradient(example):
        return jax.value_and_grad(lambda r: log_sigsoftmax(r)[2])(example)

    mesh = jax.make_mesh((8,), ("examples",), axis_types=(AxisType.Auto,))
    mapped = jax.vmap(value_and_gradient)
    sharded = jax.shard_map(mapped, mesh=mesh, in_specs=P("examples"), out_specs=P("examples"))
    for transformed in (mapped, jax.jit(mapped), jax.pmap(value_and_gradient), jax.jit(sharded)):
        values, gradients = transformed(z)
        # 4 ulp at values of 3, and a few of the largest slope, 2.
        np.testing.assert_allclose(values, expected, atol=1e-6)
        np.testing.assert_allclose(gradients, expected_gradients, atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_double_precision_stays_double():
    z = jnp.array(UNIFORM)
    log_probs = compiled_log_sigsoftmax(z)
    assert log_probs.dtype == jnp.float64
    # A few double ulp at 200.
    np.testing.assert_allclose(log_probs, reference.log_probs(np.asarray(z)), atol=2e-13)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axis": 2}, r"axis must be in \[-2, 2\) for 2 dimensions, got 2"),
        ({"axis": -3}, "axis must be in .* got -3"),
        ({"axis": (0, -2)}, r"axis must be distinct dimensions of 2, got \(0, -2\)"),
        ({"axis": 1.0}, "axis must be an integer, a tuple of integers or None, got 1.0"),
        ({"axis": [0]}, r"axis must be an integer, .*, got \[0\]"),
        ({"where": jnp.ones((3, 4), bool)}, r"where must broadcast to logits of shape \(2, 3\), got \(3, 4\)"),
        ({"where": jnp.ones((2, 3))}, "where must be boolean, got float32"),
    ],
)
@pytest.mark.parametrize("function", [log_normalize, log_sigsoftmax, sigsoftmax])
@pytest.mark.usefixtures("no_shape_types")
def test_bad_input_is_named(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(jnp.zeros((2, 3)), **arguments)


@pytest.mark.usefixtures("no_shape_types")
def test_integer_logits_are_refused():
    with pytest.raises(ValueError, match="logits must be floating-point, got int32"):
        log_sigsoftmax(jnp.arange(3))
