"""Learning rates that follow how clear the returns are, for noise and many optima.

Nomura, Akimoto and Ono (2023), "CMA-ES with learning rate adaptation: can CMA-ES with default
population size solve multimodal and noisy problems?" (arXiv:2304.03473).

| name | paper |
|---|---|
| drift, power | E, V: moving averages of the update and of its squared length |
| rate | η |
| memory | β, of the mean .1, of the covariance .03 |
| CLARITY, DAMPING | α = 1.4, γ = .1 |
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from distes.types import FloatArray

CLARITY = 1.4
DAMPING = 0.1


@dataclass(frozen=True, eq=False)
class RateAdaptation:
    """The learning rate of one part of the distribution.

    Attributes:
        drift: E, as the update.
        memory: β.
        power: V.
        rate: η <= 1.
    """

    drift: FloatArray
    memory: float
    power: float = 0.0
    rate: float = 1.0

    def follow(self, update: FloatArray) -> RateAdaptation:
        """Take in an update in the distribution's own coordinates, at the rate 1."""
        memory = self.memory
        drift = (1 - memory) * self.drift + memory * update
        power = (1 - memory) * self.power + memory * float(np.sum(update**2))
        signal = float(np.sum(drift**2))
        noise = power - signal
        # ‖E‖² of updates that are noise alone is β/(2 - β) of V.
        clear = signal - memory / (2 - memory) * power
        ratio = clear / noise if noise > 0 else math.copysign(math.inf, clear)
        ahead = min(max(ratio / (CLARITY * self.rate) - 1, -1.0), 1.0)
        rate = self.rate * math.exp(min(DAMPING * self.rate, memory) * ahead)
        return RateAdaptation(drift, memory, power, min(rate, 1.0))
