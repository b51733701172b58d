"""The blocked losses on meshes: what crosses devices, read from the compiled program, and what comes out."""

import re

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sigsoftmax_jax import linear_cross_entropy, mixture_cross_entropy
from tests.sigsoftmax_jax import reference

pytestmark = pytest.mark.devices(8)

# However they are divided, there are never as many tokens, experts counted, as words.
TOKENS, EXPERTS, WIDTH, VOCAB = 16, 2, 5, 96
RNG = np.random.default_rng(3)
PRIOR = RNG.normal(size=(TOKENS, EXPERTS)).astype(np.float32)
STATES = RNG.normal(size=(TOKENS, EXPERTS, WIDTH)).astype(np.float32)
EMBEDDING = RNG.normal(size=(VOCAB, WIDTH)).astype(np.float32)
BIAS = RNG.normal(size=VOCAB).astype(np.float32)
LABELS = RNG.integers(0, VOCAB, TOKENS)


def linear(hidden, embedding, bias, labels):
    return linear_cross_entropy(hidden, embedding, labels, bias, block_size=3)


def mixture(hidden, prior, embedding, bias, labels):
    return mixture_cross_entropy(hidden, prior, embedding, labels, bias, block_size=3)


# name -> the losses of arrays and labels, the arrays, which of them belong to the tokens, loss and gradients.
CASES = {
    "linear": (
        linear,
        (STATES[:, 0], EMBEDDING, BIAS, LABELS),
        (0, 3),
        lambda h, w, b, y: reference.linear_gradients(h, w, y, b),
    ),
    "mixture": (
        mixture,
        (STATES, PRIOR, EMBEDDING, BIAS, LABELS),
        (0, 1, 4),
        lambda h, a, w, b, y: reference.mixture_gradients(h, a, w, y, bias=b),
    ),
}
# How the tokens and the words are sharded, and over what.
DATA = {"data": 8}, P("data"), P()
VOCABULARY = {"vocab": 8}, P(), P("vocab")
BOTH = {"data": 2, "vocab": 4}, P("data"), P("vocab")
SAME = {"data": 8}, P("data"), P("data")


def collectives(compiled):
    """Each collective of an optimised program: its kind, its shapes, and whether it is in a loop."""
    found, computation = [], ""
    for line in compiled.as_text().splitlines():
        if line.endswith("{") and not line.startswith(" "):
            computation = line
        match = re.search(
            r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\(", line
        )
        if match:
            shapes = [tuple(map(int, s.split(","))) if s else () for s in re.findall(r"\[([\d,]*)\]", match[1])]
            found.append((match[2], shapes, not computation.startswith("ENTRY")))
    return found


def sharded_step(name, layout, axis_type):
    """Losses with their gradients on a mesh, as a function to compile, its arguments, and the mesh."""
    losses, arrays, of_tokens, _ = CASES[name]
    sizes, tokens, words = layout
    mesh = jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(axis_type,) * len(sizes))
    specs = tuple(tokens if i in of_tokens else words for i in range(len(arrays)))
    if axis_type == AxisType.Auto:
        losses = jax.sharding.explicit_axes(losses, in_sharding=specs)

    def total(*arrays):
        return losses(*arrays).sum()

    step = jax.jit(jax.value_and_grad(total, tuple(range(len(arrays) - 1))))
    placed = [jax.device_put(x, NamedSharding(mesh, spec)) for x, spec in zip(arrays, specs, strict=True)]
    return step, placed, mesh


@pytest.mark.parametrize(
    ("name", "layout", "axis_type"),
    [
        ("linear", DATA, AxisType.Explicit),
        ("linear", VOCABULARY, AxisType.Explicit),
        ("linear", SAME, AxisType.Explicit),
        ("linear", BOTH, AxisType.Auto),
        ("mixture", BOTH, AxisType.Explicit),
        *(
            pytest.param(name, layout, axis_type, marks=pytest.mark.slow)
            for name, layout, axis_type in [
                ("linear", DATA, AxisType.Auto),
                ("linear", BOTH, AxisType.Explicit),
                ("mixture", DATA, AxisType.Explicit),
                ("mixture", SAME, AxisType.Auto),
            ]
        ),
    ],
)
def test_gradients_cross_devices_once_and_a_sharded_embedding_never(name, layout, axis_type):
    sizes, _, words = layout
    step, arrays, mesh = sharded_step(name, layout, axis_type)
    with jax.set_mesh(mesh):
        compiled = step.lower(*arrays).compile()
        losses, gradients = step(*arrays)
    found = collectives(compiled)
    assert not any(in_loop for *_, in_loop in found)
    # The embedding's gradient on a device, summed over those that have other tokens.
    rows = VOCAB // (sizes[words[0]] if words else 1)
    sums = sum((rows, WIDTH) in shapes for kind, shapes, _ in found if kind == "all-reduce")
    assert sums == (layout in (DATA, BOTH))
    assert not any((VOCAB, WIDTH) in shapes for kind, shapes, _ in found if kind == "all-gather")
    # Sums of a few dozen float32 terms near 1.
    _, plain, _, gradients_of = CASES[name]
    for actual, expected in zip(gradients, gradients_of(*plain), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(losses, total_loss(name), rtol=1e-6)


def total_loss(name):
    """The summed loss by the formula, in float64."""
    *states, embedding, bias, labels = CASES[name][1]
    if name == "linear":
        log_probs = reference.log_probs(reference.linear_logits(*states, embedding, bias))
    else:
        log_probs = reference.mixture_log_probs(*states, embedding, bias)
    return -log_probs[np.arange(TOKENS), labels].sum()


def test_a_sum_in_a_loop_and_a_gathered_embedding_are_found():
    """What the compiler makes of the same loss where it is told nothing."""
    sizes, tokens, words = BOTH
    mesh = jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * 2)
    arrays = [
        jax.device_put(x, NamedSharding(mesh, spec))
        for x, spec in zip(CASES["linear"][1], (tokens, words, words, tokens), strict=True)
    ]
    gradients = jax.grad(lambda *arrays: linear(*arrays).sum(), (0, 1, 2))
    found = collectives(jax.jit(gradients).lower(*arrays).compile())
    assert any(kind == "all-reduce" and in_loop for kind, _, in_loop in found)
    assert any(kind == "all-gather" and (VOCAB, WIDTH) in shapes for kind, shapes, _ in found)
