"""The limited-memory shape of a search distribution: some directions in place of a matrix.

Loshchilov, Glasmachers and Beyer (2017), "Limited-memory matrix adaptation for large scale
black-box optimization" (arXiv:1705.06693), algorithm 1.

| name | paper |
|---|---|
| directions | m_i, the rows of which the first reaches back least |
| age | t |
| gains, rates | c_d,i and c_c,i |

The paper looks at many parameters and few samples. Elsewhere rates are at most 1, and there are
at most half as many directions as parameters: more of them diverge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from distes.population.distributions import LowRankGaussian
from distes.population.records import Population
from distes.seeds import NoiseKey
from distes.strategies.base import Problem
from distes.types import FloatArray


@dataclass(frozen=True, eq=False)
class LimitedMemory:
    """Fading averages of the mean's steps, each over another time.

    Attributes:
        directions: m_i, (m, d).
        age: updates so far; as many of the directions are used.
    """

    directions: FloatArray
    age: int = 0

    condition: ClassVar[float] = math.nan
    """Not known."""

    @classmethod
    def start(cls, size: int) -> LimitedMemory:
        """Start with m = 4 + ⌊3 ln d⌋ directions that are not used yet."""
        return cls(np.zeros((min(size // 2, 4 + math.floor(3 * math.log(size))), size)))

    @property
    def deviations(self) -> FloatArray:
        """1, (1,): the step size says how wide the distribution is."""
        return np.ones(1)

    @property
    def path(self) -> FloatArray:
        """0, (1,): steps are remembered by the directions."""
        return np.zeros(1)

    def spread(self, mean: FloatArray, step_size: float, key: NoiseKey) -> LowRankGaussian:
        """Spread candidates about a mean."""
        used = self.directions[: self.age]
        size = len(mean)
        # d ← (1 - c_d) d + c_d m (mᵀ d), direction by direction, collected as d = s z + Vᵀ U V z:
        # of the products mᵀ d, those of directions with each other are the same for all z.
        products = used @ used.T
        share, mixing = 1.0, np.zeros_like(products)
        for j in range(len(used)):
            gain = 1 / (1.5**j * size)
            seen = products[j] @ mixing
            seen[j] += share
            share, mixing = (1 - gain) * share, (1 - gain) * mixing
            mixing[j] += gain * seen
        scale = np.full(size, step_size)
        return LowRankGaussian(mean, scale, key, directions=used, mixing=mixing, share=share)

    def follow(
        self, problem: Problem, population: Population, weights: FloatArray, samples: int
    ) -> tuple[LimitedMemory, FloatArray, FloatArray]:
        """Remember the mean's step.

        Args:
            problem: whose service sums.
            population: drawn with `spread`.
            weights: (n,) w >= 0 that sum to 1.
            samples: λ, those that did not fail.

        Returns:
            What is learnt, Σ w z and Σ w d, (d,) each.
        """
        pull, _ = problem.weigh_noise(population, weights)
        drawn = population.distribution
        step = drawn.stretch(pull[None])[0]  # type: ignore[attr-defined]
        count, size = self.directions.shape
        effective = 1 / float(weights @ weights)
        rates = np.minimum(1.0, samples / (4.0 ** np.arange(count) * size))[:, None]
        directions = (1 - rates) * self.directions + np.sqrt(effective * rates * (2 - rates)) * pull
        return LimitedMemory(directions, self.age + 1), pull, step
