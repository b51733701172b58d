"""Columns appended to a triangular factor: one orthogonal map, and nothing where there is nothing."""

import numpy as np

from sigsoftmax_jax._streamed_qr import append_columns

RNG = np.random.default_rng(11)


def test_columns_enter_the_triangle_by_one_orthogonal_map():
    # L L^T + C C^T stays the same, L stays triangular; sums of 130 products of order 1, so 1e-12 is ample.
    triangle, columns = np.tril(RNG.normal(size=(70, 70))), RNG.normal(size=(70, 60))
    triangle[:, 3] = columns[:4] = 0  # nothing to reflect in the first rows, nothing to reflect onto in the fourth
    before = triangle @ triangle.T + columns @ columns.T
    append_columns(triangle, columns)
    np.testing.assert_array_equal(triangle, np.tril(triangle))
    np.testing.assert_allclose(triangle @ triangle.T, before, rtol=0, atol=1e-12)


def test_columns_of_zeros_change_nothing():
    triangle = np.zeros((20, 20))
    append_columns(triangle, np.zeros((20, 5)))
    np.testing.assert_array_equal(triangle, 0)
