"""Separable natural evolution strategy: a natural gradient step for mean and deviations.

Schaul, Glasmachers and Schmidhuber (2011), "High dimensions and heavy tails for natural
evolution strategies"; Wierstra et al. (2014), "Natural evolution strategies", section 3.5.

| name | paper |
|---|---|
| mean, std | μ, σ |
| utilities | u, by rank (`numerics.shaping.nes_utilities`) |
| standard normals | s: candidates are μ + σ s |
| mean_rate, std_rate | η_μ, η_σ |
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from distes.errors import UsageError
from distes.population.distributions import Gaussian, Point
from distes.population.records import Episodes, Population
from distes.seeds import noise_key
from distes.strategies.base import Problem, Strategy
from distes.strategies.numerics import ranking, shaping
from distes.strategies.parts import spreads
from distes.strategies.parts.elite_figures import EliteFigures
from distes.types import FloatArray, PositiveFloat


@dataclass(frozen=True, eq=False)
class SNESState:
    """The search distribution.

    Attributes:
        generation: generations told, the index of the next one.
        mean: μ, (d,).
        std: σ, (d,).
        elites: figures of the last generation's better half.
    """

    generation: int
    mean: FloatArray
    std: FloatArray
    elites: EliteFigures = field(default_factory=EliteFigures)

    @property
    def spread(self) -> FloatArray:
        """σ, (d,)."""
        return self.std


@dataclass(frozen=True)
class SNES(Strategy[SNESState]):
    """Separable natural evolution strategy (Schaul et al. 2011).

    Attributes:
        initial_std: standard deviation of every parameter at the start, > 0.
        mean_rate: η_μ, > 0.
        std_rate: η_σ, > 0; none is (3 + ln d)/(5 √d).
    """

    grows: ClassVar[bool] = True
    takes_spread: ClassVar[bool] = True

    initial_std: PositiveFloat = 1.0
    mean_rate: PositiveFloat = 1.0
    std_rate: PositiveFloat | None = None

    def population_size(self, problem: Problem) -> int:
        """As asked, else λ = 4 + ⌊3 ln d⌋."""
        if problem.population_size is not None:
            return problem.population_size
        return 4 + math.floor(3 * math.log(problem.num_parameters))

    def check(self, problem: Problem) -> None:
        """Refuse a population without ranks to tell apart."""
        size = self.population_size(problem)
        if size < 4:
            raise UsageError(f"a population of {size} is too small for snes: give at least 4")

    def init(self, problem: Problem) -> SNESState:
        """Start where the policy does, alike in all directions."""
        std = np.full(problem.num_parameters, self.initial_std)
        if problem.start_spread is not None:
            std = spreads.to_deviations(problem.start_spread)
        return SNESState(0, np.array(problem.start, dtype=np.float64), std)

    def ask(self, problem: Problem, state: SNESState) -> Population:
        """Sample N(μ, diag σ²)."""
        gaussian = Gaussian(state.mean, state.std, noise_key(problem.seed, state.generation))
        return problem.population(gaussian, self.population_size(problem))

    def tell(
        self, problem: Problem, state: SNESState, population: Population, episodes: Episodes
    ) -> SNESState:
        """Follow the natural gradient in the distribution's own coordinates."""
        fitness = episodes.fitness
        order = ranking.pick_elites(fitness, len(fitness))
        elites = EliteFigures.of(episodes, fitness, order[: len(order) // 2])
        utilities = shaping.nes_utilities(fitness)
        pull, stretch = problem.weigh_noise(population, utilities, utilities)
        size = problem.num_parameters
        rate = self.std_rate or (3 + math.log(size)) / (5 * math.sqrt(size))
        # Algorithm "SNES" of the papers: ∇μ = Σ u s, ∇σ = Σ u (s² - 1).
        mean = state.mean + self.mean_rate * state.std * pull
        std = state.std * np.exp(rate / 2 * (stretch - utilities.sum()))
        return replace(state, generation=state.generation + 1, mean=mean, std=std, elites=elites)

    def solution(self, problem: Problem, state: SNESState) -> Population:
        """Deploy the mean: unlike the best candidate, it was not chosen for its luck."""
        return Population(Point(state.mean), 1)

    def metrics(self, state: SNESState) -> dict[str, float]:
        """Better half and widths."""
        return {
            **state.elites.metrics(),
            "mean_norm": float(np.linalg.norm(state.mean)),
            "std_mean": float(state.std.mean()),
            "std_min": float(state.std.min()),
            "std_max": float(state.std.max()),
        }

    def stop(self, state: SNESState) -> str | None:
        """Stop when all candidates would be the same."""
        if np.all(state.mean + state.std == state.mean):
            return "the search distribution has shrunk to a point"
        return None
