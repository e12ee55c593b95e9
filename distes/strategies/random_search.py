"""Random search: the baseline that every other strategy is compared with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from distes.errors import UsageError
from distes.population.distributions import Concat, Gaussian, Point, Table
from distes.population.records import Episodes, Population
from distes.seeds import noise_key
from distes.strategies.base import Problem, Strategy
from distes.strategies.numerics import ranking
from distes.strategies.parts.elite_figures import EliteFigures
from distes.strategies.parts.incumbents import Incumbents
from distes.types import PositiveFloat, PositiveInt

DEFAULT_SIZE = 64


@dataclass(frozen=True, eq=False)
class RandomSearchState:
    """The best candidates so far.

    Attributes:
        generation: generations told, the index of the next one.
        best: by the mean of their evaluations.
        elites: figures of the best in the last generation.
    """

    generation: int
    best: Incumbents
    elites: EliteFigures


@dataclass(frozen=True)
class RandomSearch(Strategy[RandomSearchState]):
    """Samples a fixed Gaussian about the start and keeps the best candidates.

    The best of many noisy returns is flattered. So the best few are tried again in every
    generation, on its seeds, and are ranked by the mean of all their evaluations.

    Attributes:
        std: standard deviation of every parameter, > 0.
        keep: how many of the best are kept and tried again, >= 1.
    """

    std: PositiveFloat = 1.0
    keep: PositiveInt = 4

    def population_size(self, problem: Problem) -> int:
        """As asked, else 64."""
        return problem.population_size or DEFAULT_SIZE

    def check(self, problem: Problem) -> None:
        """Refuse a population that has no room for fresh candidates."""
        size = self.population_size(problem)
        if size <= self.keep:
            raise UsageError(
                f"a population of {size} has no room for fresh candidates beside the {self.keep} "
                f"that are kept: give a population of at least {self.keep + 1}"
            )

    def init(self, problem: Problem) -> RandomSearchState:
        """Start with nobody."""
        return RandomSearchState(0, Incumbents.empty(problem.num_parameters), EliteFigures())

    def ask(self, problem: Problem, state: RandomSearchState) -> Population:
        """Fresh samples, then the best so far."""
        size, kept = self.population_size(problem), state.best.count
        scale = np.full(problem.num_parameters, self.std)
        fresh = Gaussian(problem.start, scale, noise_key(problem.seed, state.generation))
        if not kept:
            return problem.population(fresh, size)
        union = Concat((fresh, Table(state.best.parameters)), (size - kept, kept))
        return problem.population(union, size)

    def tell(
        self, problem: Problem, state: RandomSearchState, population: Population, episodes: Episodes
    ) -> RandomSearchState:
        """Keep the best by the mean of their evaluations; those that failed now are dropped."""
        first = population.size - state.best.count
        fitness, evaluations = state.best.pool_fitness(episodes.fitness, first)
        chosen = ranking.pick_elites(fitness, self.keep)
        return RandomSearchState(
            generation=state.generation + 1,
            best=Incumbents.pick(population, chosen, fitness, evaluations),
            elites=EliteFigures.of(episodes, fitness, chosen),
        )

    def solution(self, problem: Problem, state: RandomSearchState) -> Population:
        """Deploy the best of those tried again at least once, where there are any."""
        best = state.best
        if best.count == 0:
            return Population(Point(np.array(problem.start, dtype=np.float64)), 1)
        proven = np.flatnonzero(best.evaluations > 1)
        return Population(Point(best.parameters[proven[0] if len(proven) else 0]), 1)

    def metrics(self, state: RandomSearchState) -> dict[str, float]:
        """The best candidates' figures."""
        best = state.best
        return {
            **state.elites.metrics(),
            "best_fitness": float(best.fitness[0]) if best.count else math.nan,
            "best_evaluations": float(best.evaluations[0]) if best.count else math.nan,
        }
