"""Kernels, and float64 references, that the tests of the penalty, the prox and the transformation share."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

# 2-D, 1x1, not square, 1-D, 3-D.
SHAPES = [(3, 3, 4, 5), (1, 1, 6, 7), (5, 4, 1, 3), (7, 2, 3), (3, 2, 3, 2, 2)]


def random_kernel(shape, seed=0, dtype=jnp.float32):
    """Standard normal entries; from NumPy, as JAX would compile a program for every shape."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def filled(shapes):
    """A tree of random arrays for a tree of shapes, so that no initialisation has to be compiled."""
    return jax.tree.map(lambda leaf: random_kernel(leaf.shape, dtype=leaf.dtype), shapes)


def equinox_params(module, *args):
    """The arrays of an Equinox module, made with random numbers from ``module(*args, key=key)``."""
    shapes = eqx.filter_eval_shape(lambda key: module(*args, key=key), jax.random.key(0))
    return filled(eqx.filter(shapes, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)))


def absum_reference(kernel):
    """Loops over channel pairs, in float64."""
    kernel = np.asarray(kernel, np.float64)
    slices = kernel.reshape(-1, kernel.shape[-2], kernel.shape[-1])
    return sum(abs(slices[:, i, o].sum()) for i in range(slices.shape[1]) for o in range(slices.shape[2]))


def prox_absum_reference(kernel, tau):
    """Case by case, from the optimality condition of one slice, in float64."""
    result = np.array(kernel, np.float64)
    taps = int(np.prod(result.shape[:-2]))
    for i in range(result.shape[-2]):
        for o in range(result.shape[-1]):
            total = result[..., i, o].sum()
            if total > taps * tau:
                result[..., i, o] -= tau
            elif total < -taps * tau:
                result[..., i, o] += tau
            else:
                result[..., i, o] -= total / taps
    return result
