"""Observation normalisation around any strategy.

Every candidate of a generation sees observations as (observation - mean)/std of all search
episodes before it, as ARS V2 does (Mania et al. 2018). The statistics are frozen within a
generation, so that an episode does not depend on the order in which others ran.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np

from distes.population.probes import ObservationMoments
from distes.population.records import Episodes, Population
from distes.strategies.base import Problem, Strategy
from distes.types import FloatArray

_CONSTANT = 1e-7
"""Share of |mean| below which a standard deviation is rounding error."""


@dataclass(frozen=True, eq=False)
class NormalizedState:
    """The inner strategy's state and the running statistics.

    Attributes:
        inner: of the wrapped strategy.
        count: observations so far.
        mean: (k,) of them.
        square_sum: (k,) sum of squares about the mean.
    """

    inner: Any
    count: float
    mean: FloatArray
    square_sum: FloatArray

    @property
    def std(self) -> FloatArray:
        """Standard deviations, (k,); 1 for what has not varied yet."""
        if self.count == 0:
            return np.ones_like(self.mean)
        std = np.sqrt(np.maximum(self.square_sum, 0) / self.count)
        varies = (std > _CONSTANT * np.abs(self.mean)) & (std > 0)
        return np.where(varies, std, 1.0)

    @property
    def frozen(self) -> dict[str, FloatArray]:
        """What the engine applies, and the count that a later search would go on from."""
        return {
            "observation_mean": self.mean,
            "observation_std": self.std,
            "observation_count": np.array([self.count]),
        }

    def add_observations(
        self, count: float, total: FloatArray, squares: FloatArray
    ) -> NormalizedState:
        """Add ``count`` observations, given as sums about the present mean μ, (k,) each.

        With T = Σ (x - μ) and Q = Σ (x - μ)² of the new ones, and n in all, μ' = μ + T/n and
        S' = S + Q - T²/n: the pairwise update of Chan et al. (1979), "Updating formulae and
        a pairwise algorithm for computing sample variances", about a mean known before.
        """
        if count == 0 or not (np.isfinite(total).all() and np.isfinite(squares).all()):
            return self  # a non-finite observation would spoil the statistics for good
        everything = self.count + count
        return replace(
            self,
            count=everything,
            mean=self.mean + total / everything,
            square_sum=self.square_sum + squares - total**2 / everything,
        )


@dataclass(frozen=True)
class Normalized(Strategy[NormalizedState]):
    """Wraps a strategy so that its policies see normalised observations.

    A run asks for it with ``normalize_observations``, whatever its strategy.

    Attributes:
        inner: the wrapped strategy.
    """

    inner: Strategy[Any]

    listed: ClassVar[bool] = False

    def population_size(self, problem: Problem) -> int | None:
        """The inner strategy's."""
        return self.inner.population_size(problem)

    def check(self, problem: Problem) -> None:
        """Refuse what the inner strategy refuses."""
        self.inner.check(problem)

    def init(self, problem: Problem) -> NormalizedState:
        """Start with mean 0 and standard deviation 1, or as the start's own run ended."""
        size = problem.policy.observation_size
        given = problem.start_statistics
        count = float(given["observation_count"][0]) if given else 0.0
        return NormalizedState(
            self.inner.init(problem),
            count,
            given["observation_mean"] if given else np.zeros(size),
            count * given["observation_std"] ** 2 if given else np.zeros(size),
        )

    def ask(self, problem: Problem, state: NormalizedState) -> Population:
        """Ask the inner strategy; its candidates report and use observation statistics."""
        population = self.inner.ask(_with_statistics(problem, state), state.inner)
        return replace(
            population,
            probes=(*population.probes, ObservationMoments(state.mean)),
            frozen={**population.frozen, **state.frozen},
        )

    def tell(
        self, problem: Problem, state: NormalizedState, population: Population, episodes: Episodes
    ) -> NormalizedState:
        """Tell the inner strategy, then add the generation's observations."""
        inner = self.inner.tell(_with_statistics(problem, state), state.inner, population, episodes)
        sums = episodes.sums
        return replace(state, inner=inner).add_observations(
            float(sums["observation_count"][0]),
            sums["observation_sum"],
            sums["observation_square_sum"],
        )

    def solution(self, problem: Problem, state: NormalizedState) -> Population:
        """Deploy the inner strategy's solution with the newest statistics."""
        solution = self.inner.solution(_with_statistics(problem, state), state.inner)
        return replace(solution, frozen={**solution.frozen, **state.frozen})

    def metrics(self, state: NormalizedState) -> dict[str, float]:
        """The inner strategy's."""
        return self.inner.metrics(state.inner)

    def stop(self, state: NormalizedState) -> str | None:
        """The inner strategy's reason."""
        return self.inner.stop(state.inner)


class _NormalizedProblem:
    """A problem whose further populations use the statistics, too."""

    def __init__(self, problem: Problem, frozen: dict[str, FloatArray]) -> None:
        self._problem = problem
        self._frozen = frozen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)

    def run(self, population: Population) -> Episodes:
        frozen = {**population.frozen, **self._frozen}
        return self._problem.run(replace(population, frozen=frozen))


def _with_statistics(problem: Problem, state: NormalizedState) -> Problem:
    return cast("Problem", _NormalizedProblem(problem, state.frozen))
