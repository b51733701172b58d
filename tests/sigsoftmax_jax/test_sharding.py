"""Losses under a sharded vocabulary and under data parallelism: as on one device, on eight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from jax.tree_util import Partial

from sigsoftmax_jax import linear_cross_entropy, linear_log_normalizer, mixture_cross_entropy

pytestmark = pytest.mark.devices(8)

TOKENS, EXPERTS, WIDTH, VOCAB = 16, 2, 5, 64
RNG = np.random.default_rng(5)
HIDDEN = RNG.normal(size=(TOKENS, WIDTH)).astype(np.float32)
STATES = RNG.normal(size=(TOKENS, EXPERTS, WIDTH)).astype(np.float32)
PRIOR = RNG.normal(size=(TOKENS, EXPERTS)).astype(np.float32)
EMBEDDING = RNG.normal(size=(VOCAB, WIDTH)).astype(np.float32)
BIAS = RNG.normal(size=VOCAB).astype(np.float32)
BIAS[-3:] = -np.inf  # as for rows that pad the vocabulary to a multiple of the devices
LABELS = RNG.integers(0, VOCAB - 3, TOKENS)


def mesh(shape, names):
    return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(names))


def linear(axis_name=None, block_size=None):
    return lambda h, w, b: linear_cross_entropy(
        h, w, jnp.array(LABELS), b, axis_name=axis_name, block_size=block_size
    ).mean()


def mixture(axis_name=None, block_size=None):
    return lambda h, a, w, b: mixture_cross_entropy(
        h, a, w, jnp.array(LABELS), b, axis_name=axis_name, block_size=block_size
    ).mean()


CASES = {
    "linear": (linear, (HIDDEN, EMBEDDING, BIAS)),
    "mixture": (mixture, (STATES, PRIOR, EMBEDDING, BIAS)),
}


@functools.cache
def expected(name):
    loss, arguments = CASES[name]
    return jax.jit(jax.value_and_grad(loss(), tuple(range(len(arguments)))))(*arguments)


def close(actual, wanted):
    # Eight partial sums in place of one: a few float32 roundings of numbers near 1.
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(np.reshape(a, np.shape(e)), e, rtol=1e-5, atol=1e-6),
        actual,
        wanted,
    )


# name, check_vma, and whether gradients are taken inside of the mapped function.
SHARD_MAPS = [("linear", True, False), ("linear", True, True), ("linear", False, True), ("mixture", True, True)]
MORE_SHARD_MAPS = [("mixture", True, False), ("mixture", False, True)]


@pytest.mark.parametrize(
    ("name", "check_vma", "inside"),
    [*SHARD_MAPS, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE_SHARD_MAPS)],
)
def test_vocabulary_sharded_by_shard_map(name, check_vma, inside):
    loss, arguments = CASES[name]
    specs = (P(),) * (len(arguments) - 2) + (P("vocab"), P("vocab"))
    axes = tuple(range(len(arguments)))
    local = loss("vocab", 3)
    options = {"mesh": mesh((8,), ("vocab",)), "in_specs": specs, "check_vma": check_vma}
    if inside:
        step = jax.shard_map(jax.value_and_grad(local, axes), out_specs=(P(), specs), **options)
    else:
        step = jax.value_and_grad(jax.shard_map(local, out_specs=P(), **options), axes)
    close(jax.jit(step)(*arguments), expected(name))


@pytest.mark.parametrize("name", ["linear", pytest.param("mixture", marks=pytest.mark.slow)])
def test_vocabulary_sharded_by_pmap(name):
    loss, arguments = CASES[name]
    *states, embedding, bias = arguments
    step = jax.value_and_grad(loss("vocab"), tuple(range(len(arguments))))
    axes = (None,) * len(states) + (0, 0)
    value, gradients = jax.pmap(step, "vocab", in_axes=axes)(
        *states, embedding.reshape(8, -1, WIDTH), bias.reshape(8, -1)
    )
    wanted_value, wanted = expected(name)
    whole = [g[3] for g in gradients[: len(states)]]  # the same on every device
    close((value[3], (*whole, *gradients[len(states) :])), (wanted_value, wanted))


@pytest.mark.parametrize("check_vma", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_tokens_and_vocabulary_sharded_together(check_vma):
    def local(h, w, b, labels):
        losses = linear_cross_entropy(h, w, labels, b, axis_name="vocab", block_size=5)
        return jax.lax.pmean(losses.mean(), "data")

    def step(h, w, b, labels):
        value, (dh, dw, db) = jax.value_and_grad(local, (0, 1, 2))(h, w, b, labels)
        if not check_vma:  # the local mean's gradient for the tokens that this device holds
            dh = dh / jax.lax.axis_size("data")
        return value, (dh, jax.lax.pmean(dw, "data"), jax.lax.pmean(db, "data"))

    sharded = jax.shard_map(
        step,
        mesh=mesh((2, 4), ("data", "vocab")),
        in_specs=(P("data"), P("vocab"), P("vocab"), P("data")),
        out_specs=(P(), (P("data"), P("vocab"), P("vocab"))),
        check_vma=check_vma,
    )
    close(jax.jit(sharded)(HIDDEN, EMBEDDING, BIAS, LABELS), expected("linear"))


def test_replicated_embedding_gets_the_gradient_of_every_device():
    def local(h, w, b, labels):
        return jax.lax.pmean(linear_cross_entropy(h, w, labels, b, block_size=24).mean(), "data")

    step = jax.shard_map(
        jax.value_and_grad(local, (0, 1, 2)),
        mesh=mesh((8,), ("data",)),
        in_specs=(P("data"), P(), P(), P("data")),
        out_specs=(P(), (P("data"), P(), P())),
    )
    close(jax.jit(step)(HIDDEN, EMBEDDING, BIAS, LABELS), expected("linear"))


def test_log_normalizer_is_combined():
    sharded = jax.shard_map(
        lambda h, w, b: linear_log_normalizer(h, w, b, axis_name="vocab"),
        mesh=mesh((8,), ("vocab",)),
        in_specs=(P(), P("vocab"), P("vocab")),
        out_specs=P(),
    )
    single = jax.jit(linear_log_normalizer)
    wanted = single(HIDDEN, EMBEDDING, BIAS)
    close(jax.jit(sharded)(HIDDEN, EMBEDDING, BIAS), wanted)
    # The mistake to make, adding the devices' own normalisers, gives something else.
    parts = jnp.stack(
        [single(HIDDEN, w, b) for w, b in zip(np.split(EMBEDDING, 8), np.split(BIAS, 8), strict=True)]
    )
    assert np.abs(np.asarray(parts.sum(0) - wanted)).max() > 1
    close(jax.nn.logsumexp(parts, 0), wanted)


@pytest.mark.parametrize("axes", [pytest.param((0,), marks=pytest.mark.slow), (0, 1, 2)])
def test_logits_of_a_thousand_are_shifted_across_devices(axes):
    specs = (P(), P("vocab"), P("vocab"))
    out = tuple(specs[i] for i in axes)
    step = jax.shard_map(
        jax.value_and_grad(linear("vocab"), axes),
        mesh=mesh((8,), ("vocab",)),
        in_specs=specs,
        out_specs=(P(), out),
    )
    wanted = jax.jit(jax.value_and_grad(linear(), axes))(1e3 * HIDDEN, EMBEDDING, BIAS)
    value, gradients = jax.jit(step)(1e3 * HIDDEN, EMBEDDING, BIAS)
    # Logits near 3,000 come out of a product with an error of a few 2e-4.
    np.testing.assert_allclose(value, wanted[0], rtol=1e-5)
    for gradient, expected_gradient in zip(gradients, wanted[1], strict=True):
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("data", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_parameters_of_a_score_get_the_gradient_of_every_device(data):
    def loss(slope, h, w, b, labels, axis_name=None):
        score = Partial(lambda slope, z: slope * z - (slope - 1) * jax.nn.softplus(z), slope)
        return linear_cross_entropy(h, w, labels, b, score=score, axis_name=axis_name, block_size=3).mean()

    def local(*arguments):
        return jax.lax.pmean(loss(*arguments, axis_name="vocab"), "data")

    step = jax.shard_map(
        jax.value_and_grad(local),
        mesh=mesh((data, 8 // data), ("data", "vocab")),
        in_specs=(P(), P("data"), P("vocab"), P("vocab"), P("data")),
        out_specs=(P(), P()),
    )
    arguments = (jnp.array(2.5), HIDDEN, EMBEDDING, BIAS, LABELS)
    close(jax.jit(step)(*arguments), jax.jit(jax.value_and_grad(loss))(*arguments))


def test_forward_over_reverse_through_the_collectives():
    def product(loss):
        return lambda h, w, b: jax.jvp(lambda h: jax.grad(loss)(h, w, b), (h,), (jnp.ones_like(h),))[1]

    specs = (P(), P("vocab"), P("vocab"))
    sharded = jax.shard_map(
        product(linear("vocab", 3)), mesh=mesh((8,), ("vocab",)), in_specs=specs, out_specs=P()
    )
    arguments = (HIDDEN, EMBEDDING, BIAS)
    close(jax.jit(sharded)(*arguments), jax.jit(product(linear()))(*arguments))
