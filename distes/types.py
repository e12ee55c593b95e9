"""Names for types that the whole project shares: arrays, and numbers within ranges.

The ranges of settings stand in their annotations, each with the words in which
`registry.check_fields` refuses what is outside.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Interval

Array: TypeAlias = npt.NDArray[Any]
FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]

PositiveInt: TypeAlias = Annotated[int, Ge(1), "at least 1"]
MAX_EPISODES = 10**8
"""Episodes of a generation: as many rows fill the memory of a large machine."""

EpisodeCount: TypeAlias = Annotated[
    int, Interval(ge=1, le=MAX_EPISODES), f"between 1 and {MAX_EPISODES:,}"
]
NonNegativeInt: TypeAlias = Annotated[int, Ge(0), "at least 0"]
PositiveFloat: TypeAlias = Annotated[float, Gt(0), "a finite number > 0"]
NonNegativeFloat: TypeAlias = Annotated[float, Ge(0), "a finite number >= 0"]
Fraction: TypeAlias = Annotated[float, Interval(gt=0, le=1), "in (0, 1]"]
Share: TypeAlias = Annotated[float, Interval(ge=0, le=1), "in [0, 1]"]
Momentum: TypeAlias = Annotated[float, Interval(ge=0, lt=1), "in [0, 1)"]
"""A share of the old that is kept."""

Percentile: TypeAlias = Annotated[float, Interval(ge=0, lt=100), "in [0, 100)"]
