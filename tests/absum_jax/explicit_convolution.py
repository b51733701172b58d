"""Convolutions with circular padding as explicit matrices, in float64."""

import itertools

import numpy as np


def explicit_matrix(kernel, image_size, stride=1, groups=1):
    """The matrix [outputs, inputs] of y[n, o] = sum_p,i K[p, i, o] x[stride n + p mod N, i], loop by loop.

    Output channel o belongs to group o // (out / groups) and reads the input channels of that group alone.
    """
    kernel = np.asarray(kernel, np.float64)
    *taps, group_inputs, num_outputs = kernel.shape
    output_size = tuple(n // stride for n in image_size)
    matrix = np.zeros((*output_size, num_outputs, *image_size, group_inputs * groups))
    for place in np.ndindex(*output_size):
        for tap in np.ndindex(*taps):
            pixel = tuple((stride * n + p) % size for n, p, size in zip(place, tap, image_size, strict=True))
            for i, o in itertools.product(range(group_inputs), range(num_outputs)):
                group = o // (num_outputs // groups)
                matrix[(*place, o, *pixel, group * group_inputs + i)] += kernel[(*tap, i, o)]
    return matrix.reshape(np.prod(output_size) * num_outputs, -1)


def explicit_singular_values(kernel, image_size, stride=1, groups=1):
    """Descending; as many as the shorter side of the matrix has."""
    return np.linalg.svd(explicit_matrix(kernel, image_size, stride, groups), compute_uv=False)
