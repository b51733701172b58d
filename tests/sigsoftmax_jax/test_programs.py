"""What the losses compile to; that they can be exported for any batch, and move no data by themselves."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from sigsoftmax_jax import (
    cross_entropy,
    cross_entropy_with_integer_labels,
    gss_score,
    linear_argmax,
    linear_cross_entropy,
    linear_cross_entropy_and_argmax,
    linear_log_normalizer,
    linear_token_accuracy,
    log_sigsoftmax,
    mixture_cross_entropy,
    mixture_log_probs,
    plif_score,
    relu_score,
)

TERMS = {"label_smoothing": 0.1, "z_loss": 1e-4}
# name -> a loss of hidden [N, d], embedding [V, d], bias [V], labels [N] and weights [N, 3].
BLOCKED = {
    "labels and words": lambda h, w, b, y, t: linear_cross_entropy_and_argmax(h, w, y, b, **TERMS)[0],
    "soft targets": lambda h, w, b, y, t: linear_cross_entropy(
        h, w, None, b, targets=t, target_ids=ids(y), **TERMS
    ),
    "mixture": lambda h, w, b, y, t: mixture_cross_entropy(
        jnp.stack([h, -h], 1), h[:, :2], w, None, b, targets=t, target_ids=ids(y)
    ),
}


def ids(labels):
    return jnp.stack([labels, labels * 0, labels * 0 + 1], -1)


def shapes_of(tokens, width, vocab):
    shapes = [(tokens, width), (vocab, width), (vocab,), (tokens,), (tokens, 3)]
    dtypes = [jnp.float32] * 3 + [jnp.int32, jnp.float32]
    return [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]


def largest_array(compiled):
    """The most elements that an array of the optimised program has."""
    shapes = re.findall(r"\b(?:pred|[a-z]+\d+)\[([\d,]+)\]", compiled.as_text())
    return max(math.prod(map(int, shape.split(","))) for shape in shapes)


@pytest.mark.parametrize("name", BLOCKED)
def test_no_array_of_the_program_is_as_large_as_the_logits(name):
    tokens, width, vocab = 512, 8, 8192
    step = jax.value_and_grad(lambda *arrays: BLOCKED[name](*arrays).sum(), (0, 1, 2, 4))
    compiled = jax.jit(step).lower(*shapes_of(tokens, width, vocab)).compile()
    # The largest are a block of 2**21 logits, here half of all, and the embedding.
    assert largest_array(compiled) <= 2**21 < tokens * vocab


@pytest.mark.parametrize("name", BLOCKED)
def test_nor_is_one_of_the_second_derivative_in_forward_mode(name):
    tokens, width, vocab = 512, 8, 8192
    gradient = jax.grad(lambda *arrays: BLOCKED[name](*arrays).sum(), (0, 1))

    def hessian_vector_product(h, w, *rest):
        return jax.jvp(lambda h, w: gradient(h, w, *rest), (h, w), (h, w))[1]

    compiled = jax.jit(hessian_vector_product).lower(*shapes_of(tokens, width, vocab)).compile()
    assert largest_array(compiled) <= 2**21 < tokens * vocab


def test_the_largest_array_is_found_in_a_program_that_has_the_logits():
    def step(h, w):
        return cross_entropy_with_integer_labels(h @ w.T, jnp.zeros(len(h), jnp.int32)).sum()

    shapes = shapes_of(32, 8, 128)[:2]
    assert largest_array(jax.jit(jax.grad(step)).lower(*shapes).compile()) == 32 * 128


def test_a_block_of_a_gradient_in_half_precision_is_written_alone():
    vocab, width = 8192, 8
    shapes = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((16, width), (vocab, width))]
    labels = jnp.zeros(16, jnp.int32)
    step = jax.grad(lambda h, w: linear_cross_entropy(h, w, labels, block_size=512).sum(), (0, 1))
    written = re.findall(
        r"= (\w+)\[8192,8\]\S* dynamic-update-slice", jax.jit(step).lower(*shapes).compile().as_text()
    )
    # As bits or as it is; in float32 it would be converted whole, there and back, for every block.
    assert set(written) <= {"u16", "bf16"}
    assert written


def test_second_derivatives_in_half_precision():
    rng = np.random.default_rng(2)
    arrays = [jnp.array(rng.normal(size=shape), jnp.bfloat16) for shape in ((6, 4), (11, 4))]
    labels = jnp.arange(6)

    def product(*arrays):
        def total(w):
            return linear_cross_entropy(arrays[0], w, labels, block_size=4).sum()

        gradient = jax.grad(total)
        forward = jax.jvp(gradient, arrays[1:], arrays[1:])[1]
        return forward, jax.grad(lambda w: jnp.vdot(gradient(w), arrays[1]))(arrays[1])

    actual = jax.jit(product)(*arrays)
    expected, _ = jax.jit(product)(*(x.astype(jnp.float32) for x in arrays))
    # Products of gradients that are rounded to eight bits.
    for second in actual:
        np.testing.assert_allclose(np.asarray(second, np.float32), expected, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("name", [*BLOCKED, "logits"])
def test_a_loss_is_exported_for_any_batch(name):
    def on_logits(h, w, b, y, t):
        return cross_entropy_with_integer_labels(h @ w.T + b[None], y, label_smoothing=0.1)

    loss = on_logits if name == "logits" else BLOCKED[name]
    step = jax.jit(jax.value_and_grad(lambda *arrays: loss(*arrays).sum(), (0, 1, 2)))
    (tokens,) = export.symbolic_shape("batch")
    exported = export.export(step)(*shapes_of(tokens, 4, 700))
    rng = np.random.default_rng(0)
    arrays = [
        (rng.integers(2, 700, x.shape) if x.dtype == jnp.int32 else rng.normal(size=x.shape)).astype(x.dtype)
        for x in shapes_of(5, 4, 700)
    ]
    actual, expected = exported.call(*arrays), step(*arrays)
    # Blocks of another size: the same sums in another order.
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5), actual, expected)


def test_eager_calls_move_no_data_between_host_and_device():
    rng = np.random.default_rng(1)
    hidden, embedding, bias, weights, prior = (
        jnp.array(rng.normal(size=shape), jnp.float32) for shape in ((6, 4), (9, 4), (9,), (6, 3), (6, 2))
    )
    labels, words, where = jnp.arange(6), jnp.array(rng.integers(0, 9, (6, 3))), jnp.arange(6) > 2
    states, logits = jnp.stack([hidden, -hidden], 1), hidden @ embedding.T
    learned = gss_score(-1.5, jnp.full((), 2.0)), plif_score(jnp.zeros(3), 20.0)
    with jax.transfer_guard("disallow"):
        for score in (*learned, relu_score):
            linear_cross_entropy(hidden, embedding, labels, bias, score=score, where=where, **TERMS)
        linear_cross_entropy(hidden, embedding, None, bias, targets=weights, target_ids=words)
        linear_cross_entropy_and_argmax(hidden, embedding, labels)
        linear_log_normalizer(hidden, embedding, bias, where=where)
        linear_argmax(hidden, embedding, bias)
        linear_token_accuracy(hidden, embedding, labels, where=where)
        mixture_cross_entropy(states, prior, embedding, labels, bias, where=where)
        mixture_log_probs(states, prior, embedding, bias)
        cross_entropy_with_integer_labels(logits, labels, label_smoothing=0.1)
        cross_entropy(logits, logits, score=learned[0])
        log_sigsoftmax(logits, where=logits > -logits)
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            logits + 1  # the guard is on
