"""What strategies share that try every direction both ways: candidates μ + σ z and μ - σ z.

Both of a pair meet the same episodes, so that the starts' luck cancels in their difference. A
pair of which one failed says nothing about its direction, and does not count.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar, Generic, TypeVar

import numpy as np

from distes.errors import UsageError
from distes.population.distributions import Gaussian, Point
from distes.population.records import Episodes, Population
from distes.seeds import noise_key
from distes.strategies.base import Problem, Strategy
from distes.strategies.numerics import ranking, schedules
from distes.strategies.parts.elite_figures import EliteFigures
from distes.types import FloatArray, PositiveFloat

DEFAULT_SIZE = 64


@dataclass(frozen=True, eq=False)
class PairsState:
    """Where the pairs lie about.

    Attributes:
        generation: generations told, the index of the next one.
        mean: μ, (d,).
        elites: figures of the last generation's better half.
    """

    generation: int
    mean: FloatArray
    elites: EliteFigures = field(default_factory=EliteFigures, kw_only=True)


S = TypeVar("S", bound=PairsState)


@dataclass(frozen=True)
class MirroredPairs(Strategy[S], Generic[S]):
    """Samples mirrored pairs about a mean, which it moves.

    Attributes:
        learning_rate_end: where the learning rate ends; none keeps it as it is.
        schedule: how what has an end goes there: ``linear``, ``cosine``, ``exponential``.
        schedule_generations: how many generations it takes, > 0.
    """

    grows: ClassVar[bool] = True

    learning_rate_end: PositiveFloat | None = None
    schedule: schedules.Shape = "linear"
    schedule_generations: PositiveFloat = 100.0

    def population_size(self, problem: Problem) -> int:
        """As asked, else 64."""
        return problem.population_size or DEFAULT_SIZE

    def check(self, problem: Problem) -> None:
        """Refuse a population that is not made of pairs."""
        size = self.population_size(problem)
        if size < 2 or size % 2:
            raise UsageError(
                f"a population of {size} is not made of mirrored pairs: give an even number, "
                "at least 2"
            )

    @abstractmethod
    def deviations(self, state: S) -> FloatArray:
        """σ of the state's generation, (d,)."""

    @abstractmethod
    def learning_rate_at(self, generation: int) -> float:
        """α of a generation."""

    def follow_schedule(self, generation: int, start: float, end: float | None) -> float:
        """Give the value of a generation of what goes from a start to an end, or stays."""
        return schedules.value_at(generation, start, end, self.schedule, self.schedule_generations)

    def ask(self, problem: Problem, state: S) -> Population:
        """Sample N(μ, diag σ²) in pairs, each with episodes of its own."""
        key = noise_key(problem.seed, state.generation)
        gaussian = Gaussian(state.mean, self.deviations(state), key, mirrored=True)
        population = problem.population(gaussian, self.population_size(problem))
        return replace(population, seed_group=max(2, population.seed_group))

    def count_generation(self, state: S, episodes: Episodes) -> S:
        """Make the next generation's state, with the mean where it is."""
        fitness = episodes.fitness
        order = ranking.pick_elites(fitness, len(fitness))
        elites = EliteFigures.of(episodes, fitness, order[: len(order) // 2])
        return replace(state, generation=state.generation + 1, elites=elites)

    def solution(self, problem: Problem, state: S) -> Population:
        """Deploy the mean: unlike the best candidate, it was not chosen for its luck."""
        return Population(Point(state.mean), 1)

    def metrics(self, state: S) -> dict[str, float]:
        """Better half, width and learning rate."""
        std = self.deviations(state)
        return {
            **state.elites.metrics(),
            "mean_norm": float(np.linalg.norm(state.mean)),
            "std_mean": float(std.mean()),
            "std_min": float(std.min()),
            "std_max": float(std.max()),
            "learning_rate": self.learning_rate_at(state.generation),
        }

    def stop(self, state: S) -> str | None:
        """Stop when all candidates would be the same."""
        if np.all(state.mean + self.deviations(state) == state.mean):
            return "the search distribution has shrunk to a point"
        return None


def drop_broken_pairs(fitness: FloatArray) -> FloatArray:
    """Let both of a pair fail where one of it did, fitness (n,): NaN = failed.

    >>> drop_broken_pairs(np.array([1.0, np.nan, 2.0, 3.0]))
    array([nan, nan,  2.,  3.])
    """
    failed = np.isnan(fitness.reshape(-1, 2)).any(axis=1)
    return np.where(np.repeat(failed, 2), np.nan, fitness)
