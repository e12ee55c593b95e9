"""Sums, as numpy adds them.

numpy adds eight numbers and more with eight accumulators (Higham 1993, "The accuracy of floating
point summation", pairwise), and leaves dot products to BLAS, which may fuse product and sum.
"""

from __future__ import annotations

import math
from fractions import Fraction
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

    @intrinsic  # type: ignore[untyped-decorator]
    def fused(typing: Any, left: Any, right: Any, added: Any) -> Any:  # noqa: ARG001
        """Round ``left * right + added`` once."""

        def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            return builder.fma(*arguments)

        return types.float64(types.float64, types.float64, types.float64), make

else:
    fused = None


@jit
def pairwise_sum(values: Array) -> Any:
    """``np.sum`` of an array, in the precision of the values.

    Halves are added apart; no function calls itself, since numba's cache loads none that does.
    """
    todo = [(0, len(values))]  # parts, the next one last; (-1, 0) adds the last two sums
    sums = [values[0] for _ in range(0)]
    while todo:
        start, count = todo.pop()
        if start < 0:
            right = sums.pop()
            sums.append(sums.pop() + right)
        elif count <= BLOCK:
            sums.append(block_sum(values[start : start + count]))
        else:
            half = count // 2
            half -= half % 8
            todo.append((-1, 0))
            todo.append((start + half, count - half))
            todo.append((start, half))
    return sums[0]


@jit
def block_sum(values: Array) -> Any:
    """The same of at most `BLOCK` numbers."""
    count, sums = len(values), np.zeros(8, values.dtype)
    total = sums[0]  # of the values' precision
    end = count - count % 8
    if end:
        for i in range(0, end, 8):
            for j in range(8):
                sums[j] += values[i + j]
        total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + (
            (sums[4] + sums[5]) + (sums[6] + sums[7])
        )
    for i in range(end, count):
        total += values[i]
    return total


@jit
def sum_of_squares(values: Array) -> Any:
    """``np.sum(np.square(values))``, in the precision of the values."""
    squares = values * values
    return block_sum(squares) if len(squares) <= BLOCK else pairwise_sum(squares)


@jit
def weigh_controls(action: Array, weight: float) -> float:
    """``weight * np.sum(np.square(action))`` of an action of float32, in that precision."""
    total = np.float32(0.0)
    if len(action) < 8:  # without an array of its own
        for each in action:
            total += np.float32(each) * np.float32(each)
    else:
        total = sum_of_squares(action.astype(np.float32))
    return np.float64(np.float32(weight) * total)


@jit
def norm(x: float, y: float, z: float = 0.0) -> float:
    """``np.linalg.norm`` of two or three numbers; see `fuses`."""
    return math.sqrt(fused(z, z, fused(y, y, x * x)))


@jit
def distance(one: Array, other: Array) -> float:
    """``np.linalg.norm(one - other)`` of points in space."""
    return norm(one[0] - other[0], one[1] - other[1], one[2] - other[2])


@cache
def fuses() -> bool:
    """Whether numpy's dot products of few numbers are fused on this machine, as in `norm`."""
    samples = np.random.default_rng(0).normal(size=(64, 3))
    for size in (2, 3):
        for values in samples[:, :size]:
            total = 0.0
            for value in values.tolist():
                total = float(Fraction(value) ** 2 + Fraction(total))
            if total != values.dot(values):
                return False
    return True


@cache
def adds_plainly() -> bool:
    """Whether ``np.einsum("b,bj->j", ...)`` rounds each product before it adds it."""
    generator = np.random.default_rng(0)
    for _ in range(16):
        one, other = generator.normal(size=14), generator.normal(size=(14, 3))
        total = np.zeros(3)
        for each, row in zip(one, other, strict=True):
            total = total + each * row
        if not np.array_equal(total, np.einsum("b,bj->j", one, other)):
            return False
    return True
