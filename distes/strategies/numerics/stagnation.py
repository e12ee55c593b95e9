"""Whether the returns of a search say that it has ended, where returns are exact.

Hansen (2016), "The CMA evolution strategy: a tutorial", appendix B.3.
"""

from __future__ import annotations

import math

import numpy as np

from distes.types import FloatArray

SMALL_RANGE = 1e-11
"""Returns that differ by less are taken as equal."""

MOST_KEPT = 20_000
"""Generations that are looked back on at most."""


NOTHING = np.empty((0, 3))
"""The history before the first generation."""


def add_returns(history: FloatArray, fitness: FloatArray) -> FloatArray:
    """Add a generation's best, median and worst fitness (n,) to a history (g, 3)."""
    if not len(fitness):
        return history
    row = [[fitness.max(), np.median(fitness), fitness.min()]]
    return np.concatenate([history[1 - MOST_KEPT :], row])


def find_end(history: FloatArray, size: int, samples: int) -> str | None:
    """Say in which way the returns have ended to improve, or None.

    Args:
        history: (g, 3) best, median and worst fitness of each generation.
        size: n, the number of parameters.
        samples: λ.
    """
    window = 10 + math.ceil(30 * size / samples)
    if len(history) >= window:
        recent = history[-window:, 0]
        if np.ptp(recent) < SMALL_RANGE and history[-1, 0] - history[-1, 2] < SMALL_RANGE:
            return f"returns have differed by less than {SMALL_RANGE:g}"
    # As package cma counts: 100 + 100 n^1.5/λ generations, or more in a long search.
    window = max(math.ceil(100 + 100 * size**1.5 / samples), len(history) // 5)
    half = min(window, MOST_KEPT) // 2
    if len(history) >= 2 * half and len(history) > size * (5 + 100 / samples):
        before, after = history[-2 * half : -half, :2], history[-half:, :2]
        if (np.median(after, axis=0) <= np.median(before, axis=0)).all():
            return f"returns have not risen for {half} generations"
    return None
