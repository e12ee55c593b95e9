"""Values that change over generations: standard deviations and learning rates."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

Shape: TypeAlias = Literal["linear", "cosine", "exponential"]


def value_at(
    generation: int, start: float, end: float | None, shape: Shape, length: float
) -> float:
    """Give the value that a schedule has in a generation.

    With s = min(generation/length, 1): ``linear`` is (1 - s) start + s end, ``cosine`` is
    end + (start - end)(1 + cos πs)/2, and ``exponential`` start^(1 - s) end^s.

    Args:
        generation: counted from 0.
        start: value of generation 0, > 0.
        end: value from generation ``length`` on, > 0; None is constant.
        shape: how it goes from one to the other.
        length: generations, > 0.

    >>> [value_at(t, 1.0, 0.25, "exponential", 10) for t in (0, 5, 10, 99)]
    [1.0, 0.5, 0.25, 0.25]
    """
    if end is None:
        return start
    share = min(generation / length, 1.0)
    if shape == "exponential":
        return float(start ** (1 - share) * end**share)
    if shape == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    return (1 - share) * start + share * end
