"""Ranking candidates by fitness: NaN last, ties by candidate order."""

from __future__ import annotations

import numpy as np

from distes.types import FloatArray, IntArray


def pick_elites(fitness: FloatArray, count: int) -> IntArray:
    """Pick the numbers of the best candidates, best first, of fitness (n,): higher is better.

    NaN = failed, never picked: there are fewer than ``count`` where fewer candidates are valid.

    >>> pick_elites(np.array([1.0, 3.0, np.nan, 3.0]), 2)
    array([1, 3])
    """
    valid = int(np.count_nonzero(~np.isnan(fitness)))
    order = (-fitness).argsort(kind="stable")
    return order[: min(count, valid)]
