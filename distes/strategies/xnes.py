"""Exponential natural evolution strategy: a natural gradient step for a full covariance.

Glasmachers, Schaul, Sun, Wierstra and Schmidhuber (2010), "Exponential natural evolution
strategies"; Wierstra et al. (2014), "Natural evolution strategies", section 3.4.

| name | paper |
|---|---|
| mean, factor | μ, A: candidates are μ + A z |
| utilities | u, by rank (`numerics.shaping.nes_utilities`) |
| mean_rate, factor_rate | η_μ, η_A (one rate for step size and shape) |
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
from distes.strategies.numerics import moments, ranking, shaping
from distes.strategies.parts import spreads
from distes.strategies.parts.elite_figures import EliteFigures
from distes.strategies.parts.memory import refuse_beyond_memory
from distes.types import FloatArray, PositiveFloat

MATRICES = 6
"""That are held at once at most: A, a gradient, and what an exponential takes."""


@dataclass(frozen=True, eq=False)
class XNESState:
    """The search distribution.

    Attributes:
        generation: generations told, the index of the next one.
        mean: μ, (d,).
        factor: A, (d, d): the covariance is A Aᵀ.
        elites: figures of the last generation's better half.
    """

    generation: int
    mean: FloatArray
    factor: FloatArray
    elites: EliteFigures = field(default_factory=EliteFigures)

    @property
    def spread(self) -> FloatArray:
        """A Aᵀ, (d, d)."""
        return self.factor @ self.factor.T


@dataclass(frozen=True)
class XNES(Strategy[XNESState]):
    """Exponential natural evolution strategy (Glasmachers et al. 2010), full covariance.

    Attributes:
        initial_std: standard deviation of every parameter at the start, > 0.
        mean_rate: η_μ, > 0.
        factor_rate: η_A, > 0; none is 0.6 (3 + ln d)/(d √d).
    """

    grows: ClassVar[bool] = True
    takes_spread: ClassVar[bool] = True

    initial_std: PositiveFloat = 1.0
    mean_rate: PositiveFloat = 1.0
    factor_rate: PositiveFloat | None = None

    def population_size(self, problem: Problem) -> int:
        """As asked, else λ = 4 + ⌊3 ln d⌋."""
        if problem.population_size is not None:
            return problem.population_size
        return 4 + math.floor(3 * math.log(problem.num_parameters))

    def check(self, problem: Problem) -> None:
        """Refuse a population without ranks to tell apart, and a matrix that is too large."""
        size = self.population_size(problem)
        if size < 4:
            raise UsageError(f"a population of {size} is too small for xnes: give at least 4")
        dimension = problem.num_parameters
        refuse_beyond_memory(
            MATRICES * dimension**2 + 2 * size * dimension,
            f"a full covariance of {dimension:,} parameters",
            "use snes, which learns a deviation for each",
        )

    def init(self, problem: Problem) -> XNESState:
        """Start where the policy does, alike in all directions."""
        factor = self.initial_std * np.eye(problem.num_parameters)
        if problem.start_spread is not None:
            factor = moments.symmetric_root(spreads.to_covariance(problem.start_spread))
        return XNESState(0, np.array(problem.start, dtype=np.float64), factor)

    def ask(self, problem: Problem, state: XNESState) -> Population:
        """Sample N(μ, A Aᵀ)."""
        gaussian = Gaussian(state.mean, state.factor, noise_key(problem.seed, state.generation))
        return problem.population(gaussian, self.population_size(problem))

    def tell(
        self, problem: Problem, state: XNESState, population: Population, episodes: Episodes
    ) -> XNESState:
        """Follow the natural gradient in the distribution's own coordinates."""
        fitness = episodes.fitness
        order = ranking.pick_elites(fitness, len(fitness))
        elites = EliteFigures.of(episodes, fitness, order[: len(order) // 2])
        utilities = shaping.nes_utilities(fitness)[order]
        steps = population.distribution.draw(order) - state.mean
        normals = np.linalg.solve(state.factor, steps.T).T  # z
        size = problem.num_parameters
        rate = self.factor_rate or 0.6 * (3 + math.log(size)) / (size * math.sqrt(size))
        # Algorithm "xNES" of the papers: ∇μ = Σ u z, ∇M = Σ u (z zᵀ - I).
        mean = state.mean + self.mean_rate * state.factor @ (utilities @ normals)
        gradient = normals.T @ (utilities[:, None] * normals) - utilities.sum() * np.eye(size)
        factor = state.factor @ exponential(rate / 2 * gradient)
        return replace(
            state, generation=state.generation + 1, mean=mean, factor=factor, elites=elites
        )

    def solution(self, problem: Problem, state: XNESState) -> Population:
        """Deploy the mean: unlike the best candidate, it was not chosen for its luck."""
        return Population(Point(state.mean), 1)

    def metrics(self, state: XNESState) -> dict[str, float]:
        """Better half and widths."""
        std = np.sqrt(np.sum(state.factor**2, axis=1))
        return {
            **state.elites.metrics(),
            "mean_norm": float(np.linalg.norm(state.mean)),
            "std_mean": float(std.mean()),
            "std_min": float(std.min()),
            "std_max": float(std.max()),
        }

    def stop(self, state: XNESState) -> str | None:
        """Stop when all candidates would be the same."""
        if np.all(state.mean + np.sqrt(np.sum(state.factor**2, axis=1)) == state.mean):
            return "the search distribution has shrunk to a point"
        return None


def exponential(matrix: FloatArray) -> FloatArray:
    """The matrix exponential of a symmetric matrix, (d, d); not that of its entries.

    >>> exponential(np.array([[0.0, 0.0], [0.0, 0.0]])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    result: FloatArray = (vectors * np.exp(values)) @ vectors.T
    return result
