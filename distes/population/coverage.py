"""Rows that cover a set of rows: farthest-point traversal, in units of the columns' spread.

Gonzalez (1985), "Clustering to minimize the maximum intercluster distance".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from distes.types import FloatArray

ROUNDING = 1e-12
"""Share of a column's size below which its standard deviation is rounding."""


def mean_and_spread(columns: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each column; 1 for one that does not vary."""
    spread = columns.std(axis=0)
    varies = spread > ROUNDING * np.abs(columns).max(axis=0)
    return columns.mean(axis=0), np.where(varies, spread, 1.0)


def choose_farthest(
    rows: FloatArray, count: int, known: Sequence[FloatArray] | FloatArray = (), apart: float = 0.0
) -> list[int]:
    """Choose rows far from each other: each next is the farthest from all before.

    Args:
        rows: (n, i), n > 0, in units that make distances comparable.
        count: how many to choose, at most.
        known: (m, i) rows to be far from, too; without any the first row chosen is the one
            nearest to the origin.
        apart: a row that is no farther than this from another one is not chosen.

    Returns:
        Their numbers, in the order in which they were chosen.
    """
    nearest = np.full(len(rows), math.inf)
    for each in known:
        nearest = np.minimum(nearest, squared_distances(rows, each))
    number = int(nearest.argmax()) if len(known) else int(squared_distances(rows, 0.0).argmin())
    chosen: list[int] = []
    while len(chosen) < count and nearest[number] > apart**2:
        chosen.append(number)
        nearest = np.minimum(nearest, squared_distances(rows, rows[number]))
        number = int(nearest.argmax())
    return chosen


def squared_distances(rows: FloatArray, point: FloatArray | float) -> FloatArray:
    """Squared distances of rows (n, i) from a point (i,), (n,)."""
    distances: FloatArray = ((rows - point) ** 2).sum(axis=1)
    return distances
