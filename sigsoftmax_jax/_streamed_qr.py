"""The triangular factor of a wide matrix that arrives in blocks of columns.

L of the LQ factorisation of [L, columns] by Householder reflections, so that only L and one block are held.
Reflections are orthogonal: each singular value of the matrix moves by at most a few eps times the largest.
The Gram matrix, which is as cheap to stream, squares the singular values and loses those below sqrt(eps)
times the largest.

L is triangular, so a reflector is a unit vector beside a vector of the length of a block. p of them in one:
H_1 ... H_p = I - [I, V]^T T [I, V], with V [p, b] and T [p, p] upper triangular (Schreiber and Van Loan, 1989).
Panels of rows are factored by halves (Elmroth and Gustavson, 2000), so that nearly all work is in matrix
products, from 1 row up to a panel.
"""

import math

import numpy as np

PANEL = 256
# Rows reflected at a time, whose temporaries are allocated and touched once.
CHUNK = 512


def append_columns(triangle: np.ndarray, columns: np.ndarray) -> None:
    """Replace L [n, n] in place by the L of [L, columns]; ``columns`` [n, b] is used up as workspace."""
    for start in range(0, len(triangle), PANEL):
        panel = slice(start, start + PANEL)
        reflectors = columns[panel]
        kernel = _factor(triangle[panel, panel], reflectors)
        for below in range(start + PANEL, len(triangle), CHUNK):
            rest = slice(below, below + CHUNK)
            _reflect(reflectors, kernel, triangle[rest, panel], columns[rest])


def _reflect(reflectors: np.ndarray, kernel: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """[left, right] (I - [I, V]^T T [I, V]), in place."""
    projection = (left + right @ reflectors.T) @ kernel
    left -= projection
    right -= projection @ reflectors


def _factor(triangle: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """T; L and the V in place of the columns."""
    size = len(triangle)
    if size == 1:
        return _factor_row(triangle, columns)
    half = size // 2
    first, second = columns[:half], columns[half:]
    kernel = np.zeros((size, size))
    kernel[:half, :half] = _factor(triangle[:half, :half], first)
    _reflect(first, kernel[:half, :half], triangle[half:, :half], second)
    kernel[half:, half:] = _factor(triangle[half:, half:], second)
    kernel[:half, half:] = -kernel[:half, :half] @ (first @ second.T) @ kernel[half:, half:]
    return kernel


def _factor_row(diagonal: np.ndarray, row: np.ndarray) -> np.ndarray:
    """One reflection that takes [diagonal, row], [1, 1] and [1, b], to a multiple of the unit vector."""
    first, rest = diagonal[0, 0], math.sqrt(np.vdot(row, row))
    if rest == 0:  # nothing to reflect
        return np.zeros((1, 1))
    # The sign against cancellation in first - reflected.
    reflected = -math.copysign(math.hypot(first, rest), first)
    row /= first - reflected
    diagonal[0, 0] = reflected
    return np.full((1, 1), (reflected - first) / reflected)
