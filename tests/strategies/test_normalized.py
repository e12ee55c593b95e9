"""Observation statistics: exact over all search episodes, frozen within a generation."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from distes.population.distributions import Point
from distes.population.records import Population
from distes.strategies import CEM, ICEM, Normalized
from distes.strategies.normalized import NormalizedState
from distes.testing.problems import FunctionProblem, search, sphere


def problem(**changes):
    return FunctionProblem(sphere, np.zeros(3), population_size=20, episodes=2, **changes)


def test_statistics_are_those_of_all_observations_so_far():
    """Mean and std by numpy over the pooled observations of every generation before."""
    where = problem(observation_size=3)
    done = search(Normalized(CEM()), where, 4)
    seen = []
    for generation in done:
        frozen = generation.population.frozen
        if not seen:
            np.testing.assert_array_equal(frozen["observation_mean"], np.zeros(3))
            np.testing.assert_array_equal(frozen["observation_std"], np.ones(3))
        else:
            pooled = np.concatenate(seen)
            np.testing.assert_allclose(frozen["observation_mean"], pooled.mean(0), rtol=1e-12)
            np.testing.assert_allclose(frozen["observation_std"], pooled.std(0), rtol=1e-12)
        seen += [where.observations(int(seed)) for seed in generation.episodes.seed]


def test_a_far_offset_does_not_cancel():
    """Observations near 1e6 with std 1e-2: sums of squares about 0 would lose it all."""
    generator = np.random.default_rng(0)
    batches = [1e6 + 1e-2 * generator.standard_normal((500, 1)) for _ in range(6)]
    state = NormalizedState(None, 0.0, np.zeros(1), np.zeros(1))
    for batch in batches:
        shifted = batch - state.mean
        state = state.add_observations(len(batch), shifted.sum(0), (shifted**2).sum(0))
    late = np.concatenate(batches)
    np.testing.assert_allclose(state.mean, late.mean(0), rtol=1e-12)
    # The first batch is summed about 0: it may miss, by rounding that later ones do not add to.
    about = NormalizedState(None, 500.0, batches[0].mean(0), batches[0].var(0) * 500)
    for batch in batches[1:]:
        shifted = batch - about.mean
        about = about.add_observations(len(batch), shifted.sum(0), (shifted**2).sum(0))
    np.testing.assert_allclose(np.sqrt(about.square_sum / about.count), late.std(0), rtol=1e-6)


def test_constant_dimensions_have_std_one():
    """Zero would divide by zero; the rounding of a constant would blow it up."""
    state = NormalizedState(None, 0.0, np.zeros(4), np.zeros(4))
    rows = np.tile([0.0, 0.1, 1e6 / 3, 0.0], (1000, 1))
    rows[:, 3] = np.linspace(-1, 1, 1000)
    for _ in range(3):
        shifted = rows - state.mean
        state = state.add_observations(len(rows), shifted.sum(0), (shifted**2).sum(0))
    np.testing.assert_array_equal(state.std[:3], 1.0)
    np.testing.assert_allclose(state.std[3], rows[:, 3].std())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_non_finite_observation_does_not_spoil_the_statistics(bad):
    """The generation is left out; the statistics before it stay."""
    state = NormalizedState(None, 10.0, np.ones(2), np.full(2, 10.0))
    assert state.add_observations(5, np.array([1.0, bad]), np.array([1.0, bad])) is state
    assert state.add_observations(0, np.zeros(2), np.zeros(2)) is state


def test_the_inner_strategy_searches_as_it_would_alone():
    """Where observations do not matter, wrapping changes no candidate."""
    one = search(Normalized(ICEM()), problem(), 5)
    other = search(ICEM(), problem(), 5)
    for wrapped, alone in zip(one, other, strict=True):
        np.testing.assert_array_equal(wrapped.parameters, alone.parameters)
        assert Normalized(ICEM()).metrics(wrapped.after) == pytest.approx(
            ICEM().metrics(alone.after), nan_ok=True
        )


def test_the_solution_carries_the_newest_statistics():
    """Without them the deployed policy would see other observations than the searched one."""
    strategy = Normalized(CEM())
    done = search(strategy, problem(), 3)
    solution = strategy.solution(problem(), done[-1].after)
    np.testing.assert_array_equal(solution.frozen["observation_mean"], done[-1].after.mean)
    np.testing.assert_array_equal(solution.frozen["observation_std"], done[-1].after.std)
    assert solution.probes == ()


def test_check_and_stop_are_the_inner_strategys():
    """A wrapper that swallows them would start what cannot work, or never end."""
    small = FunctionProblem(sphere, np.zeros(3), population_size=2)
    with pytest.raises(ValueError, match="at least 2 are needed"):
        Normalized(CEM()).check(small)
    strategy = Normalized(CEM(extra_std=0.0))
    state = strategy.init(problem())
    assert strategy.stop(state) is None
    collapsed = replace(state, inner=replace(state.inner, std=np.zeros(3)))
    assert "shrunk" in strategy.stop(collapsed)


@dataclass(frozen=True)
class Asking(CEM):
    """Evaluates its mean in every tell, as re-evaluating strategies do."""

    def tell(self, problem, state, population, episodes):
        problem.run(Population(Point(state.mean), 1))
        return super().tell(problem, state, population, episodes)


def test_further_populations_of_the_inner_strategy_are_normalised_too():
    """Evaluated without the statistics, they would be judged under another policy."""
    ran = []

    class Listening(FunctionProblem):
        def run(self, population):
            ran.append(population)
            return super().run(population)

    where = Listening(sphere, np.zeros(3), population_size=20)
    done = search(Normalized(Asking()), where, 3)
    for population, generation in zip(ran, done, strict=True):
        frozen = generation.population.frozen
        np.testing.assert_array_equal(
            population.frozen["observation_mean"], frozen["observation_mean"]
        )
        np.testing.assert_array_equal(
            population.frozen["observation_std"], frozen["observation_std"]
        )
