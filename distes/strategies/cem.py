"""The cross-entropy method: sample a Gaussian, refit it to the best, repeat.

| name | Szita & Lőrincz 2006, de Boer et al. 2005 |
|---|---|
| population size | N |
| elite_fraction | ρ |
| mean, std | μ, σ |
| extra variance | Z |
| 1 - mean_smoothing | α (their smoothing weighs the new value) |

Settings of note: noisy CEM with constant noise is ``extra_std=2, extra_decay="constant"``
(Z = 4), with decreasing noise ``extra_std=5**0.5, extra_decay="linear",
extra_generations=50`` (Z = max(5 - t/10, 0)).
"""

from __future__ import annotations

from dataclasses import dataclass

from distes.population.records import Episodes, Population
from distes.strategies.base import Problem
from distes.strategies.parts.elite_gaussian import EliteGaussian, GaussianState


@dataclass(frozen=True)
class CEM(EliteGaussian[GaussianState]):
    """Cross-entropy method (de Boer et al. 2005), with extra variance in sampling.

    Settings and formulas: see `EliteGaussian`.
    """

    def init(self, problem: Problem) -> GaussianState:
        """Start from the initial mean and standard deviation."""
        return self.initial_state(problem)

    def ask(self, problem: Problem, state: GaussianState) -> Population:
        """Sample the Gaussian, widened by the extra variance."""
        return problem.population(
            self.build_gaussian(problem, state), self.population_size(problem)
        )

    def tell(
        self, problem: Problem, state: GaussianState, population: Population, episodes: Episodes
    ) -> GaussianState:
        """Refit the Gaussian to the elites."""
        return self.refit(problem, state, population, episodes, episodes.fitness)
