"""The arithmetic of traced programs, against counts by hand."""

import jax
import jax.numpy as jnp
import pytest

from experiments.compile.cost import program_cost


def cost(function, *shapes):
    structs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return program_cost(jax.make_jaxpr(function)(*structs).jaxpr)


def test_a_product_and_its_gradients():
    # Forward, and for each operand a product of the same size.
    found = cost(jax.value_and_grad(lambda a, b: jnp.sum(jnp.sin(a @ b)), (0, 1)), (3, 5), (5, 7))
    assert found.flops == 3 * 2 * 3 * 5 * 7
    assert found.bytes == 3 * 4 * (3 * 5 + 5 * 7 + 3 * 7)
    assert found.precisions == {"default": 3}


def test_a_batched_product_counts_its_batch_once():
    assert cost(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), (4, 3, 5), (4, 5, 7)).flops == 2 * 4 * 3 * 5 * 7


def test_a_convolution_counts_the_taps_of_a_group():
    def convolve(images, kernel):
        return jax.lax.conv_general_dilated(
            images, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
        )

    # 3x3 taps of the 2 channels of a group, for 4x4 places, 6 channels and 5 images.
    assert cost(convolve, (5, 9, 9, 4), (3, 3, 2, 6)).flops == 2 * 5 * 4 * 4 * 6 * 3 * 3 * 2


def test_loops_count_as_often_as_they_run():
    def known(x):
        return jax.lax.fori_loop(0, 6, lambda i, y: jax.lax.scan(lambda z, _: (z @ z, None), y, length=5)[0], x)

    def unknown(x):
        return jax.lax.while_loop(lambda y: jnp.sum(y) < 9, lambda y: y @ y, x)

    one = 2 * 4**3
    assert (cost(known, (4, 4)).flops, cost(known, (4, 4)).unknown_loops) == (30 * one, 0)
    assert (cost(unknown, (4, 4)).flops, cost(unknown, (4, 4)).unknown_loops) == (one, 1)


def test_of_branches_the_dearer_counts_and_of_a_mapped_program_one_device():
    def choose(x):
        return jax.lax.cond(jnp.sum(x) > 0, lambda y: y @ y @ y, lambda y: y @ y, x)

    assert cost(choose, (4, 4)).flops == 2 * 2 * 4**3
    mapped = jax.pmap(lambda x: x @ x, devices=jax.devices()[:2])
    assert cost(mapped, (2, 4, 4)).flops == 2 * 4**3


def test_custom_derivatives_count_what_is_called():
    @jax.custom_vjp
    def square(x):
        return x @ x

    square.defvjp(lambda x: (x @ x, x), lambda x, g: (g @ x.T + x.T @ g,))
    assert cost(square, (4, 4)).flops == 2 * 4**3
    assert cost(jax.grad(lambda x: jnp.sum(square(x))), (4, 4)).flops == 3 * 2 * 4**3


def test_precisions_are_those_asked_for():
    found = cost(lambda x: jnp.dot(x, x, precision="highest") + x @ x, (4, 4))
    assert found.precisions == pytest.approx({"highest": 1, "default": 1})
