"""One LSTM layer with masked time steps, and a backward pass of its own.

Columns of the kernels and of the bias are the gates i, f, g, o, in this order, H each:

    i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o);  g = tanh(z_g);  z_t = x_t W + h_{t-1} U + b
    c_t = f c_{t-1} + i g;  h_t = o tanh(c_t)

In half precision what is kept of all time steps, but for c, is narrow: x, h, the gates, and the operands of all
products. What sums over time, c and the gradients of the weights, is of the weights' own dtype.
"""

import jax
import jax.numpy as jnp
from jax import Array

Carry = tuple[Array, Array]
Gates = tuple[Array, Array, Array, Array]
Weights = tuple[Array, Array, Array]
# All [T, b, ...]: the inputs, which steps count, the state before each step, the gates; then the two kernels.
Residuals = tuple[Array, Array, Carry, Gates, Array, Array]


def lstm(
    inputs: Array, where: Array, carry: Carry, *, input_kernel: Array, recurrent_kernel: Array, bias: Array
) -> tuple[Array, Carry]:
    """Run one layer over a window.

    The input part of all time steps is one matrix product, so that a step of the scan costs the recurrent one.
    Differentiable in everything but ``where``, in reverse mode.

    Args:
        inputs: [b, T, in]; their dtype is that of the outputs and of the operands of products.
        where: bool [b, T]; a step that is False leaves the state as it is and has output 0 and gradient 0.
        carry: the state (h, c) before the first step, each [b, H].
        input_kernel, recurrent_kernel, bias: W [in, 4H], U [H, 4H], b [4H].

    Returns:
        The outputs h_t [b, T, H], and the state after the last step.

    Example:
        >>> import jax.numpy as jnp
        >>> zeros, where = jnp.zeros((2, 4)), jnp.ones((2, 3), bool)
        >>> weights = {"input_kernel": jnp.ones((5, 16)), "recurrent_kernel": jnp.ones((4, 16))}
        >>> outputs, (h, c) = lstm(jnp.ones((2, 3, 5)), where, (zeros, zeros), **weights, bias=jnp.ones(16))
        >>> print(outputs.shape, h.shape)
        (2, 3, 4) (2, 4)

    References:
        Hochreiter and Schmidhuber, Long Short-Term Memory, 1997; Gers et al., Learning to Forget, 2000.
    """
    # In the order of the scan here rather than after the input's product, which is larger.
    by_time = jnp.swapaxes(inputs, 0, 1), jnp.swapaxes(where, 0, 1)[..., None]
    narrow = carry[0].astype(inputs.dtype), carry[1]
    with jax.named_scope("lstm"):
        outputs, (h, c) = _layer(*by_time, narrow, (input_kernel, recurrent_kernel, bias))
    return jnp.swapaxes(outputs, 0, 1), (h.astype(carry[0].dtype), c)


@jax.custom_vjp
def _layer(inputs: Array, where: Array, carry: Carry, weights: Weights) -> tuple[Array, Carry]:
    return _forward(inputs, where, carry, weights)[0]


def _forward(inputs: Array, where: Array, carry: Carry, weights: Weights) -> tuple[tuple[Array, Carry], Residuals]:
    input_kernel, kernel, bias = weights
    narrow, operand = inputs.dtype, kernel.astype(inputs.dtype)

    def step(carry: Carry, at: tuple[Array, Array]) -> tuple[Carry, tuple[Carry, Gates]]:
        (h, c), (from_input, counts) = carry, at
        recurrent = jnp.matmul(h, operand, preferred_element_type=kernel.dtype)
        gates = i, f, g, o = _gates(from_input + recurrent + bias[None])
        new_c = f * c + i * g
        new_h = (o * jnp.tanh(new_c)).astype(narrow)
        after = jnp.where(counts, new_h, h), jnp.where(counts, new_c, c)
        return after, (after, jax.tree.map(lambda gate: gate.astype(narrow), gates))

    last, (after, gates) = jax.lax.scan(step, carry, (inputs @ input_kernel.astype(narrow), where))
    before = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), carry, after)
    return (jnp.where(where, after[0], 0), last), (inputs, where, before, gates, input_kernel, kernel)


def _backward(residuals: Residuals, cotangents: tuple[Array, Carry]) -> tuple[Array, None, Carry, Weights]:
    """Gradients; those of the kernels are one product each after the scan, not sums of T products within it."""
    inputs, where, (h_before, c_before), gates, input_kernel, kernel = residuals
    narrow, wide, operand = inputs.dtype, kernel.dtype, kernel.astype(inputs.dtype)
    doutputs, (dh_last, dc_last) = cotangents

    def step(dcarry: Carry, at: tuple[Array, Array, Array, Gates]) -> tuple[Carry, Array]:
        (dh, dc), (doutput, counts, c, gates) = dcarry, at
        i, f, g, o = jax.tree.map(lambda gate: gate.astype(wide), gates)
        tanh_c = jnp.tanh(f * c + i * g)
        dh_step = dh + doutput
        dc_step = dc + dh_step * o * (1 - tanh_c**2)
        di, df, dg, do = dc_step * g, dc_step * c, dc_step * i, dh_step * tanh_c
        through = di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)
        dz = jnp.where(counts, jnp.concatenate(through, -1), 0).astype(narrow)
        dh_before = jnp.matmul(dz, operand.T, preferred_element_type=wide) + jnp.where(counts, 0, dh)
        return (dh_before, jnp.where(counts, dc_step * f, dc)), dz

    dcarry = dh_last.astype(wide), dc_last
    (dh, dc), dz = jax.lax.scan(step, dcarry, (doutputs, where, c_before, gates), reverse=True)
    dinput_kernel, dkernel = (
        jnp.einsum("tbi,tbz->iz", x, dz, preferred_element_type=wide) for x in (inputs, h_before)
    )
    dweights = dinput_kernel, dkernel, jnp.sum(dz, (0, 1), dtype=wide)
    return dz @ input_kernel.astype(narrow).T, None, (dh.astype(narrow), dc), dweights


_layer.defvjp(_forward, _backward)


def _gates(z: Array) -> Gates:
    i, f, g, o = jnp.split(z, 4, -1)
    return jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
