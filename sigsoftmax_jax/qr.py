"""The triangular factor of a tall matrix that arrives in blocks of rows.

R of the QR factorisation of [R; rows] by Householder reflections, panel after panel, so that R stays
triangular and only R and one block are held. Reflections are orthogonal: each singular value of the
matrix moves by at most a few eps times the largest. The Gram matrix, which is as cheap to stream,
squares the singular values and loses those below sqrt(eps) times the largest.
"""

import numpy as np

PANEL = 128


def append_rows(triangle: np.ndarray, rows: np.ndarray) -> None:
    """Replace R [n, n] in place by the R of [R; rows]; ``rows`` [b, n] is used up as workspace."""
    for start in range(0, len(triangle), PANEL):
        stop = min(start + PANEL, len(triangle))
        stacked = np.concatenate([triangle[start:stop, start:stop], rows[:, start:stop]])
        reflectors, kernel, factor = _compact_wy(stacked)
        triangle[start:stop, start:stop] = factor
        above, below = triangle[start:stop, stop:], rows[:, stop:]
        top, bottom = reflectors[: stop - start], reflectors[stop - start :]
        projection = kernel.T @ (top.T @ above + bottom.T @ below)
        above -= top @ projection
        below -= bottom @ projection


def _compact_wy(panel: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V, T and R with panel = (I - V T V^T) [R; 0] (Schreiber and Van Loan, 1989)."""
    width = panel.shape[1]
    packed, scales = np.linalg.qr(panel, mode="raw")
    reflectors = np.tril(packed.T, -1)
    reflectors[np.diag_indices(width)] = 1
    # A column already zero below its diagonal is not reflected: v = 0 says so with any scale but 0.
    reflectors[:, scales == 0] = 0
    inverse = np.triu(reflectors.T @ reflectors, 1) + np.diag(1 / np.where(scales == 0, 1, scales))
    return reflectors, np.linalg.inv(inverse), np.triu(packed.T[:width])
