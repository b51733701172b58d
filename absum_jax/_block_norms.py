"""Norms of the blocks of a convolution, and blocks with clipped singular values, with finite gradients."""

import jax
import jax.numpy as jnp
from jax import Array

_HIGHEST = jax.lax.Precision.HIGHEST


def exact_norm(blocks: Array) -> Array:
    """The largest singular value over all blocks [2, ..., m, n], as u^H B v of its own singular vectors.

    With u and v held fixed this is the gradient too: that of the block at which the maximum lies, or of one of
    them where several are equal. The gradient of an SVD's vectors would divide by differences of singular values.
    """
    values = jnp.linalg.svd(jax.lax.complex(*jax.lax.stop_gradient(blocks)), compute_uv=False)
    top = jax.lax.complex(*_block_of_largest(blocks, values[..., 0]))
    u, _, vh = jnp.linalg.svd(jax.lax.stop_gradient(top), full_matrices=False)
    return jnp.einsum("i,ij,j->", u[:, 0].conj(), top, vh[0].conj(), precision=_HIGHEST).real


def gram_norm(blocks: Array, num_iterations: int) -> Array:
    """The largest of the bounds of :func:`_gram_bounds` over all blocks [2, rows of frequencies, ..., m, n]."""
    # A row of frequencies at a time, so that the matrices stay in a CPU's cache; the gradient at one block alone.
    fixed = jax.lax.stop_gradient(blocks)
    bounds = jax.lax.map(lambda row: _gram_bounds(fixed[:, row], num_iterations), jnp.arange(blocks.shape[1]))
    return _gram_bounds(_block_of_largest(blocks, bounds), num_iterations)


def _gram_bounds(blocks: Array, num_iterations: int) -> Array:
    """An upper bound of the largest singular value of each block [2, ..., m, n], their parts real and imaginary.

    With G_0 = B and G_{t+1} = G_t^H G_t, the Frobenius norm of G_t to the power 2^-t lies between the largest
    singular value and rank^(2^-(t+1)) times it. Each G_t is scaled to trace 1, and the scales are multiplied up.
    """
    # The Gram matrix of the shorter side.
    real, imag = blocks if blocks.shape[-2] >= blocks.shape[-1] else _transpose(blocks)
    bound = jnp.ones((), blocks.dtype)
    for iteration in range(num_iterations):
        real, imag = _square(real, imag) if iteration else _gram(real, imag)
        # A scale cancels out of the bound, and so out of its gradient.
        trace = jax.lax.stop_gradient(jnp.trace(real, axis1=-2, axis2=-1))
        scale = jnp.where(trace == 0, 1.0, trace)  # a not-a-number goes through
        real, imag = real / scale[..., None, None], imag / scale[..., None, None]
        bound = bound * scale ** (0.5 ** (iteration + 1))
    total = jnp.sum(jnp.square(real) + jnp.square(imag), axis=(-2, -1))
    return bound * _power(total, 0.5 ** (num_iterations + 1))


def _gram(real: Array, imag: Array) -> tuple[Array, Array]:
    """G^H G of G = R + i I: three real products, which take less time than the complex one."""
    cross = _product(_transpose(real), imag)
    gram = _product(_transpose(real), real) + _product(_transpose(imag), imag)
    return gram, cross - _transpose(cross)


def _square(real: Array, imag: Array) -> tuple[Array, Array]:
    """The same for a Hermitian G, where R is symmetric and I antisymmetric."""
    cross = _product(real, imag)
    return _product(real, real) - _product(imag, imag), cross - _transpose(cross)


def _block_of_largest(blocks: Array, values: Array) -> Array:
    """The block [2, m, n] of the largest of the values [...], of all blocks [2, ..., m, n]."""
    return blocks.reshape(2, -1, *blocks.shape[-2:])[:, jnp.argmax(values)]


def _power(x: Array, exponent: float) -> Array:
    """A root of numbers that are not negative; its derivative at 0, which is infinite, is taken to be 0."""
    # Equal to 0, not above it, so that a not-a-number stays one: a bound of 0 would hide it.
    return jnp.where(x == 0, 0.0, jnp.where(x == 0, 1.0, x) ** exponent)


@jax.custom_jvp
def clip_blocks(blocks: Array, max_norm: Array) -> Array:
    """U min(S, max_norm) V^H for blocks U S V^H [..., m, n]."""
    u, sizes, vh = jnp.linalg.svd(blocks, full_matrices=False)
    return _product(u * jnp.minimum(sizes, max_norm)[..., None, :].astype(u.dtype), vh)


@clip_blocks.defjvp
def _clip_blocks_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """The derivative of a function of singular values, which unlike that of the SVD exists where they are equal.

    In the frame of the singular vectors, E = U^H dB V, the Hermitian part of E_ij is multiplied by the difference
    quotient (f_i - f_j) / (s_i - s_j) of the clipped values f, its anti-Hermitian part by
    (f_i + f_j) / (s_i + s_j), and what lies outside the frame of the longer side by f_j / s_j.
    """
    (blocks, max_norm), (d_blocks, d_max_norm) = primals, tangents
    if blocks.shape[-2] < blocks.shape[-1]:
        clipped, d_clipped = _clip_blocks_jvp((_adjoint(blocks), max_norm), (_adjoint(d_blocks), d_max_norm))
        return _adjoint(clipped), _adjoint(d_clipped)
    u, sizes, vh = jnp.linalg.svd(blocks, full_matrices=False)  # [..., m, n], [..., n], [..., n, n]
    clipped, above = jnp.minimum(sizes, max_norm), sizes > max_norm
    rows, columns = (lambda x: x[..., :, None]), (lambda x: x[..., None, :])
    # 1 where both values are below the bound, so that no quotient is 0 / 0; 0 where both are above.
    both_below = ~(rows(above) | columns(above))
    differ = rows(above) != columns(above)
    difference = jnp.where(differ, rows(sizes) - columns(sizes), 1.0)
    quotient = jnp.where(differ, (rows(clipped) - columns(clipped)) / difference, both_below.astype(sizes.dtype))
    total = jnp.where(both_below, 1.0, rows(sizes) + columns(sizes))
    mean = jnp.where(both_below, 1.0, (rows(clipped) + columns(clipped)) / total)
    ratio = jnp.where(above, clipped / jnp.where(above, sizes, 1.0), 1.0)

    moved = _product(d_blocks, _adjoint(vh))  # dB V
    frame = _product(_adjoint(u), moved)  # E
    hermitian, skew = (frame + _adjoint(frame)) / 2, (frame - _adjoint(frame)) / 2
    inner = quotient.astype(u.dtype) * hermitian + mean.astype(u.dtype) * skew
    outer = (moved - _product(u, frame)) * columns(ratio).astype(u.dtype)
    outer = outer + u * columns(jnp.where(above, d_max_norm, 0.0)).astype(u.dtype)  # by the bound itself
    return _product(u * columns(clipped).astype(u.dtype), vh), _product(_product(u, inner) + outer, vh)


def _transpose(x: Array) -> Array:
    return jnp.swapaxes(x, -1, -2)


def _adjoint(x: Array) -> Array:
    return _transpose(x).conj()


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=_HIGHEST)
