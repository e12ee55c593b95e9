"""Steps along a gradient, uphill: plain, and Adam.

| name | Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 1 |
|---|---|
| learning_rate | α |
| beta_first, beta_second | β₁, β₂ |
| first, second | m, v |
| steps | t |
| SMALL | ε |
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from distes.types import FloatArray

BETA_FIRST, BETA_SECOND, SMALL = 0.9, 0.999, 1e-8


@dataclass(frozen=True, eq=False)
class AdamState:
    """What Adam remembers.

    Attributes:
        first: running mean of gradients, (d,).
        second: running mean of their squares, (d,).
        steps: taken.
    """

    first: FloatArray
    second: FloatArray
    steps: int

    @classmethod
    def begin(cls, size: int) -> AdamState:
        """Remember nothing yet."""
        return cls(np.zeros(size), np.zeros(size), 0)

    def step(self, gradient: FloatArray, learning_rate: float) -> tuple[FloatArray, AdamState]:
        """Give the change (d,) of the parameters for a gradient (d,) to climb, and the next state.

        Kingma & Ba 2015, algorithm 1, with the sign of ascent; the learning rate α is > 0.
        """
        steps = self.steps + 1
        first = BETA_FIRST * self.first + (1 - BETA_FIRST) * gradient  # m_t
        second = BETA_SECOND * self.second + (1 - BETA_SECOND) * gradient**2  # v_t
        # Both began at 0 and are too small by 1 - β^t at first: m̂_t and √v̂_t.
        mean = first / (1 - BETA_FIRST**steps)
        size = np.sqrt(second / (1 - BETA_SECOND**steps))
        change = learning_rate * mean / (size + SMALL)
        return change, replace(self, first=first, second=second, steps=steps)
