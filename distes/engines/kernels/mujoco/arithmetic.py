"""Sums, as numpy adds them.

numpy adds eight numbers and more with eight accumulators (Higham 1993, "The accuracy of floating
point summation", pairwise), and leaves dot products to BLAS, which may fuse product and sum.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from distes.engines.kernels.jit import jit, numba
from distes.types import Array

BLOCK = 128
"""Most numbers that are added without halving."""

if numba is not None:
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def fused(typing: Any, left: Any, right: Any, added: Any) -> Any:  # noqa: ARG001
        """left * right + added, rounded once."""

        def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            return builder.fma(*arguments)

        return types.float64(types.float64, types.float64, types.float64), make

else:
    fused = None


@jit
def pairwise_sum(values: Array, start: int, stop: int) -> Any:
    """Sum values[start:stop], as ``np.sum`` adds an array of them."""
    count = stop - start
    sums = np.zeros(8, values.dtype)
    if count < 8:
        total = sums[0]  # of the values' precision
        for i in range(start, stop):
            total += values[i]
        return total
    if count <= BLOCK:
        sums[:] = values[start : start + 8]
        end = stop - count % 8
        for i in range(start + 8, end, 8):
            for j in range(8):
                sums[j] += values[i + j]
        total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + (
            (sums[4] + sums[5]) + (sums[6] + sums[7])
        )
        for i in range(end, stop):
            total += values[i]
        return total
    half = count // 2
    half -= half % 8
    return pairwise_sum(values, start, start + half) + pairwise_sum(values, start + half, stop)


@jit
def sum_of_squares(values: Array) -> Any:
    """``np.sum(np.square(values))``, in the precision of the values."""
    squares = values * values
    return pairwise_sum(squares, 0, len(squares))


@jit
def weigh_controls(action: Array, weight: float) -> float:
    """``weight * np.sum(np.square(action))`` of an action of float32, in that precision."""
    return np.float64(np.float32(weight) * sum_of_squares(action.astype(np.float32)))


@jit
def norm(values: Array) -> float:
    """``np.linalg.norm`` of two or three numbers; see `fuses`."""
    total = 0.0
    for i in range(len(values)):
        total = fused(values[i], values[i], total)
    return math.sqrt(total)


@cache
def fuses() -> bool:
    """Whether numpy's dot products of few numbers are fused on this machine, as in `norm`."""
    generator = np.random.default_rng(0)
    pairs = generator.normal(size=(64, 2, 3))
    return all(
        norm(values[:size]) == np.linalg.norm(values[:size])
        for values in pairs.reshape(-1, 3)
        for size in (2, 3)
    )
