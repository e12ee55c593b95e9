"""Candidates kept from generation to generation and tried again on each one's seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distes.population.records import Population
from distes.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Incumbents:
    """Kept candidates, best first.

    Attributes:
        parameters: (r, d).
        fitness: (r,) mean over their evaluations.
        evaluations: (r,) int64 generations in which they were evaluated.
    """

    parameters: FloatArray
    fitness: FloatArray
    evaluations: IntArray

    @classmethod
    def empty(cls, num_parameters: int) -> Incumbents:
        """Keep nobody yet."""
        return cls(np.empty((0, num_parameters)), np.empty(0), np.empty(0, dtype=np.int64))

    @classmethod
    def pick(
        cls, population: Population, chosen: IntArray, fitness: FloatArray, evaluations: IntArray
    ) -> Incumbents:
        """Keep candidates ``chosen`` (r,), best first, of a population's fitness (n,)."""
        parameters = population.distribution.draw(chosen)
        return cls(parameters, fitness[chosen], evaluations[chosen])

    @property
    def count(self) -> int:
        """How many there are, r."""
        return len(self.fitness)

    def pool_fitness(self, fitness: FloatArray, first: int) -> tuple[FloatArray, IntArray]:
        """Join a generation's fitness (n,) with that of the incumbents in it, from ``first`` on.

        Returns:
            (n,) mean fitness, NaN where the newest evaluation failed, and (n,) evaluations.
        """
        mean, evaluations = fitness.copy(), np.ones(len(fitness), dtype=np.int64)
        here = slice(first, first + self.count)
        evaluations[here] += self.evaluations
        # Running mean: m_k = m_{k-1} + (f_k - m_{k-1})/k.
        mean[here] = self.fitness + (fitness[here] - self.fitness) / evaluations[here]
        return mean, evaluations
