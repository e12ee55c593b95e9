"""The genetic algorithm: who has children, who lives on, and what is learnt of luck."""

from dataclasses import replace

import numpy as np
import pytest

from distes.errors import UsageError
from distes.strategies.ga import GA
from distes.testing.problems import FunctionProblem, episodes_of, search, solution_value, sphere

D = 4


def problem(n=40, **changes):
    return FunctionProblem(sphere, np.full(D, 3.0), population_size=n, **changes)


def tell(strategy, where, fitness, state=None):
    state = strategy.init(where) if state is None else state
    population = strategy.ask(where, state)
    told = strategy.tell(where, state, population, episodes_of(np.asarray(fitness, float)))
    return population, told


def test_the_best_have_children():
    """If wrong: selection is none."""
    strategy, where = GA(parents=3, contender_episodes=0), problem(6)
    fitness = [0.0, 5.0, np.nan, 9.0, 7.0, 1.0]
    population, told = tell(strategy, where, fitness)
    assert told.chains.ravel().tolist() == [3, 4, 1]
    parents = population.distribution.draw(np.array([3, 4, 1]))
    assert np.array_equal(told.elite, parents[0])
    asked = strategy.ask(where, told)
    children = asked.distribution
    assert np.array_equal(children.draw(np.arange(1))[0], told.elite)
    assert set(children.parents) <= {0, 1, 2}
    moved = children.draw(np.arange(1, 6)) - parents[children.parents[1:]]
    assert 0 < np.abs(moved).max() < 6 * strategy.mutation_std


def test_order_alone_counts():
    """If wrong: a scale of returns changes who has children."""
    strategy, where = GA(parents=3, contender_episodes=0), problem(6)
    fitness = np.array([0.3, 0.5, 0.1, 0.9, 0.7, 0.2])
    one, other = tell(strategy, where, fitness)[1], tell(strategy, where, np.exp(9 * fitness))[1]
    assert np.array_equal(one.chains, other.chains)


def test_the_elite_is_chosen_by_further_episodes():
    """If wrong: who was lucky once is deployed, and everybody's parent."""
    strategy, where = GA(parents=5, contenders=5), problem(20)
    state = strategy.init(where)
    drawn = strategy.ask(where, state).distribution.draw(np.arange(20))
    lucky = -sphere(drawn, np.zeros(20))  # the worst by the objective come first
    _, told = tell(strategy, where, lucky)
    tried = drawn[np.argsort(-lucky, kind="stable")[:5]]
    assert np.array_equal(told.elite, tried[np.argmax(sphere(tried, np.zeros(5)))])
    assert len(told.chains) == 5


def test_a_generation_that_failed_changes_nobody():
    """If wrong: the run ends, or goes on from a candidate that failed."""
    strategy, where = GA(parents=2, contender_episodes=0), problem(6)
    _, state = tell(strategy, where, np.arange(6.0))
    _, told = tell(strategy, where, np.full(6, np.nan), state)
    assert np.array_equal(told.elite, state.elite)
    drawn = strategy.ask(where, told).distribution.draw(np.arange(1))
    assert np.array_equal(drawn[0], state.elite)


def test_it_does_not_depend_on_the_frame():
    """If wrong: mutations are measured from somewhere else than the parent."""
    strategy, fitness = GA(parents=2, contender_episodes=0), np.arange(6.0)
    here = problem(6)
    moved = replace(here, start=here.start + 7)
    one, other = tell(strategy, here, fitness)[1], tell(strategy, moved, fitness)[1]
    assert other.elite == pytest.approx(one.elite + 7)


def test_it_approaches_the_optimum():
    """From 20 seeds: within 60 generations of 40 to 0.2 of the optimum, from 16 below it."""
    for seed in range(20):
        where = problem(seed=seed)
        done = search(GA(), where, 60)
        assert solution_value(GA(), where, done[-1].after) > -0.2, seed


def test_a_population_of_parents_is_refused():
    with pytest.raises(UsageError, match="a population of 10 with 10 parents leaves nothing"):
        GA().check(problem(10))
