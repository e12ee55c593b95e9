"""Steps along a gradient, uphill: Adam, ClipUp, and gradient ascent with momentum.

Each remembers something between steps: ``begin(size)`` makes what it starts from, and
``step(gradient, learning_rate)`` gives the change (d,) of the parameters for a gradient (d,) to
climb, and what is remembered next. The learning rate α is > 0 and may change from step to step.

| name | Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 1 |
|---|---|
| learning_rate | α |
| beta_first, beta_second | β₁, β₂ |
| first, second | m, v |
| steps | t |
| SMALL | ε |

| name | Toklu et al. 2020, "ClipUp: a simple and powerful optimizer", algorithm 2 |
|---|---|
| learning_rate | α |
| velocity | v |
| MOMENTUM | m |
| limit · learning_rate | v^max, the maximum speed |
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from distes.types import FloatArray

BETA_FIRST, BETA_SECOND, SMALL = 0.9, 0.999, 1e-8
MOMENTUM = 0.9


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
        """Step as Kingma & Ba 2015, algorithm 1, with the sign of ascent."""
        steps = self.steps + 1
        first = BETA_FIRST * self.first + (1 - BETA_FIRST) * gradient  # m_t
        second = BETA_SECOND * self.second + (1 - BETA_SECOND) * gradient**2  # v_t
        # Both began at 0 and are too small by 1 - β^t at first: m̂_t and √v̂_t.
        mean = first / (1 - BETA_FIRST**steps)
        size = np.sqrt(second / (1 - BETA_SECOND**steps))
        change = learning_rate * mean / (size + SMALL)
        return change, replace(self, first=first, second=second, steps=steps)


@dataclass(frozen=True, eq=False)
class ClipUpState:
    """What ClipUp remembers.

    Attributes:
        velocity: the last change, (d,).
        limit: greatest length of a change, in learning rates.
    """

    velocity: FloatArray
    limit: float

    @classmethod
    def begin(cls, size: int, limit: float = 4 / 3) -> ClipUpState:
        """Rest; by default α is 0.75 of the maximum speed."""
        return cls(np.zeros(size), limit)

    def step(self, gradient: FloatArray, learning_rate: float) -> tuple[FloatArray, ClipUpState]:
        """Step as Toklu et al. 2020, algorithm 2: the gradient's length does not matter.

        The maximum speed goes with the learning rate.
        """
        velocity = MOMENTUM * self.velocity
        length = float(np.linalg.norm(gradient))
        if length > 0:
            velocity = velocity + learning_rate * (gradient / length)
        speed, greatest = float(np.linalg.norm(velocity)), self.limit * learning_rate
        if speed > greatest:
            velocity = velocity * (greatest / speed)
        return velocity, replace(self, velocity=velocity)


@dataclass(frozen=True, eq=False)
class MomentumState:
    """What gradient ascent with momentum remembers.

    Attributes:
        velocity: sum of the gradients so far, each fading by m a step, (d,).
    """

    velocity: FloatArray

    @classmethod
    def begin(cls, size: int) -> MomentumState:
        """Rest."""
        return cls(np.zeros(size))

    def step(self, gradient: FloatArray, learning_rate: float) -> tuple[FloatArray, MomentumState]:
        """Step as the heavy ball of Polyak (1964): v ← m v + g, and α v is the change."""
        velocity = MOMENTUM * self.velocity + gradient
        return learning_rate * velocity, MomentumState(velocity)
