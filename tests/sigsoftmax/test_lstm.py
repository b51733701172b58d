"""The LSTM against its formula unrolled in NumPy: values, all gradients, and what a time step costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from experiments.sigsoftmax.lstm import lstm
from tests.sigsoftmax.lstm_reference import unrolled_lstm

ROWS, STEPS, IN, SIZE = 3, 4, 2, 5
NAMES = ("inputs", "h", "c", "input_kernel", "recurrent_kernel", "bias")
SHAPES = ((ROWS, STEPS, IN), (ROWS, SIZE), (ROWS, SIZE), (IN, 4 * SIZE), (SIZE, 4 * SIZE), (4 * SIZE,))
WHERE = np.arange(STEPS)[None] < np.array([[STEPS], [2], [0]])  # whole, part and nothing of a window


def normal(shapes, seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


ARGUMENTS = normal(SHAPES, 0)
COTANGENTS = normal(((ROWS, STEPS, SIZE), (ROWS, SIZE), (ROWS, SIZE)), 1)


def run(inputs, h, c, input_kernel, recurrent_kernel, bias, where=WHERE):
    kernels = {"input_kernel": input_kernel, "recurrent_kernel": recurrent_kernel}
    outputs, (h, c) = lstm(inputs, jnp.asarray(where), (h, c), **kernels, bias=bias)
    return outputs, h, c


def reference(inputs, h, c, *weights):
    return unrolled_lstm(inputs, WHERE, h, c, *weights)


def gradients(*arguments):
    outputs, vjp = jax.vjp(run, *map(jnp.asarray, arguments))
    return outputs, vjp(tuple(jnp.asarray(ct, out.dtype) for ct, out in zip(COTANGENTS, outputs, strict=True)))


compiled_gradients = jax.jit(gradients)


def finite_differences(position, epsilon=1e-6):
    """Central differences of sum(cotangents * reference), element by element."""

    def objective(argument):
        changed = [*ARGUMENTS[:position], argument, *ARGUMENTS[position + 1 :]]
        return sum(np.sum(a * b) for a, b in zip(COTANGENTS, reference(*changed), strict=True))

    result = np.zeros(SHAPES[position])
    for index in np.ndindex(result.shape):
        step = np.zeros_like(result)
        step[index] = epsilon
        result[index] = objective(ARGUMENTS[position] + step) - objective(ARGUMENTS[position] - step)
    return result / (2 * epsilon)


@pytest.mark.usefixtures("x64")
def test_values_and_gradients_against_numpy():
    outputs, found = jax.jit(gradients)(*ARGUMENTS)
    for ours, expected in zip(outputs, reference(*ARGUMENTS), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12)  # float64, a few dozen operations
    for position, name in enumerate(NAMES):
        # Differences of numbers near 10 with a step of 1e-6 are good to about 1e-9.
        np.testing.assert_allclose(found[position], finite_differences(position), atol=1e-7, err_msg=name)


def test_float32_and_masked_steps():
    arguments = [a.astype(np.float32) for a in ARGUMENTS]
    # What stands in the padding does not matter, and nothing flows back to it.
    arguments[0] = np.where(WHERE[..., None], arguments[0], np.float32(1e3))
    (outputs, h, c), found = compiled_gradients(*arguments)
    assert outputs.dtype == h.dtype == c.dtype == jnp.float32
    for ours, expected in zip((outputs, h, c), reference(*ARGUMENTS), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)  # float32, values of at most about 1
    assert not np.any(outputs[~WHERE])
    np.testing.assert_array_equal(h[2], arguments[1][2])
    np.testing.assert_array_equal(c[2], arguments[2][2])
    assert not np.any(found[0][~WHERE])
    # The state of a row without a step is handed on, and so is its gradient.
    np.testing.assert_array_equal(found[1][2], COTANGENTS[1][2].astype(np.float32))
    assert all(np.all(np.isfinite(g)) for g in found)


def test_vmapped_and_pmapped_like_row_by_row():
    arguments = [jnp.asarray(a, jnp.float32) for a in ARGUMENTS]
    stacked = jnp.stack([arguments[0], -arguments[0]])[:, None]  # [devices, vmapped, ...]
    axes = (0, *(None,) * 5)
    mapped = jax.pmap(jax.vmap(gradients, axes), in_axes=axes)(stacked, *arguments[1:])
    for i in range(2):
        one = compiled_gradients(stacked[i, 0], *arguments[1:])
        for ours, expected in zip(jax.tree.leaves(mapped), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(
                ours[i, 0], expected, rtol=1e-4, atol=1e-6
            )  # float32, sums in another order


def scans(jaxpr):
    """The bodies of all scans in a jaxpr, at any depth."""
    for equation in jaxpr.eqns:
        for inner in jaxprs_in_params(equation.params):
            if equation.primitive.name == "scan":
                yield inner
            yield from scans(inner)


def test_a_time_step_costs_the_recurrent_product_alone():
    arguments = [jnp.asarray(a, jnp.float32) for a in ARGUMENTS]
    bodies = list(scans(jax.make_jaxpr(gradients)(*arguments).jaxpr))
    assert len(bodies) == 2
    for body in bodies:
        products = [e for e in body.eqns if e.primitive.name == "dot_general"]
        assert len(products) == 1
        assert (SIZE, 4 * SIZE) not in [v.aval.shape for v in body.outvars]  # no kernel is added up step by step
