"""How wide a search distribution is, to be taken over by another search.

Standard deviations (d,), or a covariance (d, d): each can stand for the other, up to what only a
covariance knows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from distes.strategies.normalized import NormalizedState
from distes.types import FloatArray


def find_spread(state: Any) -> FloatArray | None:
    """Give the spread of a strategy's saved state, (d,) or (d, d); None where it has none."""
    if isinstance(state, NormalizedState):
        state = state.inner
    spread: FloatArray | None = getattr(state, "spread", None)
    return spread


def to_deviations(spread: FloatArray) -> FloatArray:
    """Give standard deviations, (d,)."""
    return spread if spread.ndim == 1 else np.sqrt(np.diagonal(spread))


def to_covariance(spread: FloatArray) -> FloatArray:
    """Give a covariance, (d, d)."""
    return np.diag(spread**2) if spread.ndim == 1 else spread
