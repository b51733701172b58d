"""What arrays the functions take: nnx parameters as they are, and any one dtype under strict promotion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sigsoftmax_jax import (
    cross_entropy,
    cross_entropy_with_integer_labels,
    linear_cross_entropy,
    linear_log_normalizer,
    log_mixture,
    log_sigsoftmax,
    mixture_cross_entropy,
    mixture_log_probs,
    sigsoftmax,
)
from tests.sigsoftmax_jax import reference

RNG = np.random.default_rng(10)
HIDDEN = RNG.normal(size=(3, 2, 4)).astype(np.float32)
PRIOR = RNG.normal(size=(3, 2)).astype(np.float32)
EMBEDDING = RNG.normal(size=(7, 4)).astype(np.float32)
BIAS = RNG.normal(size=7).astype(np.float32)
LABELS = RNG.integers(0, 4, (3, 2))
IDS = RNG.integers(0, 7, (3, 2, 4))
CASES = {
    "log_sigsoftmax": lambda h, a, w, b: log_sigsoftmax(h),
    "sigsoftmax": lambda h, a, w, b: sigsoftmax(h),
    "integer labels": lambda h, a, w, b: cross_entropy_with_integer_labels(h, LABELS, label_smoothing=0.1),
    "soft labels": lambda h, a, w, b: cross_entropy(h, h, label_smoothing=0.1),
    "linear": lambda h, a, w, b: linear_cross_entropy(h, w, LABELS, b, where=LABELS > 0),
    "linear with terms": lambda h, a, w, b: linear_cross_entropy(h, w, LABELS, b, label_smoothing=0.1, z_loss=0.1),
    "soft targets": lambda h, a, w, b: linear_cross_entropy(h, w, None, b, targets=h, target_ids=IDS),
    "normalizer": lambda h, a, w, b: linear_log_normalizer(h, w, b),
    "mixture": lambda h, a, w, b: mixture_cross_entropy(h, a, w, LABELS[:, 0], b),
    "mixture log-probabilities": mixture_log_probs,
    "log_mixture": lambda h, a, w, b: log_mixture(a, h),
}
LOSSES = ("integer labels", "soft labels", "linear", "linear with terms", "soft targets", "normalizer", "mixture")
ARRAYS = HIDDEN, PRIOR, EMBEDDING, BIAS


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("no_shape_types")
def test_nnx_parameters_as_they_are(name):
    def with_parameters(*arrays):
        return CASES[name](*(nnx.Param(x) for x in arrays))

    # The very same program; that parameters have values outside of one is tested below.
    assert str(jax.make_jaxpr(with_parameters)(*ARRAYS)) == str(jax.make_jaxpr(CASES[name])(*ARRAYS))


@pytest.mark.usefixtures("no_shape_types")
def test_nnx_parameters_outside_of_a_program():
    parameters = [nnx.Param(jnp.array(x)) for x in ARRAYS]
    np.testing.assert_array_equal(CASES["linear"](*parameters), CASES["linear"](*ARRAYS))


@pytest.mark.usefixtures("no_shape_types")
def test_gradient_for_an_nnx_parameter():
    embed = nnx.Embed(7, 4, rngs=nnx.Rngs(0))
    gradient = nnx.grad(nnx.jit(lambda e: linear_cross_entropy(HIDDEN, e.embedding, LABELS).sum()))(embed)
    tokens, labels = HIDDEN.reshape(-1, 4), LABELS.ravel()
    _, expected, _ = reference.linear_gradients(tokens, embed.embedding[...], labels)
    # Sums of six products of size 1 in float32.
    np.testing.assert_allclose(gradient["embedding"][...], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_strict_promotion(name, dtype):
    arrays = [jax.ShapeDtypeStruct(x.shape, dtype) for x in ARRAYS]
    step = jax.value_and_grad(lambda *a: CASES[name](*a).sum(), (0, 1, 2, 3))
    # Dtypes are settled by tracing alone.
    with jax.numpy_dtype_promotion("strict"):
        value, gradients = jax.eval_shape(step, *arrays)
    # Log-probabilities come in the dtype of their inputs, losses in float32.
    assert value.dtype == (jnp.float32 if name in LOSSES else dtype)
    assert all(g.dtype == dtype for g in gradients)
