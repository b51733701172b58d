"""Losses under a mesh of Explicit axes, the default of jax.make_mesh, as on one device."""

import functools

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
    "linear": lambda h, w: linear_cross_entropy(h, w, LABELS, block_size=5, where=WHERE),
    "normalizer": linear_log_normalizer,
    "mixture": lambda h, w: mixture_cross_entropy(h, PRIOR, w, LABELS[:, 0], block_size=5),
    "mixture log-probabilities": lambda h, w: mixture_log_probs(h, PRIOR, w),
}


def with_gradients(name, spec=None):
    """Mean loss and its gradients; the losses are sharded over their first dimension as ``spec`` says."""

    def mean(h, w):
        losses = CASES[name](h, w)
        assert spec is None or jax.typeof(losses).sharding.spec[0] == spec, name
        return losses.mean()

    return jax.value_and_grad(mean, (0, 1))


@functools.cache
def expected():
    return jax.jit(lambda h, w: {name: with_gradients(name)(h, w) for name in CASES})(HIDDEN, EMBEDDING)


def sharded(mesh, embedding_axis):
    """Hidden states sharded over the tokens; the embedding on every device whole, or sharded over its words."""
    hidden = jax.device_put(HIDDEN, NamedSharding(mesh, P("data")))
    return hidden, jax.device_put(EMBEDDING, NamedSharding(mesh, P(embedding_axis)))


def close(actual, wanted):
    # Eight partial sums in place of one: a few float32 roundings of numbers near 1.
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6), actual, wanted)


# With the embedding sharded as well, one blocked loss and the one that is not blocked; the others are slow.
SHARDED_TOO = ["linear", "mixture log-probabilities"]
OTHERS = [name for name in CASES if name not in SHARDED_TOO]


@pytest.mark.parametrize(
    ("names", "embedding_axis"),
    [(list(CASES), None), (SHARDED_TOO, "data"), pytest.param(OTHERS, "data", marks=pytest.mark.slow)],
)
def test_tokens_sharded_over_an_explicit_axis(names, embedding_axis):
    mesh = jax.make_mesh((8,), ("data",))
    assert mesh.axis_types == (AxisType.Explicit,)

    def step(h, w):
        return {name: with_gradients(name, "data")(h, w) for name in names}

    with jax.set_mesh(mesh):
        close(jax.jit(step)(*sharded(mesh, embedding_axis)), {name: expected()[name] for name in names})


# Operation by operation, each of which is compiled for eight devices: one loss that is compiled as a whole within,
# and one that is not.
FEW = [("linear", "data"), ("logits", None)]
MANY = [(name, axis) for name in CASES for axis in (None, "data") if (name, axis) not in FEW]


@pytest.mark.parametrize(
    ("name", "embedding_axis"), [*FEW, *(pytest.param(*case, marks=pytest.mark.slow) for case in MANY)]
)
def test_tokens_sharded_over_an_explicit_axis_outside_of_jit(name, embedding_axis):
    mesh = jax.make_mesh((8,), ("data",))
    with jax.set_mesh(mesh):
        close(with_gradients(name, "data")(*sharded(mesh, embedding_axis)), expected()[name])


def test_hessian_vector_product_under_an_explicit_mesh():
    @jax.jit
    def product(h, w):
        return jax.jvp(jax.grad(lambda h: CASES["linear"](h, w).sum()), (h,), (jnp.ones_like(h),))[1]

    mesh = jax.make_mesh((8,), ("data",))
    with jax.set_mesh(mesh):
        actual = product(*sharded(mesh, None))
    np.testing.assert_allclose(actual, product(HIDDEN, EMBEDDING), rtol=1e-5, atol=1e-5)
