"""What every strategy must do, as a test class to subclass.

class TestMine(StrategyConformance):
    @pytest.fixture
    def strategy(self):
        return Mine()
"""

# ruff: noqa: S101 - assertions are what this module is for

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from distes.population.records import Population
from distes.population.statistics import summarise_generation
from distes.runs.codec import dumps, loads
from distes.strategies.base import Strategy
from distes.testing.problems import (
    FunctionProblem,
    Generation,
    Objective,
    draw_solution,
    search,
    solution_value,
    sphere,
)
from distes.types import FloatArray, IntArray


def _noisy(parameters: FloatArray, seeds: IntArray) -> FloatArray:
    noise = [np.random.default_rng(int(seed)).standard_normal() for seed in seeds]
    returns: FloatArray = sphere(parameters, seeds) + np.array(noise)
    return returns


def _often_failing(parameters: FloatArray, seeds: IntArray) -> FloatArray:
    return np.where(seeds % 3 == 0, np.nan, sphere(parameters, seeds))


def _always_failing(parameters: FloatArray, _seeds: IntArray) -> FloatArray:
    return np.full(len(parameters), np.nan)


def _flat(parameters: FloatArray, _seeds: IntArray) -> FloatArray:
    return np.full(len(parameters), 200.0)


class StrategyConformance:
    """Tests that hold for any strategy; give a fixture ``strategy``.

    Attributes:
        num_parameters: d of the problems.
        population_size: as a user would ask for it.
        num_contexts: k; above 0 the best parameters move with the context.
    """

    num_parameters = 3
    population_size = 24
    num_contexts = 0

    def problem(self, objective: Objective, **changes: Any) -> FunctionProblem:
        """Make a problem that starts at a distance of 3√d from the sphere's optimum."""
        start = np.full(changes.pop("num_parameters", self.num_parameters), -2.0)
        settings = {"population_size": self.population_size, **changes}
        moved = 0.5 * np.ones((self.num_contexts, len(start))) if self.num_contexts else None
        return FunctionProblem(objective, start, moved=moved, **settings)

    def test_same_seed_same_search(self, strategy: Strategy[Any]) -> None:
        """Another copy of the strategy repeats every candidate and state, bit for bit."""
        first = search(copy.deepcopy(strategy), self.problem(_noisy), 4)
        second = search(copy.deepcopy(strategy), self.problem(_noisy), 4)
        for one, other in zip(first, second, strict=True):
            assert np.array_equal(one.parameters, other.parameters), "candidates differ"
            assert dumps(one.after) == dumps(other.after), "states differ"

    def test_other_seed_other_candidates(self, strategy: Strategy[Any]) -> None:
        """The run's seed reaches the candidates."""
        one, other = (search(strategy, self.problem(_noisy, seed=seed), 1)[0] for seed in (0, 1))
        assert not np.array_equal(one.parameters, other.parameters)

    def test_generations_differ(self, strategy: Strategy[Any]) -> None:
        """No generation repeats the noise of the one before it."""
        drawn = [generation.parameters for generation in search(strategy, self.problem(_flat), 2)]
        fewer = min(len(drawn[0]), len(drawn[1])) // 4
        assert not np.array_equal(drawn[0][:fewer], drawn[1][:fewer])
        # The same noise, moved and stretched, is correlated fully in every parameter.
        correlations = [
            abs(np.corrcoef(drawn[0][:fewer, j], drawn[1][:fewer, j])[0, 1])
            for j in range(self.num_parameters)
        ]
        assert min(correlations) < 0.999, "the noise of the generation before is used again"

    def test_methods_have_no_side_effects(self, strategy: Strategy[Any]) -> None:
        """Each method leaves its arguments alone and gives the same answer twice."""
        problem = self.problem(_noisy)
        for generation in search(strategy, problem, 3):
            arguments = (generation.before, generation.population, generation.episodes)
            saved = [dumps(argument) for argument in arguments]
            for _ in range(2):
                asked = strategy.ask(problem, generation.before)
                assert dumps(asked) == dumps(generation.population), "ask differs when repeated"
                told = strategy.tell(problem, *arguments)
                assert dumps(told) == dumps(generation.after), "tell differs when repeated"
                strategy.solution(problem, told)
                strategy.metrics(told)
                strategy.stop(told)
            assert [dumps(argument) for argument in arguments] == saved, "an argument changed"

    def test_saved_state_resumes_identically(self, strategy: Strategy[Any]) -> None:
        """A state saved as a checkpoint saves it goes on exactly, in a fresh strategy."""
        whole = search(copy.deepcopy(strategy), self.problem(_noisy), 6)
        state = loads(dumps(whole[2].after))
        rest = search(copy.deepcopy(strategy), self.problem(_noisy), 6, resumed=(3, state))
        for one, other in zip(whole[3:], rest, strict=True):
            assert np.array_equal(one.parameters, other.parameters), "candidates differ"
            assert dumps(one.after) == dumps(other.after), "states differ"

    def test_failed_candidates_never_reach_the_update(self, strategy: Strategy[Any]) -> None:
        """A third of the candidates fail: everything stays finite, and the search advances."""
        problem = self.problem(_often_failing)
        done = search(strategy, problem, 20)
        self._all_finite(strategy, problem, done)
        begun, ended = (
            draw_solution(problem, strategy.solution(problem, state))
            for state in (done[0].before, done[-1].after)
        )
        ones = np.ones(1, dtype=np.int64)
        assert sphere(ended, ones)[0] > sphere(begun, ones)[0], "the search did not advance"

    def test_all_candidates_fail(self, strategy: Strategy[Any]) -> None:
        """Generations without a single valid candidate leave a search that can go on."""
        problem = self.problem(_always_failing)
        done = search(strategy, problem, 3)
        self._all_finite(strategy, problem, done)
        assert done[-1].parameters.std(axis=0).min() > 0, "the candidates have collapsed"

    def test_ties(self, strategy: Strategy[Any]) -> None:
        """Equal returns divide nothing by zero."""
        problem = self.problem(_flat)
        self._all_finite(strategy, problem, search(strategy, problem, 5))

    def test_one_parameter(self, strategy: Strategy[Any]) -> None:
        """One parameter is still an (n, 1) array, and is learnt."""
        problem = self.problem(sphere, num_parameters=1)
        done = search(strategy, problem, 20)
        assert done[-1].parameters.shape[1] == 1
        assert solution_value(strategy, problem, done[-1].after) > -4

    def test_improves(self, strategy: Strategy[Any]) -> None:
        """The solution climbs on a sphere, over several seeds."""
        gains = []
        for seed in range(5):
            problem = self.problem(sphere, seed=seed)
            done = search(strategy, problem, 20)
            before = solution_value(strategy, problem, done[0].before)
            gains.append(solution_value(strategy, problem, done[-1].after) - before)
        assert min(gains) > 0, f"gains over the start, by seed: {gains}"

    def test_several_episodes(self, strategy: Strategy[Any]) -> None:
        """Columns of episodes are not mistaken for columns of candidates."""
        if self.num_contexts:
            return  # parameters for the context leave a candidate one episode
        problem = self.problem(_noisy, episodes=3)
        done = search(strategy, problem, 20)
        self._all_finite(strategy, problem, done)
        assert solution_value(strategy, problem, done[-1].after) > -9 * self.num_parameters

    def test_solution(self, strategy: Strategy[Any]) -> None:
        """There is one candidate to deploy at any time, from before the first generation."""
        problem = self.problem(_noisy)
        done = search(strategy, problem, 2)
        for state in (done[0].before, done[0].after, done[1].after):
            self._one_finite_candidate(problem, strategy.solution(problem, state))

    def test_metrics(self, strategy: Strategy[Any]) -> None:
        """Metrics are numbers with the same names in every generation, and only theirs."""
        done = search(strategy, self.problem(_often_failing), 3)
        names = list(strategy.metrics(done[0].after))
        taken = {"generation", *summarise_generation(done[0].population, done[0].episodes)}
        assert not taken & set(names), "a name is a column of the generations log"
        for generation in done:
            metrics = strategy.metrics(generation.after)
            assert list(metrics) == names
            for name, value in metrics.items():
                assert isinstance(value, int | float), f"{name} is a {type(value).__name__}"

    def test_population_size(self, strategy: Strategy[Any]) -> None:
        """A generation is never larger than asked, and the first is exactly so."""
        for size in (self.population_size, 2 * self.population_size):
            done = search(strategy, self.problem(_noisy, population_size=size), 4)
            sizes = [generation.population.size for generation in done]
            assert sizes[0] == size
            assert max(sizes) <= size

    def test_own_population_size(self, strategy: Strategy[Any]) -> None:
        """Without a size from the user, the strategy chooses one that works."""
        problem = self.problem(_noisy, population_size=None)
        self._all_finite(strategy, problem, search(strategy, problem, 2))

    def _all_finite(
        self, strategy: Strategy[Any], problem: FunctionProblem, done: list[Generation[Any]]
    ) -> None:
        for generation in done:
            assert np.isfinite(generation.parameters).all(), "a candidate is not finite"
            self._one_finite_candidate(problem, strategy.solution(problem, generation.after))

    @staticmethod
    def _one_finite_candidate(problem: FunctionProblem, solution: Population) -> None:
        assert solution.size == 1
        assert solution.num_episodes == 1
        drawn = draw_solution(problem, solution)
        assert drawn.shape == (1, problem.num_parameters)
        assert np.isfinite(drawn).all(), "the solution is not finite"
