"""Cross-entropy on logits against float64: values, gradients, masks, smoothing, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sigsoftmax_jax import (
    cross_entropy,
    cross_entropy_with_integer_labels,
    linear_cross_entropy,
    log_sigsoftmax,
    mixture_cross_entropy,
    perplexity,
    softmax_score,
)
from sigsoftmax_jax.scores import SCORES
from tests.sigsoftmax_jax import reference
from tests.sigsoftmax_jax.hard_logits import HARD_LOGITS

RNG = np.random.default_rng(2)
LOGITS = (RNG.normal(size=(6, 11)) * 4).astype(np.float32)
LABELS = RNG.integers(0, 11, 6)
TARGETS = RNG.dirichlet(np.ones(11), 6).astype(np.float32)
compiled_loss = jax.jit(cross_entropy_with_integer_labels, static_argnames=("score", "axis", "label_smoothing"))


def losses_and_gradients(loss, *arguments):
    """The losses, and the gradients of their sum for every argument, in one compiled program."""

    def total(*arguments):
        losses = loss(*arguments)
        return losses.sum(), losses

    step = jax.jit(jax.value_and_grad(total, tuple(range(len(arguments))), has_aux=True))
    (_, losses), gradients = step(*arguments)
    return losses, gradients


@pytest.mark.parametrize("name", SCORES)
def test_integer_labels_match_float64(name):
    losses, (gradient,) = losses_and_gradients(
        lambda z: cross_entropy_with_integer_labels(z, LABELS, score=SCORES[name]), LOGITS
    )
    targets = reference.one_hot(LABELS, 11)
    # 4 ulp at losses of 30; gradients relative, since the slope of the ReLU score reaches 1e8.
    np.testing.assert_allclose(losses, reference.cross_entropy(LOGITS, targets, name), atol=8e-6)
    expected = reference.cross_entropy_gradient(LOGITS, targets, name)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_soft_targets_match_float64(name):
    losses, (dz, dt) = losses_and_gradients(
        lambda z, t: cross_entropy(z, t, score=SCORES[name]), *(LOGITS, TARGETS)
    )
    np.testing.assert_allclose(losses, reference.cross_entropy(LOGITS, TARGETS, name), rtol=1e-6)
    expected = reference.cross_entropy_gradient(LOGITS, TARGETS.astype(np.float64), name)
    np.testing.assert_allclose(dz, expected, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(dt, -reference.log_probs(LOGITS, name), rtol=2e-6, atol=1e-6)


def test_integer_labels_equal_one_hot_targets():
    expected = jax.jit(cross_entropy)(LOGITS, jax.nn.one_hot(LABELS, 11))
    # Two orders of the same sums: an ulp or two at 30.
    np.testing.assert_allclose(compiled_loss(LOGITS, LABELS), expected, atol=4e-6)


def test_softmax_score_is_optax():
    ours = compiled_loss(LOGITS, LABELS, score=softmax_score)
    theirs = optax.softmax_cross_entropy_with_integer_labels(jnp.array(LOGITS), jnp.array(LABELS))
    np.testing.assert_allclose(ours, theirs, atol=4e-6)  # 2 ulp at 30


@pytest.mark.parametrize("logits", HARD_LOGITS, ids=["few classes", "many classes"])
def test_hard_logits(logits):
    logits = logits.astype(np.float32)
    labels = np.argmax(logits, -1)
    losses, (gradient,) = losses_and_gradients(lambda z: cross_entropy_with_integer_labels(z, labels), logits)
    targets = reference.one_hot(labels, logits.shape[1])
    # The shift is taken first, so that the error is that of small losses even at logits of 1e4.
    np.testing.assert_allclose(losses, reference.cross_entropy(logits, targets), rtol=2e-6, atol=1e-6)
    expected = reference.cross_entropy_gradient(logits, targets)
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_masked_classes_get_no_gradient():
    keep = np.array([[True] * 10 + [False]])
    labels = np.array([0, 1, 2, 3, 4, 10])  # the last one is masked
    losses, (gradient,) = losses_and_gradients(
        lambda z: cross_entropy_with_integer_labels(z, labels, where=keep), LOGITS
    )
    masked = np.where(keep, LOGITS, -np.inf)
    expected = reference.cross_entropy(masked[:5], reference.one_hot(labels[:5], 11))
    np.testing.assert_allclose(losses[:5], expected, atol=4e-6)
    assert losses[5] == jnp.inf
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(gradient[:, 10], 0)


def test_without_classes_the_loss_is_infinite_and_moves_nothing():
    losses, (gradient,) = losses_and_gradients(
        lambda z: cross_entropy_with_integer_labels(z, np.array([1])), np.full((1, 4), -np.inf, np.float32)
    )
    assert losses[0] == jnp.inf
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("where", [None, np.array([[True] * 9 + [False] * 2])])
def test_label_smoothing_mixes_in_the_uniform_distribution(where):
    labels, keep = LABELS % 9, np.ones((1, 11), bool) if where is None else where
    smooth = 0.9 * reference.one_hot(labels, 11) + 0.1 * keep / keep.sum()
    masked = np.where(keep, LOGITS, -np.inf)
    expected = reference.cross_entropy(masked, smooth)
    options = {"where": where, "label_smoothing": 0.1}
    integer = compiled_loss(LOGITS, labels, **options)
    soft = jax.jit(lambda z, t: cross_entropy(z, t, **options))(LOGITS, jax.nn.one_hot(labels, 11))
    np.testing.assert_allclose(integer, expected, rtol=2e-6)
    np.testing.assert_allclose(soft, expected, rtol=2e-6)


def test_axis_and_leading_shape():
    moved = np.moveaxis(LOGITS.reshape(2, 3, 11), -1, 1)
    losses = compiled_loss(moved, LABELS.reshape(2, 3), axis=1)
    np.testing.assert_allclose(losses, compiled_loss(LOGITS, LABELS).reshape(2, 3), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_losses_of_half_precision_are_float32_and_its_gradients_rounded_once(dtype):
    logits = jnp.array(LOGITS, dtype)
    losses, (gradient,) = losses_and_gradients(lambda z: cross_entropy_with_integer_labels(z, LABELS), logits)
    assert losses.dtype == jnp.float32
    assert gradient.dtype == dtype
    wide, targets = np.asarray(logits, np.float64), reference.one_hot(LABELS, 11)
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(losses, reference.cross_entropy(wide, targets), atol=8e-6)  # 4 ulp at 30
    # float16 ends at 6e-8.
    expected = reference.cross_entropy_gradient(wide, targets)
    np.testing.assert_allclose(np.asarray(gradient, float), expected, rtol=0.51 * eps, atol=6e-8)


@pytest.mark.usefixtures("x64")
def test_a_loss_is_float64_if_an_input_is():
    half = jnp.array(LOGITS, jnp.bfloat16)
    assert cross_entropy(half, jnp.array(TARGETS, jnp.float64)).dtype == jnp.float64
    assert cross_entropy(half, jnp.array(TARGETS, jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.usefixtures("x64")
def test_forward_mode_and_second_derivatives_match_finite_differences():
    logits, labels = jnp.array(LOGITS[:2], jnp.float64), jnp.array(LABELS[:2])
    direction = jnp.array(RNG.normal(size=logits.shape))

    def total(z):
        return cross_entropy_with_integer_labels(z, labels).sum()

    @jax.jit
    def derivatives(z):
        gradient = jax.grad(total)
        forward = jax.jvp(total, (z,), (direction,))[1]
        over_reverse = jax.jvp(gradient, (z,), (direction,))[1]
        return gradient(z), forward, over_reverse, jax.grad(lambda z: jnp.vdot(gradient(z), direction))(z)

    gradient, forward, forward_over_reverse, reverse_over_reverse = derivatives(logits)
    step = 1e-5
    above, below = derivatives(logits + step * direction)[0], derivatives(logits - step * direction)[0]
    # Central differences err by step^2 and by eps / step, both about 1e-10.
    expected = (above - below) / (2 * step)
    np.testing.assert_allclose(forward_over_reverse, expected, atol=1e-8)
    np.testing.assert_allclose(reverse_over_reverse, expected, atol=1e-8)
    np.testing.assert_allclose(forward, jnp.vdot(gradient, direction), rtol=1e-12)


def test_a_target_of_zero_has_the_derivative_of_its_log_probability():
    logits, targets = np.array([0, 1, 2, -np.inf], np.float32), np.array([0, 0.5, 0.5, 0], np.float32)
    gradient = jax.jit(jax.grad(lambda t: cross_entropy(logits, t)))(targets)
    expected = -reference.log_probs(logits)
    expected[3] = 0  # a masked class without target: 0 log 0 = 0
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


ALONE = np.linspace(-10, 10, 2001, dtype=np.float32)[:, None]


@pytest.mark.parametrize("others", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_no_loss_is_negative_with_one_live_class(others):
    logits = np.concatenate([ALONE, np.full((len(ALONE), others), -np.inf, np.float32)], 1)
    words = np.eye(1 + others, 1, dtype=np.float32)
    bias = np.where(np.arange(1 + others) > 0, -np.inf, 0).astype(np.float32)
    labels = np.zeros(len(ALONE), int)
    prior = RNG.normal(size=(len(ALONE), 3)).astype(np.float32)

    @jax.jit
    def all_losses(alone, logits):
        return {
            "integer": cross_entropy_with_integer_labels(logits, labels),
            "soft": cross_entropy(logits, np.eye(1 + others, dtype=np.float32)[labels]),
            "log-probability": -log_sigsoftmax(logits)[:, 0],
            "linear": linear_cross_entropy(alone, words, labels, bias),
            "mixture": mixture_cross_entropy(jnp.repeat(alone[:, None], 3, 1), prior, words, labels, bias),
        }

    for name, loss in all_losses(ALONE, logits).items():
        # The weights of three experts sum to 1 within an ulp or two.
        assert float(loss.min()) >= 0, name
        assert float(loss.max()) < 3e-7, name


def test_perplexity_is_the_exponential_of_the_mean():
    np.testing.assert_allclose(perplexity(np.log(2.0) * 7, 7), 2.0, rtol=1e-6)
    many = perplexity(jnp.log(jnp.array([8.0, 9.0])), jnp.array([3, 2]))
    np.testing.assert_allclose(many, [2.0, 3.0], rtol=1e-6)
    with pytest.raises(ValueError, match="num_tokens must be at least 1, got 0"):
        perplexity(1.0, 0)
    with pytest.raises(ValueError, match=r"num_tokens must be at least 1, got \[2 0\]"):
        perplexity(jnp.ones(2), jnp.array([2, 0]))
    with pytest.raises(ValueError, match=r"num_tokens must be one number or have shape \(3,\), got \(2, 1\)"):
        perplexity(jnp.ones(3), np.ones((2, 1), int))


@pytest.mark.usefixtures("no_shape_types")
def test_a_count_that_is_no_number_has_no_perplexity():
    with pytest.raises(ValueError, match="num_tokens must be at least 1, got nan"):
        perplexity(1.0, float("nan"))


def test_a_traced_label_out_of_range_is_nan():
    losses = jax.jit(cross_entropy_with_integer_labels)(jnp.zeros((2, 3)), jnp.array([3, -1]))
    assert np.all(np.isnan(losses))


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (jnp.array([0, 3]), {}, r"labels must be in \[0, 3\), got 0 to 3"),
        (jnp.array([-1, 0]), {}, r"labels must be in \[0, 3\), got -1 to 0"),
        (jnp.array([0.0, 1.0]), {}, "labels must be integers, got float32"),
        (jnp.array([0, 1, 2]), {}, r"labels must have shape \(2,\), .*, got \(3,\)"),
        (jnp.array([0, 1]), {"axis": 2}, r"axis must be in \[-2, 2\) for 2 dimensions, got 2"),
        (jnp.array([0, 1]), {"axis": (0, 1)}, r"axis must be one integer, got \(0, 1\)"),
        (jnp.array([0, 1]), {"axis": None}, "axis must be one integer, got None"),
        (jnp.array([0, 1]), {"axis": 1.0}, "axis must be an integer, .*, got 1.0"),
        (jnp.array([0, 1]), {"axis": [1]}, r"axis must be an integer, .*, got \[1\]"),
        (jnp.array([0, 1]), {"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1.0"),
        (
            jnp.array([0, 1]),
            {"where": jnp.ones(2, bool)},
            r"where must broadcast to logits \(it masks classes, .*\) of shape \(2, 3\), got \(2,\)",
        ),
    ],
)
@pytest.mark.usefixtures("no_shape_types")
def test_bad_input_is_named(labels, options, message):
    with pytest.raises(ValueError, match=message):
        cross_entropy_with_integer_labels(jnp.zeros((2, 3)), labels, **options)


@pytest.mark.usefixtures("no_shape_types")
def test_targets_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"targets must have shape \(2, 3\), one target per logit, got \(3,\)"):
        cross_entropy(jnp.zeros((2, 3)), jnp.zeros(3))


def test_the_score_argument_takes_any_function():
    def cubic(z):
        return z + z**3

    def by_jax(z):
        return -jnp.take_along_axis(jax.nn.log_softmax(cubic(z)), LABELS[:, None], 1)[:, 0]

    actual = losses_and_gradients(lambda z: cross_entropy_with_integer_labels(z, LABELS, score=cubic), LOGITS / 4)
    expected = losses_and_gradients(by_jax, LOGITS / 4)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(actual[1], expected[1], rtol=1e-5, atol=1e-6)
