"""iCEM: sizes, retained elites, injected mean, and CEM as its special case."""

from dataclasses import replace

import numpy as np
import pytest

from distes.errors import UsageError
from distes.population.distributions import Concat
from distes.runs.codec import dumps
from distes.strategies import CEM, ICEM
from distes.testing.problems import FunctionProblem, episodes_of, search, solution_value, sphere


def problem(d=2, n=40, **changes):
    return FunctionProblem(sphere, np.zeros(d), population_size=n, **changes)


OFF = {"population_decay": 1.0, "keep_fraction": 0.0, "inject_mean": False}


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_without_its_additions_it_is_cem(kind):
    """Same candidates and same distribution, bit for bit."""
    common = {
        "extra_decay": "exponential",
        "extra_generations": 4.0,
        "covariance": kind,
        "mean_smoothing": 0.1,
        "std_smoothing": 0.2,
        "elite_count": 7,
    }
    one = search(ICEM(**OFF, **common), problem(), 6)
    other = search(CEM(**common), problem(), 6)
    for icem, cem in zip(one, other, strict=True):
        np.testing.assert_array_equal(icem.parameters, cem.parameters)
        np.testing.assert_array_equal(icem.after.mean, cem.after.mean)
        np.testing.assert_array_equal(icem.after.std, cem.after.std)
        assert dumps(icem.after.elites) == dumps(cem.after.elites)


def test_population_decays_to_twice_the_elites():
    """N_i = max(2K, N/1.25^i) with N = 100, K = 10: 100, 80, 64, 51.2, 40.96, ..., 20."""
    sizes = [
        generation.population.size
        for generation in search(ICEM(elite_count=10), problem(n=100), 10)
    ]
    assert sizes == [100, 80, 64, 51, 41, 33, 26, 21, 20, 20]


def test_long_runs_do_not_overflow():
    """1.25^i leaves floating point's range near generation 3200."""
    strategy = ICEM()
    state = replace(strategy.init(problem()), generation=100_000)
    assert strategy.ask(problem(), state).size == 16


def test_retained_elites_and_the_mean_are_candidates_again():
    """After the fresh samples come the best 30% of 10 elites, best first, then the mean."""
    first, second = search(ICEM(elite_count=10), problem(n=50), 2)
    best = np.argsort(-first.episodes.fitness)[:3]
    assert isinstance(second.population.distribution, Concat)
    np.testing.assert_array_equal(second.parameters[-4:-1], first.parameters[best])
    np.testing.assert_array_equal(second.parameters[-1], first.after.mean)
    assert len(np.unique(second.parameters, axis=0)) == second.population.size


def test_an_evaluation_is_booked_on_the_candidate_it_belongs_to():
    """With the mean injected behind them, the retained elites are not the last candidates."""
    strategy = ICEM(elite_count=10)
    *_, one, two = search(strategy, problem(n=50), 3)
    kept = one.after.retained
    np.testing.assert_array_equal(two.parameters[-4:-1], kept.parameters)
    np.testing.assert_array_equal(sphere(kept.parameters, kept.evaluations), kept.fitness)
    again = two.after.retained
    np.testing.assert_allclose(
        sphere(again.parameters, again.evaluations), again.fitness, rtol=1e-12
    )
    tried_before = [tuple(row) for row in kept.parameters]
    for row, evaluations in zip(again.parameters, again.evaluations, strict=True):
        assert (evaluations > 1) == (tuple(row) in tried_before)


def evaluate_retained(strategy, returns):
    """Retain the candidate whose first return is 10, then give it these returns."""
    where = problem(n=4)
    state = strategy.init(where)
    population = strategy.ask(where, state)
    state = strategy.tell(where, state, population, episodes_of(np.array([0.0, 10.0, 1.0, 2.0])))
    for value in returns:
        population = strategy.ask(where, state)
        others = np.linspace(2.0, 3.0, population.size - 1)
        state = strategy.tell(where, state, population, episodes_of(np.append(others, value)))
    return state


def test_a_retained_elite_is_ranked_by_the_mean_of_its_evaluations():
    """10, then 4: mean 7 still leads; 10, 4 and then -8: mean 2 is behind 3, and it goes."""
    strategy = ICEM(elite_count=2, keep_fraction=0.5, inject_mean=False)
    state = evaluate_retained(strategy, [4.0])
    assert state.retained.fitness.tolist() == [7.0]
    assert state.retained.evaluations.tolist() == [2]
    state = evaluate_retained(strategy, [4.0, -8.0])
    assert state.retained.fitness.tolist() == [3.0]
    assert state.retained.evaluations.tolist() == [1]


def test_or_by_the_newest_alone():
    """10, then 2.5: the candidate with 3 takes its place."""
    strategy = ICEM(elite_count=2, keep_fraction=0.5, inject_mean=False, average_retained=False)
    assert evaluate_retained(strategy, [4.0]).retained.fitness.tolist() == [4.0]
    assert evaluate_retained(strategy, [2.5]).retained.fitness.tolist() == [3.0]


def test_a_retained_elite_that_fails_is_dropped():
    """A failure is a failure, however good it was before."""
    strategy = ICEM(elite_count=2, keep_fraction=0.5, inject_mean=False)
    state = evaluate_retained(strategy, [np.nan])
    assert state.retained.fitness.tolist() == [3.0]


def test_a_lucky_episode_does_not_stay():
    """Under pure noise, a retained elite is soon the best by its mean, not by one return."""

    def noise(parameters, seeds):
        return np.array([np.random.default_rng(int(seed)).standard_normal() for seed in seeds])

    where = FunctionProblem(noise, np.zeros(2), population_size=60)
    done = search(ICEM(population_decay=1.0, elite_count=12), where, 12)
    best_returns = [generation.episodes.fitness.max() for generation in done]
    retained_now = [g.episodes.fitness[-5:-1].mean() for g in done[1:]]
    assert np.mean(retained_now) < np.mean(best_returns) / 3


def test_converges_on_the_sphere():
    """From 24 away in 6 dimensions to within 1e-5 on each of 20 seeds.

    The extra variance fades for good: with so small a population, one that ends lets the
    search freeze early.
    """
    strategy = ICEM()
    for seed in range(20):
        where = FunctionProblem(sphere, np.full(6, 3.0), seed=seed, population_size=80)
        done = search(strategy, where, 60)
        assert solution_value(strategy, where, done[-1].after) > -1e-5, seed


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"population_decay": 0.9}, "population_decay 0.9"),
        ({"keep_fraction": 1.2}, "keep_fraction 1.2"),
        ({"elite_fraction": 2.0}, "elite_fraction 2.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, sentence):
    """Its own and those it shares with CEM."""
    with pytest.raises(UsageError, match=sentence):
        ICEM(**settings)


def test_a_population_without_fresh_candidates_is_refused():
    """10 of 10 candidates kept, and the mean: nothing would ever be new."""
    with pytest.raises(UsageError, match="10 candidates, of which 11 are kept"):
        ICEM(elite_fraction=1.0, keep_fraction=1.0).check(problem(n=10))
