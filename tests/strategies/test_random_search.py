"""Random search: a fixed distribution, and an honest best."""

import numpy as np
import pytest

from distes.errors import UsageError
from distes.strategies import RandomSearch
from distes.testing.problems import FunctionProblem, episodes_of, search, solution_value, sphere


def test_samples_a_fixed_gaussian_about_the_start():
    """Whatever was found: a baseline that learns is none."""
    where = FunctionProblem(sphere, np.array([5.0, -5.0]), population_size=2000)
    done = search(RandomSearch(std=0.5), where, 3)
    for generation in done:
        fresh = generation.parameters[:1990]
        np.testing.assert_allclose(fresh.mean(axis=0), [5, -5], atol=0.05)
        np.testing.assert_allclose(fresh.std(axis=0), 0.5, atol=0.03)


def test_deploys_the_best_of_all_it_tried():
    """Without noise, the best candidate of all generations but the last, never worse."""
    where = FunctionProblem(sphere, np.zeros(3), population_size=30)
    strategy = RandomSearch()
    done = search(strategy, where, 10)
    best = max(generation.episodes.fitness.max() for generation in done[:-1])
    assert solution_value(strategy, where, done[-1].after) == best


def test_the_mean_of_all_evaluations_decides():
    """First 10 and then 0 is a mean of 5, behind 4 and then 8, a mean of 6."""
    where = FunctionProblem(sphere, np.zeros(2), population_size=4)
    strategy = RandomSearch(keep=2)
    state = strategy.init(where)
    population = strategy.ask(where, state)
    tried = population.distribution.draw(np.arange(4))
    state = strategy.tell(where, state, population, episodes_of(np.array([1.0, 10.0, 0.0, 4.0])))
    assert state.best.fitness.tolist() == [10.0, 4.0]
    population = strategy.ask(where, state)
    np.testing.assert_array_equal(population.distribution.draw(np.arange(2, 4)), tried[[1, 3]])
    state = strategy.tell(where, state, population, episodes_of(np.array([5.5, 1.0, 0.0, 8.0])))
    assert state.best.fitness.tolist() == [6.0, 5.5]
    assert state.best.evaluations.tolist() == [2, 1]
    drawn = strategy.solution(where, state).distribution.draw(np.zeros(1, dtype=np.int64))
    np.testing.assert_array_equal(drawn[0], tried[3])


def test_one_lucky_return_is_not_deployed():
    """A fresh candidate leads with 99, but the solution is the one tried twice."""
    where = FunctionProblem(sphere, np.zeros(2), population_size=3)
    strategy = RandomSearch(keep=2)
    state = strategy.init(where)
    population = strategy.ask(where, state)
    tried = population.distribution.draw(np.arange(3))
    state = strategy.tell(where, state, population, episodes_of(np.array([1.0, 3.0, 2.0])))
    population = strategy.ask(where, state)
    state = strategy.tell(where, state, population, episodes_of(np.array([99.0, 3.0, 2.0])))
    assert state.best.fitness.tolist() == [99.0, 3.0]
    drawn = strategy.solution(where, state).distribution.draw(np.zeros(1, dtype=np.int64))
    np.testing.assert_array_equal(drawn[0], tried[1])


def test_a_kept_candidate_that_fails_is_dropped():
    """A failure now outweighs all returns before."""
    where = FunctionProblem(sphere, np.zeros(2), population_size=3)
    strategy = RandomSearch(keep=1)
    state = strategy.init(where)
    state = strategy.tell(
        where, state, strategy.ask(where, state), episodes_of(np.array([1.0, 9.0, 2.0]))
    )
    state = strategy.tell(
        where, state, strategy.ask(where, state), episodes_of(np.array([1.0, 0.0, np.nan]))
    )
    assert state.best.fitness.tolist() == [1.0]


@pytest.mark.parametrize(
    ("settings", "sentence"), [({"std": 0.0}, "std 0.0"), ({"keep": 0}, "keep 0")]
)
def test_settings_out_of_range_are_refused(settings, sentence):
    """By name and value."""
    with pytest.raises(UsageError, match=sentence):
        RandomSearch(**settings)


def test_a_population_without_fresh_candidates_is_refused():
    """Four kept of four leaves nothing to try."""
    where = FunctionProblem(sphere, np.zeros(2), population_size=4)
    with pytest.raises(UsageError, match="at least 5"):
        RandomSearch(keep=4).check(where)
