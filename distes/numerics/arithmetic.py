"""Products whose bits do not depend on the batch they are computed in.

A BLAS product changes its last bits with its shape, its thread count and the processor.
``np.einsum`` without optimisation sums in index order for C-ordered operands with at
least two output columns, so one row alone equals the same row in any batch.
"""

from __future__ import annotations

import numpy as np

from distes.types import FloatArray


def weights(matrix: FloatArray) -> FloatArray:
    """Lay out an (in, out) matrix for `product`: C-ordered, at least two columns.

    Args:
        matrix: (in, out).

    Returns:
        (in, max(out, 2)); an added column is zero.
    """
    if matrix.shape[1] >= 2:
        return np.ascontiguousarray(matrix)
    return np.ascontiguousarray(np.pad(matrix, ((0, 0), (0, 2 - matrix.shape[1]))))


def product(rows: FloatArray, laid_out: FloatArray) -> FloatArray:
    """Multiply (m, in) rows, or one (in,) row, by weights laid out with `weights`.

    Returns:
        (m, out) or (out,), including columns that `weights` added.
    """
    subscripts = "i,io->o" if rows.ndim == 1 else "mi,io->mo"
    result: FloatArray = np.einsum(subscripts, rows, laid_out)
    return result
