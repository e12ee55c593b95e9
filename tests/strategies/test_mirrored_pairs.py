"""PGPE, OpenAI-ES and ARS: updates by hand, equivariance, reductions, convergence."""

from dataclasses import replace

import numpy as np
import pytest

from distes.errors import UsageError
from distes.strategies.ars import ARS
from distes.strategies.openai_es import OpenAIES
from distes.strategies.pgpe import PGPE
from distes.testing.problems import FunctionProblem, search, sphere

GENERATOR = np.random.default_rng(8)
D, N = 5, 12

EVERY = [
    PGPE(),
    PGPE(fitness_shaping="standardised"),
    PGPE(optimiser="adam", learning_rate=0.1),
    PGPE(optimiser="sgd", learning_rate=0.3),
    OpenAIES(),
    ARS(),
    ARS(top_directions=2),
]
RANKED = [strategy for strategy in EVERY if "ranks" in repr(strategy)] + [OpenAIES()]


def name(strategy):
    return type(strategy).__name__.lower()


def problem(d=D, n=N, **changes):
    return FunctionProblem(sphere, np.linspace(1.0, 2.0, d), population_size=n, **changes)


def mirror(directions):
    """Normals of both of each pair, (2 m, d)."""
    return np.stack([directions, -np.asarray(directions)], axis=1).reshape(-1, len(directions[0]))


DIRECTIONS = np.array([[1.0, 0.0], [0.5, -2.0], [-1.0, 1.0]])


def test_one_pgpe_update_by_hand(tell_noise):
    """Two parameters, three directions, from the papers' formulas.

    If wrong: either gradient, ClipUp's step or the bound on σ is not that of PGPE.
    """
    where, strategy = problem(2, 6), PGPE(radius=3.0)
    std = np.array([2.0, 0.5])
    state = replace(strategy.init(where), std=std)
    told = tell_noise(strategy, where, state, mirror(DIRECTIONS), [10, 30, 70, 60, 20, -5])
    f = np.array([[-0.3, 0.1], [0.5, 0.3], [-0.1, -0.5]])  # centred ranks
    epsilon = DIRECTIONS * std
    gradient = np.mean((f[:, :1] - f[:, 1:]) / 2 * epsilon, axis=0)
    speed = 0.75 * 3.0 / 15  # of the first step: α, below the maximum speed
    assert told.mean == pytest.approx(
        state.mean + speed * gradient / np.linalg.norm(gradient), rel=1e-12
    )
    spread = np.mean((f[:, :1] + f[:, 1:]) / 2 * (epsilon**2 - std**2) / std, axis=0)
    assert np.all(np.abs(0.1 * spread) < 0.2 * std)
    assert told.std == pytest.approx(std + 0.1 * spread, rel=1e-12)


def test_a_deviation_of_pgpe_changes_by_a_fifth_at_most(tell_noise):
    """If wrong: one lucky direction collapses the search, or makes a σ negative."""
    where, strategy = problem(2, 4), PGPE(std_rate=5.0)
    state = strategy.init(where)
    normals = mirror([[3.0, 0.0], [0.0, 3.0]])
    told = tell_noise(strategy, where, state, normals, [4.0, 3.0, 2.0, 1.0])
    assert told.std == pytest.approx(state.std * [1.2, 0.8])


def test_the_start_of_pgpe_follows_from_its_radius():
    """If wrong: the rule of the paper, σ₀ = r/√d and v^max = r/15, is another one."""
    state = PGPE(radius=4.5).init(problem(9))
    assert state.std == pytest.approx(np.full(9, 1.5))
    assert state.optimiser.limit * PGPE(radius=4.5).learning_rate_at(0) == pytest.approx(0.3)
    half = PGPE(max_speed=0.3, learning_rate=0.15).init(problem(9))
    assert half.optimiser.limit == pytest.approx(2.0)


def test_pgpe_with_one_direction_steps_along_it(tell_noise):
    """If wrong: one pair teaches something about σ, or about other directions."""
    where, strategy = problem(3, 2), PGPE(radius=3.0)
    state = strategy.init(where)
    direction = np.array([1.0, -2.0, 2.0])
    told = tell_noise(strategy, where, state, mirror([direction]), [1.0, 5.0])
    assert told.mean == pytest.approx(state.mean - 0.15 * direction / 3)
    assert np.array_equal(told.std, state.std)


def test_two_openai_es_updates_by_hand(tell_noise):
    """Ranks over all returns, Adam with weight decay.

    If wrong: pairs are ranked apart, σ divides the gradient, or the decay has another sign.
    """
    where = problem(2, 6)
    strategy = OpenAIES(std=0.5, learning_rate=0.1, weight_decay=0.02)
    state = strategy.init(where)
    mean, first, second = state.mean, np.zeros(2), np.zeros(2)
    for t, fitness in enumerate([[10, 30, 70, 60, 20, -5], [1, 2, 3, 4, 5, 6]], 1):
        state = tell_noise(strategy, where, state, mirror(DIRECTIONS), fitness)
        u = (np.argsort(np.argsort(fitness)) / 5 - 0.5).reshape(3, 2)
        g = (u[:, 0] - u[:, 1]) @ DIRECTIONS / 6 - 0.02 * mean
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        size = np.sqrt(second / (1 - 0.999**t)) + 1e-8
        mean = mean + 0.1 * first / (1 - 0.9**t) / size
        assert state.mean == pytest.approx(mean, rel=1e-12)


def test_one_ars_update_by_hand(tell_noise):
    """The two best of three directions.

    If wrong: directions are kept by another rule than max(r⁺, r⁻), σ_R is over all returns or
    with another ddof, or the divisor is N instead of b.
    """
    where, strategy = problem(2, 6), ARS(top_directions=2, learning_rate=0.3, std=0.1)
    state = strategy.init(where)
    told = tell_noise(strategy, where, state, mirror(DIRECTIONS), [10, 30, 25, 28, -100, 60])
    kept = np.array([10.0, 30.0, -100.0, 60.0])
    deviation = np.sqrt(np.mean((kept - kept.mean()) ** 2))
    step = (-20 * DIRECTIONS[0] - 160 * DIRECTIONS[2]) / (2 * deviation)
    assert told.mean == pytest.approx(state.mean + 0.3 * step, rel=1e-12)


def test_ars_that_keeps_all_directions_has_no_cut(tell_noise):
    """If wrong: V1 and V1-t with b = N differ."""
    where = problem()
    normals, fitness = mirror(GENERATOR.normal(size=(N // 2, D))), GENERATOR.normal(size=N)
    told = [
        tell_noise(strategy, where, strategy.init(where), normals, fitness)
        for strategy in (ARS(), ARS(top_directions=N // 2), ARS(top_directions=N // 2 - 1))
    ]
    assert np.array_equal(told[0].mean, told[1].mean)
    assert not np.allclose(told[0].mean, told[2].mean)
    step = (fitness[::2] - fitness[1::2]) @ normals[::2] / (N // 2 * fitness.std())
    assert told[0].mean == pytest.approx(where.start + 0.2 * step)


@pytest.mark.parametrize("strategy", EVERY, ids=name)
def test_one_update_does_not_depend_on_the_frame(tell_noise, strategy):
    """Moved samples; returns that are shifted and stretched.

    If wrong: an update knows where it is, or in which unit returns are. Weight decay does know.
    """
    where = problem()
    if isinstance(strategy, OpenAIES):
        strategy = replace(strategy, weight_decay=0.0)
    state = strategy.init(where)
    normals, fitness = mirror(GENERATOR.normal(size=(N // 2, D))), GENERATOR.normal(size=N)
    told = tell_noise(strategy, where, state, normals, fitness)
    assert not np.allclose(told.mean, state.mean)

    moved = tell_noise(strategy, where, replace(state, mean=state.mean + 7), normals, fitness)
    assert moved.mean == pytest.approx(told.mean + 7)
    other = tell_noise(strategy, where, state, normals, 40 + 300 * fitness)
    assert other.mean == pytest.approx(told.mean)

    # Parameters in another unit: what has a length goes with it.
    lengths = {"radius", "std", "learning_rate"} & vars(strategy).keys()
    if getattr(strategy, "optimiser", None) == "sgd":
        lengths.remove("learning_rate")  # the gradient of a return by μ has a length already
    given = {field: getattr(strategy, field) for field in lengths}
    wide = replace(strategy, **{field: 3 * v for field, v in given.items() if v is not None})
    where = replace(where, start=3 * where.start)
    stretched = tell_noise(wide, where, wide.init(where), normals, fitness)
    assert stretched.mean == pytest.approx(3 * told.mean)
    if isinstance(strategy, PGPE):
        assert stretched.std == pytest.approx(3 * told.std)


@pytest.mark.parametrize("strategy", RANKED, ids=name)
def test_ranked_updates_see_the_order_of_returns_alone(tell_noise, strategy):
    """If wrong: outliers among the returns weigh more than their rank."""
    where = problem()
    state = strategy.init(where)
    normals, fitness = mirror(GENERATOR.normal(size=(N // 2, D))), GENERATOR.normal(size=N)
    told = tell_noise(strategy, where, state, normals, fitness)
    shaped = tell_noise(strategy, where, state, normals, np.exp(3 * fitness))
    assert np.array_equal(shaped.mean, told.mean)


@pytest.mark.parametrize("strategy", EVERY, ids=name)
def test_a_broken_pair_does_not_count(tell_noise, strategy):
    """If wrong: the half that lived pulls the mean, as if the other had been average."""
    where = problem()
    state = strategy.init(where)
    normals, fitness = mirror(GENERATOR.normal(size=(N // 2, D))), GENERATOR.normal(size=N)
    told = tell_noise(strategy, where, state, normals, fitness)
    more = np.concatenate([[np.nan, 1e6], fitness, [-1e6, np.nan, np.nan, np.nan]])
    normals = np.concatenate([mirror(np.ones((1, D))), normals, mirror(np.ones((2, D)))])
    broken = tell_noise(strategy, where, state, normals, more)
    assert broken.mean == pytest.approx(told.mean, rel=1e-12)
    if isinstance(strategy, PGPE):
        assert broken.std == pytest.approx(told.std, rel=1e-12)


@pytest.mark.parametrize("strategy", EVERY, ids=name)
@pytest.mark.parametrize("fitness", [[0.1] * N, [np.nan] * N, [np.nan, 3.0] * (N // 2)])
def test_equal_returns_teach_nothing(tell_noise, strategy, fitness):
    """If wrong: momentum, weight decay or rounding moves a search that has learnt nothing."""
    where = problem()
    state = strategy.init(where)
    for shift in (1.0, -1.0):  # something to remember first
        normals = mirror(GENERATOR.normal(size=(N // 2, D)))
        state = tell_noise(strategy, where, state, normals, shift * np.arange(N))
    told = tell_noise(strategy, where, state, normals, fitness)
    assert told.generation == state.generation + 1
    assert np.array_equal(told.mean, state.mean)


@pytest.mark.parametrize("common", [False, True])
def test_both_of_a_pair_meet_the_same_episodes(common):
    """If wrong: the luck of the start is added to a pair's difference, or common seeds are lost."""

    class Common(FunctionProblem):
        def population(self, distribution, size):
            return replace(super().population(distribution, size), seed_group=size)

    where = problem()
    if common:
        where = Common(sphere, where.start, population_size=N)
    population = ARS().ask(where, ARS().init(where))
    assert population.seed_group == (N if common else 2)
    drawn = population.distribution.draw(np.arange(N))
    assert drawn[::2] + drawn[1::2] == pytest.approx(np.tile(2 * where.start, (N // 2, 1)))


SETTLING = {"learning_rate_end": 2e-3, "schedule_generations": 60}


@pytest.mark.parametrize(
    "strategy",
    [
        PGPE(radius=2.0, schedule="exponential", **SETTLING),
        PGPE(radius=2.0, optimiser="adam", learning_rate=0.2, **SETTLING),
        OpenAIES(std=0.1, learning_rate=0.2, weight_decay=0.0, **SETTLING),
        ARS(std=0.1, learning_rate=0.3, schedule="cosine", **SETTLING),
        ARS(std=0.1, std_end=0.01, learning_rate=0.3, top_directions=8, **SETTLING),
    ],
    ids=name,
)
def test_it_solves_a_sphere(strategy):
    """From 20 seeds, every parameter to 0.1, from 1 away.

    If wrong: the search does not arrive, or its schedule never lets it settle.
    """
    for seed in range(20):
        where = FunctionProblem(sphere, np.full(4, 2.0), population_size=32, seed=seed)
        done = search(strategy, where, 60)
        assert np.abs(done[-1].after.mean - 1).max() < 0.1, seed


def test_schedules_reach_the_samples():
    """If wrong: an end is written down and nothing follows it."""
    strategy = ARS(std=0.4, std_end=0.1, learning_rate_end=0.01, schedule_generations=2)
    where = problem()
    done = search(strategy, where, 4)
    assert [float(each.population.distribution.scale[0]) for each in done] == pytest.approx(
        [0.4, 0.25, 0.1, 0.1]
    )
    rates = [strategy.metrics(each.before)["learning_rate"] for each in done]
    assert rates == pytest.approx([0.2, 0.105, 0.01, 0.01])


@pytest.mark.parametrize("strategy", [PGPE(), OpenAIES(), ARS()], ids=name)
@pytest.mark.parametrize("size", [1, 7])
def test_a_population_without_pairs_is_refused(strategy, size):
    """If wrong: a candidate has no partner, and the run ends in a traceback."""
    with pytest.raises(UsageError, match=f"of {size} is not made of mirrored pairs: give an even"):
        strategy.check(problem(n=size))


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (ARS(top_directions=7), "top_directions 7 is more than the 6 directions of a population"),
        (PGPE(optimiser="adam"), "optimiser adam has no learning rate of its own: give strategy."),
        (
            PGPE(optimiser="sgd", learning_rate=1.0, max_speed=0.1),
            "max_speed 0.1 does nothing with optimiser sgd: leave it out",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(strategy, said):
    """If wrong: a setting is ignored in silence."""
    with pytest.raises(UsageError, match=said):
        strategy.check(problem())


@pytest.mark.parametrize("field", ["std_end", "learning_rate", "schedule_generations"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
def test_settings_out_of_range_are_refused(field, value):
    """If wrong: candidates or the mean are not finite, some generations later."""
    with pytest.raises(UsageError, match=field):
        ARS(**{field: value})
