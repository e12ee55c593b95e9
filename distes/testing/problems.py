"""A problem in a few arrays: strategies can be tried without environments or workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Generic, TypeVar

import numpy as np

from distes.errors import UsageError
from distes.policies.identity import DirectPolicy
from distes.population.distributions import weigh_noise
from distes.population.folding import fold, fold_chunk
from distes.population.probes import report
from distes.population.records import (
    RECORDS,
    Distribution,
    Episodes,
    Population,
    RunKey,
    Status,
    Trajectory,
)
from distes.seeds import context_uniform
from distes.strategies.base import Strategy
from distes.tasks.function import FunctionTask
from distes.types import FloatArray, IntArray

S = TypeVar("S")

# (parameters (m, d), seeds (m,)) -> returns (m,); not finite = failed
Objective = Callable[[FloatArray, IntArray], FloatArray]


def sphere(parameters: FloatArray, _seeds: IntArray) -> FloatArray:
    """-‖x - 1‖², greatest at (1, ..., 1)."""
    values: FloatArray = -np.sum((parameters - 1) ** 2, axis=1)
    return values


@dataclass(eq=False)
class FunctionProblem:
    """Implements `strategies.base.Problem` over a function of parameters and seeds.

    For observation probes, an episode makes a few observations from its seed; there are no
    trajectories.

    Attributes:
        objective: what is searched for its greatest value.
        start: (d,).
        seed: the run's.
        population_size: None leaves it to the strategy.
        episodes: per candidate.
        observation_size: of the made-up observations.
        start_spread: how widely to search at the start, (d,) or (d, d).
        start_statistics: observation statistics that belong to the start.
        moved: (k, d) makes the problem contextual: an episode's context s is uniform in
            [-1, 1)^k, and its value is the objective at θ - s·moved.
    """

    objective: Objective
    start: FloatArray
    seed: int = 0
    population_size: int | None = None
    episodes: int = 1
    observation_size: int = 2
    start_statistics: Mapping[str, FloatArray] = field(default_factory=dict)
    moved: FloatArray | None = None
    start_spread: FloatArray | None = None
    generation: int = field(default=0, init=False)
    _calls: int = field(default=0, init=False)
    has_trajectories: ClassVar[bool] = False

    @property
    def policy(self) -> DirectPolicy:
        """The parameters themselves."""
        return DirectPolicy(self.start, observation_size=self.observation_size)

    @property
    def num_parameters(self) -> int:
        """Length d of a parameter vector."""
        return len(self.start)

    @property
    def num_contexts(self) -> int:
        """Length k of a context."""
        return 0 if self.moved is None else len(self.moved)

    @property
    def context_range(self) -> tuple[FloatArray, FloatArray] | None:
        """From -1 to 1 in each component."""
        ones = np.ones(self.num_contexts)
        return (-ones, ones) if self.num_contexts else None

    @property
    def task(self) -> FunctionTask:
        """The objective as a task."""
        return FunctionTask(self.objective, len(self.start), noisy=True, vectorised=True)

    def trajectories(
        self,
        population: Population,
        episodes: Episodes,
        rows: IntArray,
        records: tuple[str, ...] = RECORDS,
    ) -> list[Trajectory]:
        """Refuse: an episode is one call of a function."""
        raise UsageError("a problem made of a function has no trajectories")

    def weigh_noise(
        self,
        population: Population,
        weights: FloatArray,
        squares: FloatArray | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Sum what a Gaussian population was drawn with."""
        return weigh_noise(population, weights, squares)

    def population(self, distribution: Distribution, size: int) -> Population:
        """Make a search population."""
        return Population(distribution, size, episodes=self.episodes)

    def begin(self, generation: int) -> None:
        """Enter a generation: further evaluations are numbered from 1 within it."""
        self.generation = generation
        self._calls = 0

    def run(self, population: Population) -> Episodes:
        """Evaluate a further population within the current generation."""
        self._calls += 1
        return self.evaluate(population, self._calls)

    def evaluate(self, population: Population, call: int = 0) -> Episodes:
        """Evaluate a population under the key (seed, current generation, call)."""
        total = population.num_episodes
        key = RunKey(self.seed, self.generation, call)
        candidate, episode = population.locate(0, total)
        seeds = population.seeds(key, 0, total)
        contexts = None if population.contexts is None else population.contexts[candidate]
        if contexts is None and self.num_contexts:
            contexts = 2 * context_uniform(seeds, self.num_contexts) - 1
        parameters = population.distribution.draw(candidate, contexts)
        return replace(
            episodes_of(self.returns(parameters, contexts, seeds), candidate, episode),
            seed=seeds,
            contexts=contexts,
            sums=self._sums(population, seeds),
        )

    def returns(
        self, parameters: FloatArray, contexts: FloatArray | None, seeds: IntArray
    ) -> FloatArray:
        """Evaluate parameters (m, d) in their contexts (m, k), (m,)."""
        if contexts is not None and self.moved is not None:
            parameters = parameters - contexts @ self.moved
        return self.objective(parameters, seeds)

    def observations(self, seed: int) -> FloatArray:
        """Make an episode's observations, (3, k)."""
        generator = np.random.default_rng(seed)
        return 5 + 2 * generator.standard_normal((3, self.observation_size))

    def _sums(self, population: Population, seeds: IntArray) -> dict[str, FloatArray]:
        if not population.probes:
            return {}
        none = np.empty(0)
        paths = [Trajectory(none, self.observations(int(seed)), none, none) for seed in seeds]
        probes, frozen = population.probes, population.frozen
        reports = [report(probes, each, self.policy, frozen) for each in paths]
        return fold(fold_chunk(0, reports), len(seeds))


def episodes_of(
    returns: FloatArray, candidate: IntArray | None = None, episode: IntArray | None = None
) -> Episodes:
    """Make episodes of one step from their returns; fitness is the mean.

    Args:
        returns: (m,); not finite = failed.
        candidate: (m,) sorted; None is one episode per candidate.
        episode: (m,) within the candidate.
    """
    total = len(returns)
    candidate = np.arange(total) if candidate is None else candidate
    ok = np.isfinite(returns)
    returns = np.where(ok, returns, np.nan)
    return Episodes(
        candidate=candidate,
        episode=np.zeros(total, dtype=np.int64) if episode is None else episode,
        seed=np.arange(total),
        episode_return=returns,
        episode_length=np.ones(total, dtype=np.int64),
        terminated=np.ones(total, dtype=bool),
        truncated=np.zeros(total, dtype=bool),
        status=np.where(ok, Status.OK, Status.NAN).astype(np.int8),
        fitness=np.bincount(candidate, returns) / np.bincount(candidate),
    )


@dataclass(frozen=True, eq=False)
class Generation(Generic[S]):
    """One turn of a search."""

    before: S  # the strategy's state that was asked
    population: Population  # what it asked for
    episodes: Episodes  # what happened
    after: S  # the state once told

    @property
    def parameters(self) -> FloatArray:
        """The candidates of the first episodes, (n, d)."""
        candidates, first = np.unique(self.episodes.candidate, return_index=True)
        contexts = self.episodes.contexts
        return self.population.distribution.draw(
            candidates, None if contexts is None else contexts[first]
        )


def search(
    strategy: Strategy[S],
    problem: FunctionProblem,
    generations: int,
    resumed: tuple[int, S] | None = None,
) -> list[Generation[S]]:
    """Run ask, evaluate and tell for some generations.

    Args:
        strategy: checked first.
        problem: evaluated in place.
        generations: at which number to end.
        resumed: (generation, state) to go on from, instead of from the beginning.
    """
    strategy.check(problem)
    first, state = resumed or (0, strategy.init(problem))
    done: list[Generation[S]] = []
    for generation in range(first, generations):
        problem.begin(generation)
        population = strategy.ask(problem, state)
        episodes = problem.evaluate(population)
        after = strategy.tell(problem, state, population, episodes)
        done.append(Generation(state, population, episodes, after))
        state = after
    return done


def draw_solution(problem: FunctionProblem, solution: Population) -> FloatArray:
    """A solution's parameters for the context in the middle, (1, d)."""
    contexts = np.zeros((1, problem.num_contexts)) if problem.num_contexts else None
    return solution.distribution.draw(np.zeros(1, dtype=np.int64), contexts)


def solution_value(strategy: Strategy[S], problem: FunctionProblem, state: S) -> float:
    """Value of the objective at the strategy's solution, for context 0 and under seed 0."""
    drawn = draw_solution(problem, strategy.solution(problem, state))
    return float(problem.objective(drawn, np.zeros(1, dtype=np.int64))[0])
