"""Losses under a mesh of Explicit axes, the default of jax.make_mesh, as on one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sigsoftmax_jax import (
    cross_entropy_with_integer_labels,
    linear_cross_entropy,
    linear_log_normalizer,
    mixture_cross_entropy,
    mixture_log_probs,
)

pytestmark = pytest.mark.devices(8)

RNG = np.random.default_rng(9)
HIDDEN = RNG.normal(size=(8, 2, 4)).astype(np.float32)
PRIOR = RNG.normal(size=(8, 2)).astype(np.float32)
EMBEDDING = RNG.normal(size=(16, 4)).astype(np.float32)
LABELS = RNG.integers(0, 16, (8, 2))
WHERE = RNG.random((8, 2)) < 0.7
CASES = {
    "logits": lambda h, w: cross_entropy_with_integer_labels(h, LABELS % 4),
    "linear": lambda h, w: linear_cross_entropy(h, w, LABELS, block_size=5),
    "where": lambda h, w: linear_cross_entropy(h, w, LABELS, block_size=5, where=WHERE),
    "normalizer": linear_log_normalizer,
    "mixture": lambda h, w: mixture_cross_entropy(h, PRIOR, w, LABELS[:, 0], block_size=5),
    "mixture log-probabilities": lambda h, w: mixture_log_probs(h, PRIOR, w),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("embedding_axis", [None, "data"])
@pytest.mark.parametrize("jit", [True, False])
def test_tokens_sharded_over_an_explicit_axis(name, embedding_axis, jit):
    loss = CASES[name]
    step = jax.value_and_grad(lambda h, w: loss(h, w).mean(), (0, 1))
    expected = step(HIDDEN, EMBEDDING)
    mesh = jax.make_mesh((8,), ("data",))
    assert mesh.axis_types == (AxisType.Explicit,)
    hidden = jax.device_put(HIDDEN, NamedSharding(mesh, P("data")))
    embedding = jax.device_put(EMBEDDING, NamedSharding(mesh, P(embedding_axis)))
    with jax.set_mesh(mesh):
        actual = (jax.jit(step) if jit else step)(hidden, embedding)
        assert jax.typeof(loss(hidden, embedding)).sharding.spec[0] == "data"
        # Eight partial sums in place of one: a few float32 roundings of numbers near 1.
        jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6), actual, expected)


def test_hessian_vector_product_under_an_explicit_mesh():
    def product(h, w):
        return jax.jvp(jax.grad(lambda h: CASES["linear"](h, w).sum()), (h,), (jnp.ones_like(h),))[1]

    mesh = jax.make_mesh((8,), ("data",))
    with jax.set_mesh(mesh):
        hidden = jax.device_put(HIDDEN, NamedSharding(mesh, P("data")))
        actual = product(hidden, jax.device_put(EMBEDDING, NamedSharding(mesh, P())))
        np.testing.assert_allclose(actual, product(HIDDEN, EMBEDDING), rtol=1e-5, atol=1e-5)
