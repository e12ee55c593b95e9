"""The cross-entropy method: arithmetic by hand, equivariance, reductions, convergence."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distes.errors import UsageError
from distes.population.distributions import Table
from distes.population.records import Population
from distes.strategies import CEM, RandomSearch
from distes.testing.problems import FunctionProblem, episodes_of, search, solution_value, sphere

PLAIN = {"extra_std": 0.0}
"""Without extra variance: what the textbook has."""


def problem(d=2, n=5, **changes):
    return FunctionProblem(sphere, np.zeros(d), population_size=n, **changes)


def started(strategy, where, **changes):
    return replace(strategy.init(where), **changes)


# By hand: the three best by fitness are (1, 10), (3, 30) and (5, 80); means 3 and 40.
PARAMETERS = [[5, 80], [9, -9], [1, 10], [7, 7], [3, 30]]
FITNESS = [0.5, -1.0, 2.0, np.nan, 1.0]


def test_refit_by_hand(tell):
    """Variances 8/3 and (900 + 100 + 1600)/3; the candidate that failed is (7, 7)."""
    strategy = CEM(elite_count=3, **PLAIN)
    state = tell(strategy, problem(), strategy.init(problem()), PARAMETERS, FITNESS)
    np.testing.assert_allclose(state.mean, [3, 40], rtol=1e-14)
    np.testing.assert_allclose(state.std, np.sqrt([8 / 3, 2600 / 3]), rtol=1e-14)
    metrics = strategy.metrics(state)
    assert metrics["elites"] == 3
    assert metrics["elite_return_mean"] == pytest.approx(3.5 / 3)
    assert metrics["elite_fitness_min"] == 0.5


def test_full_covariance_by_hand(tell):
    """Covariance ((-2)(-30) + 0(-10) + 2·40)/3 = 140/3; shrinkage 1/4 leaves 35."""
    where = problem()
    for shrinkage, expected in ((0.0, 140 / 3), (0.25, 35.0)):
        strategy = CEM(elite_count=3, covariance="full", shrinkage=shrinkage, **PLAIN)
        state = tell(strategy, where, strategy.init(where), PARAMETERS, FITNESS)
        np.testing.assert_allclose(
            state.covariance, [[8 / 3, expected], [expected, 2600 / 3]], rtol=1e-14
        )
        np.testing.assert_allclose(state.std, np.sqrt([8 / 3, 2600 / 3]), rtol=1e-14)


def test_ddof_by_hand(tell):
    """Divisor 2 in place of 3."""
    for kind in ("diagonal", "full"):
        strategy = CEM(elite_count=3, ddof=1, covariance=kind, **PLAIN)
        state = tell(strategy, problem(), strategy.init(problem()), PARAMETERS, FITNESS)
        np.testing.assert_allclose(state.std, np.sqrt([8 / 2, 2600 / 2]), rtol=1e-14)


def test_smoothing_by_hand(tell):
    """A quarter of the old mean and half of the old standard deviation are kept."""
    strategy = CEM(elite_count=3, mean_smoothing=0.25, std_smoothing=0.5, **PLAIN)
    state = started(strategy, problem(), mean=np.array([-1.0, 0.0]), std=np.array([2.0, 4.0]))
    state = tell(strategy, problem(), state, PARAMETERS, FITNESS)
    np.testing.assert_allclose(state.mean, [0.75 * 3 - 0.25, 30], rtol=1e-14)
    expected = [np.sqrt(8 / 3) / 2 + 1, np.sqrt(2600 / 3) / 2 + 2]
    np.testing.assert_allclose(state.std, expected, rtol=1e-14)


def test_full_smoothing_acts_on_the_covariance(tell):
    """Half the old covariance is kept: off the diagonal, 140/6 + 1/2."""
    strategy = CEM(elite_count=3, covariance="full", shrinkage=0, std_smoothing=0.5, **PLAIN)
    old = np.array([[2.0, 1.0], [1.0, 4.0]])
    state = started(strategy, problem(), covariance=old)
    state = tell(strategy, problem(), state, PARAMETERS, FITNESS)
    expected = [[8 / 6 + 1, 140 / 6 + 0.5], [140 / 6 + 0.5, 2600 / 6 + 2]]
    np.testing.assert_allclose(state.covariance, expected, rtol=1e-14)


def test_proportional_weights_by_hand(tell):
    """Fitness (0, 1, 3) weighs (0, 1, 3)/4: mean (4 + 3·8)/4, variance (9 + 3·1)/4."""
    strategy = CEM(elite_fraction=1.0, weighting="proportional", **PLAIN)
    where = problem(d=1, n=3)
    state = tell(strategy, where, strategy.init(where), [[0], [4], [8]], [5.0, 6.0, 8.0])
    np.testing.assert_allclose(state.mean, [7.0], rtol=1e-14)
    np.testing.assert_allclose(state.std**2, [(1 * 3**2 + 3 * 1**2) / 4], rtol=1e-14)


def test_proportional_weights_of_a_cut_are_above_the_whole_populations_worst(tell):
    """Elites with 8 and 6 above the worst candidate weigh 4 and 3; else 6 would weigh nothing."""
    strategy = CEM(elite_count=2, weighting="proportional", **PLAIN)
    where = problem(d=1, n=4)
    parameters = [[7], [0], [100], [100]]
    state = tell(strategy, where, strategy.init(where), parameters, [8.0, 6.0, 0.0, 3.0])
    np.testing.assert_allclose(state.mean, [4.0], rtol=1e-14)


def test_proportional_weights_of_equal_returns_are_equal(tell):
    """Equal returns would divide by zero."""
    strategy = CEM(elite_fraction=1.0, weighting="proportional", **PLAIN)
    where = problem(d=1, n=3)
    state = tell(strategy, where, strategy.init(where), [[0], [3], [6]], [2.0, 2.0, 2.0])
    np.testing.assert_allclose(state.mean, [3.0])
    np.testing.assert_allclose(state.std**2, [6.0])


def test_ties_break_by_candidate_order(tell):
    """Of five equal candidates the first two are elite."""
    strategy = CEM(elite_count=2, **PLAIN)
    state = tell(
        strategy, problem(d=1), strategy.init(problem(d=1)), [[1], [3], [9], [9], [9]], [7] * 5
    )
    np.testing.assert_allclose(state.mean, [2.0])


def test_fewer_valid_candidates_than_elites(tell):
    """The valid ones are taken; one alone moves the mean and says nothing of the width."""
    strategy = CEM(elite_count=3, **PLAIN)
    nan = np.nan
    two = tell(strategy, problem(), strategy.init(problem()), PARAMETERS, [nan, nan, 2.0, nan, 1.0])
    np.testing.assert_allclose(two.mean, [2, 20])
    np.testing.assert_allclose(two.std, [1, 10])
    one = tell(strategy, problem(), two, PARAMETERS, [nan, 1.0, nan, nan, nan])
    np.testing.assert_allclose(one.mean, [9, -9])
    np.testing.assert_allclose(one.std, [1, 10])
    none = tell(strategy, problem(), one, PARAMETERS, [nan] * 5)
    np.testing.assert_array_equal(none.mean, one.mean)
    np.testing.assert_array_equal(none.std, one.std)
    assert none.generation == 3
    assert np.isnan(strategy.metrics(none)["elite_return_mean"])


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_floor_of_the_standard_deviation(tell, kind):
    """Elites that agree in a parameter, or along a direction, must not end its search."""
    strategy = CEM(elite_count=3, min_std=0.5, covariance=kind, shrinkage=0, **PLAIN)
    line = [[0, 0], [4, 4], [8, 8], [1, 5], [5, 1]]
    state = tell(strategy, problem(), strategy.init(problem()), line, [3, 2, 1, 0, 0])
    if kind == "full":
        values = np.linalg.eigvalsh(state.covariance)
        np.testing.assert_allclose(values, [0.25, 2 * 32 / 3], rtol=1e-12)
    flat = [[1, 0], [1, 4], [1, 8], [9, 9], [9, 9]]
    state = tell(strategy, problem(), strategy.init(problem()), flat, [3, 2, 1, 0, 0])
    np.testing.assert_allclose(state.std, [0.5, np.sqrt(32 / 3)], rtol=1e-12)


def test_extra_variance_schedules():
    """Szita & Lőrincz: Z = 4, and Z = max(5 - t/10, 0); parallel CEM: max(1 - k/10, 0)·2²."""
    constant = CEM(extra_std=2.0, extra_decay="constant")
    linear = CEM(extra_std=5**0.5, extra_decay="linear", extra_generations=50)
    parallel = CEM(extra_std=2.0, extra_decay="linear", extra_generations=10)
    fading = CEM(extra_std=3.0, extra_decay="exponential", extra_generations=4)
    for t in (0, 1, 7, 30, 49, 50, 80):
        assert constant.extra_variance(t) == 4
        assert linear.extra_variance(t) == pytest.approx(max(5 - t / 10, 0), abs=1e-12)
        assert parallel.extra_variance(t) == pytest.approx(max(1 - t / 10, 0) * 4, abs=1e-12)
        assert fading.extra_variance(t) == pytest.approx(9 * np.exp(-t / 4))


def test_extra_variance_widens_sampling_and_not_the_state():
    """Sampling variance is 9 + 16: an extra standard deviation of 4 would give 7, not 5."""
    for kind in ("diagonal", "full"):
        strategy = CEM(initial_std=3.0, extra_std=4.0, extra_decay="constant", covariance=kind)
        state = strategy.init(problem())
        np.testing.assert_allclose(state.std, [3, 3])
        scale = strategy.ask(problem(), state).distribution.scale
        np.testing.assert_allclose(scale if kind == "diagonal" else np.diag(scale), [5, 5])


def test_full_samples_have_the_covariance():
    """A factor used transposed, or a covariance used as factor, would show."""
    covariance = np.array([[4.0, 1.5, 0.0], [1.5, 1.0, -0.3], [0.0, -0.3, 0.5]])
    strategy = CEM(covariance="full", **PLAIN)
    where = problem(d=3, n=200_000)
    state = started(strategy, where, covariance=covariance)
    drawn = strategy.ask(where, state).distribution.draw(np.arange(200_000))
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.04)


def test_uniform_initial_mean():
    """U[0, 1)^d from the run's seed, whatever the policy starts from."""
    strategy = CEM(initial_mean="uniform")
    where = FunctionProblem(sphere, np.full(2000, 7.0), seed=1)
    mean = strategy.init(where).mean
    assert 0 <= mean.min() < 0.01
    assert 0.99 < mean.max() < 1
    assert abs(mean.mean() - 0.5) < 0.03
    where.seed = 2
    assert not np.array_equal(strategy.init(where).mean, mean)


# ---- Equivariance of one tell ---------------------------------------------------------

KINDS = [
    {"covariance": "diagonal"},
    {"covariance": "full", "shrinkage": 0.0},
    {"covariance": "full", "shrinkage": 0.3},
    {"weighting": "proportional"},
    {"weighting": "proportional", "covariance": "full", "ddof": 1},
    {"mean_smoothing": 0.3, "std_smoothing": 0.6},
    {"mean_smoothing": 0.3, "std_smoothing": 0.6, "covariance": "full", "shrinkage": 0.0},
]


def example(seed=0, n=40, d=4):
    """A state, candidates and fitness without any symmetry."""
    generator = np.random.default_rng(seed)
    root = generator.standard_normal((d, d))
    covariance = root @ root.T
    return (
        {
            "mean": generator.standard_normal(d),
            "std": np.sqrt(np.diag(covariance)),
            "covariance": covariance,
        },
        generator.standard_normal((n, d)) @ root.T,
        generator.standard_normal(n) ** 3,
    )


def told(tell, strategy, state, parameters, fitness):
    where = problem(d=parameters.shape[1], n=len(parameters))
    if strategy.covariance == "diagonal":
        state = {**state, "covariance": None}
    return tell(strategy, where, started(strategy, where, **state), parameters, fitness)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_translation_and_scale(tell, kind):
    """Moving and stretching parameter space, each axis by itself, moves the update along."""
    state, parameters, fitness = example()
    shift, scale = np.array([3.0, -1.0, 0.0, 100.0]), np.array([2.0, 0.1, 30.0, 1.0])
    moved = {
        "mean": scale * state["mean"] + shift,
        "std": scale * state["std"],
        "covariance": np.outer(scale, scale) * state["covariance"],
    }
    strategy = CEM(**kind, **PLAIN)
    one = told(tell, strategy, state, parameters, fitness)
    other = told(tell, strategy, moved, parameters * scale + shift, fitness)
    np.testing.assert_allclose(other.mean, scale * one.mean + shift, rtol=1e-10)
    np.testing.assert_allclose(other.std, scale * one.std, rtol=1e-10)
    if one.covariance is not None:
        expected = np.outer(scale, scale) * one.covariance
        np.testing.assert_allclose(other.covariance, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("min_std", [0.0, 1.0])
def test_rotation_with_full_covariance(tell, min_std):
    """Without shrinkage no direction is special, the floor included."""
    state, parameters, fitness = example()
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))
    turned = {
        "mean": turn @ state["mean"],
        "std": state["std"],
        "covariance": turn @ state["covariance"] @ turn.T,
    }
    strategy = CEM(
        covariance="full", shrinkage=0.0, std_smoothing=0.2, min_std=min_std, extra_std=0.7
    )
    one = told(tell, strategy, state, parameters, fitness)
    other = told(tell, strategy, turned, parameters @ turn.T, fitness)
    np.testing.assert_allclose(other.mean, turn @ one.mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(other.covariance, turn @ one.covariance @ turn.T, atol=1e-10)
    where = problem(d=4)
    scale, turned_scale = (strategy.ask(where, s).distribution.scale for s in (one, other))
    np.testing.assert_allclose(turned_scale, turn @ scale @ turn.T, atol=1e-10)


@pytest.mark.parametrize("kind", [k for k in KINDS if "weighting" not in k], ids=str)
def test_monotone_transforms_of_the_return_change_nothing(tell, kind):
    """Uniform weights rank: the scale of returns has no say, bit for bit."""
    state, parameters, fitness = example()
    strategy = CEM(**kind, **PLAIN)
    one = told(tell, strategy, state, parameters, fitness)
    other = told(tell, strategy, state, parameters, np.exp(fitness) * 100 - 7)
    np.testing.assert_array_equal(other.mean, one.mean)
    np.testing.assert_array_equal(other.std, one.std)


def test_proportional_weights_ignore_shift_and_scale_of_the_return(tell):
    """They are invariant to positive affine transforms, and to no more than these."""
    state, parameters, fitness = example()
    strategy = CEM(weighting="proportional", elite_fraction=1.0, **PLAIN)
    one = told(tell, strategy, state, parameters, fitness)
    other = told(tell, strategy, state, parameters, 40 * fitness - 7)
    np.testing.assert_allclose(other.mean, one.mean, rtol=1e-10)
    bent = told(tell, strategy, state, parameters, np.exp(fitness))
    assert not np.allclose(bent.mean, one.mean)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(4, 40), st.booleans())
def test_refit_equals_numpys_moments(seed, d, n, full):
    """Elites chosen by a plain sort, moments by numpy, for any sizes and failures."""
    generator = np.random.default_rng(seed)
    parameters = generator.standard_normal((n, d)) * 10
    fitness = generator.integers(0, 5, n).astype(float)
    fitness[generator.random(n) < 0.2] = np.nan
    order = sorted((i for i in range(n) if fitness[i] == fitness[i]), key=lambda i: -fitness[i])
    best = parameters[order[: max(2, n // 2)]]
    strategy = CEM(
        elite_count=max(2, n // 2), covariance="full" if full else "diagonal", shrinkage=0, **PLAIN
    )
    where = problem(d=d, n=n)
    population = Population(Table(parameters), n)
    state = strategy.tell(where, strategy.init(where), population, episodes_of(fitness))
    if len(best) < 2:
        return
    np.testing.assert_allclose(state.mean, best.mean(axis=0), rtol=1e-9, atol=1e-12)
    if full:
        expected = np.cov(best.T, ddof=0).reshape(d, d)
        np.testing.assert_allclose(state.covariance, expected, rtol=1e-9, atol=1e-9)
    else:
        np.testing.assert_allclose(state.std, best.std(axis=0), rtol=1e-9, atol=1e-12)


# ---- Reductions -----------------------------------------------------------------------


def test_full_covariance_shrunk_to_its_diagonal_is_the_diagonal_method():
    """Same candidates, generation after generation."""
    where = problem(d=4, n=40)
    common = {"extra_std": 0.5, "extra_generations": 5, "mean_smoothing": 0.1, "min_std": 0.01}
    one = search(CEM(covariance="full", shrinkage=1.0, **common), where, 8)
    other = search(CEM(covariance="diagonal", **common), where, 8)
    for full, diagonal in zip(one, other, strict=True):
        np.testing.assert_allclose(full.parameters, diagonal.parameters, rtol=1e-9, atol=1e-12)


# ---- Convergence ----------------------------------------------------------------------


def rotated_ellipsoid(d, condition):
    """-(x - 1)ᵀ H (x - 1) with eigenvalues from 1 to condition in random directions."""
    turn, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((d, d)))
    hessian = (turn * np.geomspace(1, condition, d)) @ turn.T

    def objective(parameters, seeds):
        centred = parameters - 1
        return -np.einsum("mi,ij,mj->m", centred, hessian, centred)

    return objective


def final_values(strategy, objective, d, n, generations, start=3.0):
    values = []
    for seed in range(20):
        where = FunctionProblem(objective, np.full(d, start), seed=seed, population_size=n)
        done = search(strategy, where, generations)
        values.append(solution_value(strategy, where, done[-1].after))
    return np.array(values)


def test_converges_on_the_sphere():
    """From 44 away in 11 dimensions to within 1e-6, on each of 20 seeds, by defaults."""
    values = final_values(CEM(extra_generations=10), sphere, d=11, n=100, generations=50)
    assert values.min() > -1e-6, values


def test_full_covariance_converges_on_a_rotated_ellipsoid():
    """Condition 1000, d = 4: to within 1e-6 on each of 20 seeds; the diagonal method lags."""
    objective = rotated_ellipsoid(4, 1000.0)
    full = CEM(covariance="full", shrinkage=0.0, extra_generations=10)
    values = final_values(full, objective, d=4, n=200, generations=40)
    assert values.min() > -1e-6, values
    diagonal = final_values(CEM(extra_generations=10), objective, d=4, n=200, generations=40)
    assert diagonal.max() < values.min(), diagonal


def test_random_search_is_beaten():
    """A strategy worth its name beats the baseline, on each of 20 seeds, at equal budget."""
    ours = final_values(CEM(), sphere, d=5, n=50, generations=30, start=0.0)
    baseline = final_values(RandomSearch(), sphere, d=5, n=50, generations=30, start=0.0)
    assert (ours > baseline).all()


def test_extra_variance_escapes_premature_convergence():
    """From far away with a narrow start, without it the search freezes half-way."""
    narrow = {"initial_std": 0.1, "elite_fraction": 0.1}
    with_extra = final_values(CEM(**narrow), sphere, d=10, n=40, generations=60, start=8.0)
    without = final_values(
        CEM(extra_std=0.0, **narrow), sphere, d=10, n=40, generations=60, start=8.0
    )
    assert with_extra.min() > -0.1, with_extra
    assert without.max() < -10, without


# ---- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"elite_fraction": 0.0}, r"elite_fraction 0.0 is not in \(0, 1\]"),
        ({"elite_fraction": float("nan")}, "elite_fraction nan"),
        ({"elite_count": 0}, "elite_count 0"),
        ({"covariance": "ful"}, "did you mean 'full'"),
        ({"initial_mean": "zero"}, "unknown initial_mean 'zero'"),
        ({"extra_decay": "lin"}, "did you mean 'linear'"),
        ({"weighting": "rank"}, "accepted are proportional, uniform"),
        ({"shrinkage": 1.5}, "shrinkage 1.5"),
        ({"mean_smoothing": 1.0}, "mean_smoothing 1.0"),
        ({"std_smoothing": -0.1}, "std_smoothing -0.1"),
        ({"initial_std": 0.0}, "initial_std 0.0"),
        ({"extra_std": -1.0}, "extra_std -1.0"),
        ({"extra_generations": 0.0}, "extra_generations 0.0"),
        ({"min_std": float("inf")}, "min_std inf"),
        ({"ddof": -1}, "ddof -1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, sentence):
    """Each by name and value, when the strategy is made."""
    with pytest.raises(UsageError, match=sentence):
        CEM(**settings)


@pytest.mark.parametrize(
    ("settings", "d", "n", "sentence"),
    [
        ({}, 3, 4, "a population of 4 gives 1 elites, at least 2"),
        ({"elite_count": 9}, 3, 8, "elite_count 9 is more than the population of 8"),
        ({"ddof": 2}, 3, 10, "ddof 2 is not below the number of elites, 2"),
        (
            {"covariance": "full", "shrinkage": 0.0},
            5,
            25,
            "5 parameters needs at least 6 elites, a population of 25 gives 5",
        ),
    ],
)
def test_populations_that_are_too_small_are_refused(settings, d, n, sentence):
    """Before anything starts, with the numbers."""
    with pytest.raises(UsageError, match=sentence):
        CEM(**settings).check(problem(d=d, n=n))


def test_what_can_work_is_not_refused():
    """One elite with a floor, few elites with shrinkage."""
    CEM(elite_count=1, min_std=0.1).check(problem(n=4))
    CEM(elite_count=1, extra_decay="constant").check(problem(n=4))
    CEM(covariance="full", shrinkage=0.1).check(problem(d=50, n=20))


def test_one_elite_searches_with_the_floor(tell):
    """The mean is the best candidate, the width the floor."""
    strategy = CEM(elite_count=1, min_std=0.3, **PLAIN)
    state = tell(strategy, problem(), strategy.init(problem()), PARAMETERS, FITNESS)
    np.testing.assert_array_equal(state.mean, [1, 10])
    np.testing.assert_array_equal(state.std, [0.3, 0.3])


def test_a_collapsed_distribution_stops_the_search(tell):
    """Once all candidates are the same, further generations are wasted."""
    strategy = CEM(elite_count=2, **PLAIN)
    state = tell(strategy, problem(), strategy.init(problem()), [[1, 2]] * 5, [1] * 5)
    assert "shrunk to a point" in strategy.stop(state)
    assert strategy.stop(strategy.init(problem())) is None
    assert CEM(elite_count=2, extra_std=1.0).stop(state) is None
