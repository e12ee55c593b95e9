"""Restarts: a search begins again, from elsewhere, when it has come to an end.

IPOP: Auger and Hansen (2005), "A restart CMA evolution strategy with increasing population
size". BIPOP: Hansen (2009), "Benchmarking a bi-population CMA-ES on the BBOB-2009 function
testbed": large populations that double, and small ones with small steps between them, which
together may take as many evaluations.

What the attempts have found is compared by the mean return of a last generation: it belongs to
the mean that was sampled about, and is no lucky candidate's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from distes.strategies.numerics import stagnation
from distes.types import FloatArray


@dataclass(frozen=True, eq=False)
class Attempt:
    """One search from a start to a stop, and what those before it have left.

    Attributes:
        population: λ.
        start_step: σ at its start.
        number: attempts before it.
        generations: told in it.
        evaluations: candidates told in it.
        limit: of its evaluations; 0 is none.
        doublings: of λ in the last large attempt.
        spent_large: evaluations of large attempts that have ended.
        spent_small: of small ones.
        mean: that the last generation was sampled about, (d,).
        fitness: mean fitness of that generation.
        best_mean: of the attempts that have ended, (d,).
        best_fitness: its mean fitness.
        history: (g, 3) fitness of each generation, see `numerics.stagnation`; None where
            returns say nothing about an end.
    """

    population: int
    start_step: float
    mean: FloatArray
    best_mean: FloatArray
    number: int = 0
    generations: int = 0
    evaluations: int = 0
    limit: int = 0
    doublings: int = 0
    spent_large: int = 0
    spent_small: int = 0
    fitness: float = -math.inf
    best_fitness: float = -math.inf
    history: FloatArray | None = None

    @property
    def solution(self) -> FloatArray | None:
        """The best mean of attempts that have ended, where this one is behind; else None."""
        return self.best_mean if self.best_fitness > self.fitness else None

    def count(self, mean: FloatArray, fitness: FloatArray) -> Attempt:
        """Count a generation of fitness (n,), NaN = failed, that was sampled about a mean."""
        valid = fitness[~np.isnan(fitness)]
        history = self.history
        scored = len(valid) > 0
        return replace(
            self,
            generations=self.generations + 1,
            evaluations=self.evaluations + len(fitness),
            mean=mean if scored else self.mean,
            fitness=float(valid.sum() / len(valid)) if scored else self.fitness,
            history=None if history is None else stagnation.add_returns(history, valid),
        )

    def follow_ipop(self) -> Attempt:
        """Begin again with twice the population."""
        return self._begin(2 * self.population, self.start_step, self.doublings + 1)

    def follow_bipop(self, first: int, step: float, uniform: tuple[float, float]) -> Attempt:
        """Begin again, large or small, whichever has spent less.

        Args:
            first: λ of the first attempt.
            step: σ of its start.
            uniform: two numbers in [0, 1) for the size and the step of a small attempt.
        """
        small = self.limit > 0
        spent_large = self.spent_large + (0 if small else self.evaluations)
        spent_small = self.spent_small + (self.evaluations if small else 0)
        if self.doublings == 0 or spent_large <= spent_small:
            doublings = self.doublings + 1
            begun = self._begin(first * 2**doublings, step, doublings)
        else:
            # λ_s = ⌊λ (½ λ_l/λ)^(U²)⌋ and σ = σ0 10^(-2U), for at most half of the evaluations
            size = math.floor(first * (2**self.doublings / 2) ** (uniform[0] ** 2))
            begun = self._begin(size, step * 10 ** (-2 * uniform[1]), self.doublings)
            begun = replace(begun, limit=max(1, spent_large // 2))
        return replace(begun, spent_large=spent_large, spent_small=spent_small)

    def _begin(self, population: int, step: float, doublings: int) -> Attempt:
        ahead = self.fitness > self.best_fitness
        return Attempt(
            population=population,
            start_step=step,
            mean=self.mean,
            best_mean=self.mean if ahead else self.best_mean,
            number=self.number + 1,
            doublings=doublings,
            best_fitness=max(self.fitness, self.best_fitness),
            history=None if self.history is None else stagnation.NOTHING,
        )
