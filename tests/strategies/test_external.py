"""Other packages' optimisers: the same search as driven by hand, and exact replay."""

# ruff: noqa: NPY002, S311 - the global generators are what such packages use

import copy
import itertools
import random

import cma
import numpy as np
import pytest

from distes.errors import UsageError
from distes.runs import codec
from distes.strategies import External
from distes.testing.problems import FunctionProblem, search, sphere


def cma_es(start, seed, population_size=8):
    options = {"seed": seed, "verbose": -9, "popsize": population_size}
    return cma.CMAEvolutionStrategy(start, 0.5, options)


def problem(**settings):
    return FunctionProblem(sphere, np.array([3.0, -2.0, 0.5]), **settings)


def test_cma_samples_what_it_samples_when_driven_by_hand():
    """Candidates, signs and order reach the package unchanged."""
    done = search(External(cma_es), problem(seed=5), 8)
    seeds = []

    def remember(start, seed):
        seeds.append(seed)
        return cma_es(start, seed)

    External(remember).ask(problem(seed=5), External(remember).init(problem(seed=5)))
    state = np.random.get_state()
    try:
        by_hand = cma_es(np.array([3.0, -2.0, 0.5]), seeds[0])
        for generation in done:
            solutions = by_hand.ask()
            np.testing.assert_array_equal(generation.parameters, solutions)
            by_hand.tell(solutions, [float(np.sum((x - 1) ** 2)) for x in solutions])
    finally:
        np.random.set_state(state)


def test_cma_solves_the_sphere():
    """A wrong sign would climb away from it."""
    strategy = External(cma_es, recommendation="mean")
    for seed in range(5):
        done = search(strategy, problem(seed=seed), 60)
        np.testing.assert_allclose(done[-1].after.recommended, 1.0, atol=1e-3)


def test_an_older_state_is_replayed():
    """Asking and telling are functions of the state, whatever the live object did since."""
    strategy = External(cma_es)
    done = search(strategy, problem(), 5)
    for generation in (done[2], done[0], done[4]):
        again = strategy.ask(problem(), generation.before).distribution.parameters
        np.testing.assert_array_equal(again, generation.parameters)
    early = done[1]
    told = strategy.tell(problem(), early.before, early.population, early.episodes)
    assert codec.dumps(told) == codec.dumps(early.after)
    again = strategy.ask(problem(), told).distribution.parameters
    np.testing.assert_array_equal(again, done[2].parameters)


def test_a_saved_state_is_replayed_by_another_process():
    """After decoding, with no live object at hand, the search goes on bit for bit."""
    whole = search(External(cma_es), problem(), 12)
    saved = codec.loads(codec.dumps(whole[6].after))
    for past, future in zip(
        search(External(cma_es), problem(), 12, (7, saved)), whole[7:], strict=True
    ):
        np.testing.assert_array_equal(past.parameters, future.parameters)
        assert codec.dumps(past.after) == codec.dumps(future.after)


def growing(start, seed):
    """Asks for 1, 2, 3, ... candidates, drawn anew after each tell."""
    made = Recorder()
    generator = np.random.default_rng(seed)
    made.ask = lambda: generator.normal(size=(len(made.told) + 1, 3))
    return made


def test_generations_of_different_sizes_are_replayed_one_by_one():
    """A history cut at other places would be told in other portions, or in another order."""
    made = []

    def remember(start, seed):
        made.append(growing(start, seed))
        return made[-1]

    strategy = External(remember)
    done = search(strategy, problem(), 20)
    live = made[-1].told
    for generations in range(1, 20):
        fresh = External(remember)
        again = fresh.ask(problem(), codec.loads(codec.dumps(done[generations].before)))
        np.testing.assert_array_equal(again.distribution.parameters, done[generations].parameters)
        assert len(made[-1].told) == generations
        for (_, one), (_, other) in zip(made[-1].told, live[:generations], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", [3, 5])
def test_a_resumed_run_refuses_an_object_of_another_size(size):
    """It would be told one candidate's value for another, and the run go on regardless."""
    state = search(External(lambda start, seed: Recorder()), problem(), 4)[-1].after
    with pytest.raises(UsageError, match="other numbers of candidates"):
        External(lambda start, seed: Recorder(size)).ask(problem(), state)


def test_the_cost_of_a_generation_does_not_grow_with_the_run():
    """The history is neither copied nor read whole each time: old blocks stay as they are."""
    done = search(External(lambda start, seed: Recorder(6)), problem(), 257)
    histories = [generation.after.history for generation in done]
    copied = [
        sum(block.size for block in new if not any(block is kept for kept in old))
        for old, new in itertools.pairwise(histories)
    ]
    assert sum(copied) <= 257 * 6 * 9  # each value once, and once for each doubling
    assert max(len(history) for history in histories) <= 9
    assert sum(block.size for block in histories[-1]) == 257 * 6


def test_global_generators_are_left_alone():
    """Neither does the package disturb them, nor do they disturb the package."""
    np.random.seed(1)
    random.seed(1)
    expected = np.random.rand(), random.random()
    np.random.seed(1)
    random.seed(1)
    quiet = search(External(cma_es), problem(), 3)
    assert (np.random.rand(), random.random()) == expected
    strategy = External(cma_es)
    state = strategy.init(problem())
    for generation in quiet:
        np.random.seed(None)
        np.testing.assert_array_equal(
            strategy.ask(problem(), state).distribution.parameters, generation.parameters
        )
        state = strategy.tell(problem(), state, generation.population, generation.episodes)


def test_the_objects_seed_follows_the_runs():
    """Seeds differ between runs, and are none of those that packages read as 'the time'."""
    seeds = []

    def remember(start, seed):
        seeds.append(seed)
        return cma_es(start, seed)

    for seed in range(20):
        External(remember).ask(problem(seed=seed), External(remember).init(problem()))
    assert len(set(seeds)) == 20
    assert all(1 <= seed < 2**31 for seed in seeds)


class Recorder:
    """Notes what it is told."""

    def __init__(self, size=4):
        self.size = size
        self.told = []

    def ask(self):
        return [np.array([float(i), 0.0, 0.0]) for i in range(self.size)]

    def tell(self, *arguments):
        self.told.append(arguments)


def told_once(fitness, **settings):
    made = []

    def remember(start, seed):
        made.append(Recorder())
        return made[-1]

    strategy = External(remember, **settings)
    state = strategy.init(problem())
    population = strategy.ask(problem(), state)
    episodes = problem().evaluate(population)
    for values in fitness:
        told = copy.copy(episodes)
        object.__setattr__(told, "fitness", np.array(values))
        state = strategy.tell(problem(), state, population, told)
    return made[-1].told, state


def test_values_are_minimised_and_nan_is_the_worst_finite_value():
    """A package that minimises gets -fitness; a failure must not look good to it."""
    ((solutions, values),), _ = told_once([[1.0, np.nan, -3.0, 2.0]])
    np.testing.assert_array_equal(values, [-1.0, 3.0, 3.0, -2.0])
    assert [x[0] for x in solutions] == [0.0, 1.0, 2.0, 3.0]


def test_a_package_that_maximises_and_takes_values_alone():
    """Both options reach tell."""
    ((values,),), _ = told_once([[1.0, np.nan, -3.0, 2.0]], minimises=False, passes_solutions=False)
    np.testing.assert_array_equal(values, [1.0, -3.0, -3.0, 2.0])


def test_a_generation_without_valid_candidates_is_told_the_worst_so_far():
    """Then 0 where there is nothing finite yet: in any case finite, and equal."""
    told, _ = told_once([[np.nan] * 4, [5.0, 4.0, 3.0, 2.0], [np.nan] * 4])
    np.testing.assert_array_equal(told[0][1], [0.0] * 4)
    np.testing.assert_array_equal(told[2][1], [0.0] * 4)
    told, _ = told_once([[5.0, 4.0, 3.0, 2.0], [np.nan] * 4])
    np.testing.assert_array_equal(told[1][1], [-2.0] * 4)


def test_the_better_half_is_deployed_without_a_recommendation():
    """Candidates 3 and 0 are the better half of valid ones: their mean is (1.5, 0, 0)."""
    _, state = told_once([[1.0, np.nan, -3.0, 2.0]])
    np.testing.assert_array_equal(state.recommended, [1.5, 0.0, 0.0])


def test_a_recommendation_may_be_a_path_to_an_attribute():
    """`result.xfavorite` is cma's own mean."""
    one = search(External(cma_es, recommendation="result.xfavorite"), problem(), 3)[-1].after
    other = search(External(cma_es, recommendation="mean"), problem(), 3)[-1].after
    np.testing.assert_array_equal(one.recommended, other.recommended)
    assert not np.array_equal(one.recommended, problem().start)


def test_a_factory_that_does_not_replay_is_refused():
    """Otherwise a resumed run would silently become another."""
    clock = itertools.count(1)
    strategy = External(lambda start, seed: cma_es(start, next(clock)))
    with pytest.raises(UsageError, match="does not replay"):
        strategy.check(problem())


def test_a_factory_that_ignores_its_seed_but_draws_globally_replays():
    """cma seeded with nan draws from the global generator as it stands."""
    strategy = External(
        lambda start, seed: cma.CMAEvolutionStrategy(start, 0.5, {"seed": np.nan, "verbose": -9})
    )
    strategy.check(problem())
    one, other = (search(strategy, problem(seed=seed), 1)[0].parameters for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_population_size_reaches_a_factory_that_takes_it():
    """--population works with the package, or is refused: never ignored."""
    assert search(External(cma_es), problem(population_size=20), 1)[0].population.size == 20
    with pytest.raises(UsageError, match="asks for 4 candidates, the population is 20"):
        External(lambda start, seed: Recorder()).check(problem(population_size=20))


@pytest.mark.parametrize(
    ("factory", "sentence"),
    [
        ("cma", "not of the form"),
        ("no_such_package:make", "there is no module 'no_such_package'"),
        ("cma:no_such_function", "cma has no 'no_such_function'"),
        (3, "neither a function"),
    ],
)
def test_a_factory_that_is_none_is_refused(factory, sentence):
    """When the strategy is made, not in the first generation."""
    with pytest.raises(UsageError, match=sentence):
        External(factory)


def test_an_object_that_does_not_fit_is_refused():
    """No ask() and tell(), or candidates of another length."""
    with pytest.raises(UsageError, match=r"a dict without ask\(\)"):
        External(lambda start, seed: {}).check(problem())
    with pytest.raises(UsageError, match=r"shape \(4, 3\), not \(n, 2\)"):
        External(lambda start, seed: Recorder()).check(FunctionProblem(sphere, np.zeros(2)))
    with pytest.raises(UsageError, match="recommendation 'no_such'"):
        External(cma_es, recommendation="no_such").check(problem())
