"""Products whose bits do not depend on the batch they are computed in.

A BLAS product changes its last bits with its shape, its thread count and the processor.
``np.einsum`` without optimisation sums in index order for C-ordered operands with at
least two output columns, so one row alone equals the same row in any batch.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from distes.types import FloatArray


def lay_out(matrix: FloatArray) -> FloatArray:
    """Lay out an (in, out) matrix for `multiply`: C-ordered, (in, max(out, 2)).

    An added column is zero.
    """
    if matrix.shape[1] >= 2:
        return np.ascontiguousarray(matrix)
    padded = np.zeros((len(matrix), 2))
    padded[:, : matrix.shape[1]] = matrix
    return padded


def multiply(rows: FloatArray, laid_out: FloatArray) -> FloatArray:
    """Multiply (m, in) rows, or one (in,) row, by weights laid out with `lay_out`.

    (m, out) or (out,), including columns that `lay_out` added.
    """
    subscripts = "i,io->o" if rows.ndim == 1 else "mi,io->mo"
    result: FloatArray = np.einsum(subscripts, rows, laid_out)
    return result


def one_blas_thread() -> Any:
    """Make a context in which BLAS products do not depend on how many cores there are."""
    return _libraries().limit(limits=1, user_api="blas")


@cache
def _libraries() -> ThreadpoolController:
    # Found once: looking through the loaded libraries takes longer than a small product.
    return ThreadpoolController()
