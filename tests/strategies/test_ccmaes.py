"""Contextual CMA-ES: constants, another package's updates, equivariance, convergence."""

from dataclasses import replace

import cma
import numpy as np
import pytest

from distes.errors import UsageError
from distes.population.distributions import Table
from distes.population.records import Population
from distes.strategies.ccmaes import CCMAES, Constants
from distes.testing.problems import FunctionProblem, episodes_of, search, sphere


def negative_norm(parameters, _seeds):
    return -np.sum(parameters**2, axis=1)


def problem(d=4, k=2, n=40, **changes):
    moved = np.random.default_rng(5).normal(size=(k, d)) if k else None
    return FunctionProblem(
        changes.pop("objective", negative_norm),
        np.ones(d),
        population_size=n,
        moved=moved,
        **changes,
    )


def test_golden_constants():
    """n = 20, λ = 12, from the tutorial's formulas."""
    constants = Constants.compute(12, 20, 0)
    assert constants.recombination[0] == pytest.approx(0.4024029428, abs=1e-9)
    assert constants.effective == pytest.approx(3.7294589343, abs=1e-9)
    assert constants.rank_one == pytest.approx(0.00437235, abs=1e-8)
    assert constants.path_rate == pytest.approx(0.171767, abs=1e-6)
    # The tutorial adds 1/4 where the contextual paper does not: golden 0.00921656 with it.
    quarter = 2 * 0.25 / (22**2 + constants.effective)
    assert constants.rank_mu + quarter == pytest.approx(0.00921656, abs=1e-8)


def test_contextual_constants():
    """By hand: λ = 4 has weights of log(2.5) and log(1.25); n_t = 5 and ln 3 more damping."""
    first, second = np.log(2.5), np.log(1.25)
    effective = (first + second) ** 2 / (first**2 + second**2)
    constants = Constants.compute(4, 3, 2)
    assert constants.recombination == pytest.approx(np.array([first, second]) / (first + second))
    assert constants.effective == pytest.approx(effective)
    assert constants.step_rate == pytest.approx((effective + 2) / (10 + effective))
    assert constants.step_damping == pytest.approx(1 + constants.step_rate + np.log(3))
    assert constants.path_rate == pytest.approx((4 + effective / 5) / (9 + 2 * effective / 5))
    assert constants.rank_one == pytest.approx(2 / (6.3**2 + effective))
    assert constants.rank_mu == pytest.approx(
        2 * (effective - 2 + 1 / effective) / (49 + effective)
    )


def test_rates_leave_something():
    """In one dimension a large population would replace more than everything."""
    constants = Constants.compute(400, 1, 0)
    assert constants.rank_one + constants.rank_mu <= 1


class PackageCMA:
    """The package `cma` with our constants, fed our samples."""

    def __init__(self, start, std, size, constants):
        options = {"CMA_active": False, "verbose": -9, "seed": 1, "updatecovwait": 0}
        self.es = cma.CMAEvolutionStrategy(
            start, std, {**options, "popsize": size, "CSA_squared": False}
        )
        self.es.ask()  # initialises
        self.es.adapt_sigma.cs = constants.step_rate
        self.es.adapt_sigma.damps = constants.step_damping
        self.es.sp.cc = constants.path_rate
        rates = {"c1": constants.rank_one, "cmu": constants.rank_mu}
        self.es.sm.parameters = lambda **_: rates

    def __call__(self, parameters, fitness):
        self.es.ask()  # what it wants before it is told
        self.es.tell(list(parameters), list(-fitness), check_points=False)
        return self.es


def test_without_contexts_it_is_the_package(tell):
    """Mean, step size, paths and covariance after each of 30 updates: 10 and 8 digits."""
    d, n = 6, 14
    where = problem(d, 0, n)
    strategy = CCMAES(initial_std=0.7)
    state = strategy.init(where)
    other = PackageCMA(where.start, 0.7, n, Constants.compute(n, d, 0))
    # It starts from a covariance a little off I, so that its eigenvalues are distinct.
    state = replace(state, covariance=other.es.sm.C.copy())
    scales = 10.0 ** np.linspace(0, 1, d)
    for _ in range(30):
        drawn = strategy.ask(where, state).distribution.draw(np.arange(n))
        fitness = -((drawn - 3.0) ** 2 @ scales)
        state = tell(strategy, where, state, drawn, fitness)
        es = other(drawn, fitness)
        assert state.weights[0] == pytest.approx(es.mean, rel=1e-10)
        assert state.step_size == pytest.approx(es.sigma, rel=1e-10)
        assert state.path_step == pytest.approx(es.adapt_sigma.ps, rel=1e-8, abs=1e-10)
        assert state.path_cov == pytest.approx(es.pc, rel=1e-8, abs=1e-10)
        assert state.covariance == pytest.approx(es.sm.C, rel=1e-8, abs=1e-10)


def test_a_long_path_stalls_the_rank_one_update(tell):
    """h_σ = 0: p_c only decays, and the covariance keeps what rank one would have replaced."""
    where = problem(5, 0, 12)
    strategy = CCMAES()
    state = replace(strategy.init(where), generation=50, path_step=np.full(5, 10.0))
    state = replace(state, path_cov=np.full(5, 0.1))
    drawn = strategy.ask(where, state).distribution.draw(np.arange(12))
    told = tell(strategy, where, state, drawn, drawn[:, 0])
    constants = Constants.compute(12, 5, 0)
    turn = constants.path_rate
    assert told.path_cov == pytest.approx((1 - turn) * state.path_cov)
    order = np.argsort(-drawn[:, 0])[:6]
    steps = (drawn - 1.0)[order]
    kept = 1 - constants.rank_one * (1 - turn * (2 - turn)) - constants.rank_mu
    expected = (
        kept * np.eye(5)
        + constants.rank_one * np.outer(told.path_cov, told.path_cov)
        + constants.rank_mu * np.einsum("i,ij,ik->jk", constants.recombination, steps, steps)
    )
    assert told.covariance == pytest.approx(expected)
    assert told.step_size == pytest.approx(state.step_size * np.e)  # at most e in one update


# ---- Equivariance of one tell ---------------------------------------------------------


def example(k=2, d=4, n=40):
    """A state in mid-course, candidates, contexts and returns without any symmetry."""
    generator = np.random.default_rng(3)
    where = problem(d, k, n)
    strategy = CCMAES()
    factor = generator.normal(size=(d, d)) + 2 * np.eye(d)
    state = strategy.init(where)
    state = replace(
        state,
        generation=7,
        weights=generator.normal(size=state.weights.shape),
        step_size=0.3,
        covariance=factor @ factor.T,
        path_step=generator.normal(size=d),
        path_cov=generator.normal(size=d),
    )
    contexts = generator.uniform(-1, 1, (n, k))
    mean = state.features(contexts) @ state.weights
    drawn = mean + 0.3 * generator.normal(size=(n, d)) @ factor.T
    returns = np.sin(drawn).sum(axis=1) - (drawn**2).sum(axis=1)
    return strategy, where, state, drawn, contexts, returns


def tell_returns(strategy, where, state, drawn, contexts, returns):
    episodes = replace(episodes_of(returns), contexts=contexts if contexts.shape[1] else None)
    return strategy.tell(where, state, Population(Table(drawn), len(drawn)), episodes)


@pytest.mark.parametrize("k", [0, 2])
def test_translation_and_scale(k):
    """Candidates 5x + shift: the policy moves along, its shape stays."""
    strategy, where, state, drawn, contexts, returns = example(k)
    plain = tell_returns(strategy, where, state, drawn, contexts, returns)
    shift = np.array([1.0, -2.0, 300.0, 0.5])
    weights = 5 * state.weights
    weights[0] += shift
    scaled = replace(state, weights=weights, step_size=5 * state.step_size)
    after = tell_returns(strategy, where, scaled, 5 * drawn + shift, contexts, returns)
    expected = 5 * plain.weights
    expected[0] += shift
    assert after.weights == pytest.approx(expected, abs=1e-9)
    assert after.step_size == pytest.approx(5 * plain.step_size)
    assert after.covariance == pytest.approx(plain.covariance)
    assert after.path_step == pytest.approx(plain.path_step)


@pytest.mark.parametrize("k", [0, 2])
def test_rotation(k):
    """Candidates turned by Q: the policy and both paths turn along."""
    strategy, where, state, drawn, contexts, returns = example(k)
    plain = tell_returns(strategy, where, state, drawn, contexts, returns)
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(4, 4)))
    turned = replace(
        state,
        weights=state.weights @ turn.T,
        covariance=turn @ state.covariance @ turn.T,
        path_step=turn @ state.path_step,
        path_cov=turn @ state.path_cov,
    )
    after = tell_returns(strategy, where, turned, drawn @ turn.T, contexts, returns)
    assert after.weights == pytest.approx(plain.weights @ turn.T)
    assert after.covariance == pytest.approx(turn @ plain.covariance @ turn.T)
    assert after.path_step == pytest.approx(turn @ plain.path_step)
    assert after.path_cov == pytest.approx(turn @ plain.path_cov)


def same(one, other):
    for name in ("weights", "step_size", "covariance", "path_step", "path_cov"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9), name


def test_monotone_transforms_without_contexts():
    """Only ranks count, bit for bit."""
    strategy, where, state, drawn, contexts, returns = example(0)
    plain = tell_returns(strategy, where, state, drawn, contexts, returns)
    for changed in (np.exp(returns), returns**3, 1e6 + 1e-3 * returns):
        after = tell_returns(strategy, where, state, drawn, contexts, changed)
        assert np.array_equal(after.weights, plain.weights)
        assert np.array_equal(after.covariance, plain.covariance)
        assert after.step_size == plain.step_size


def test_what_the_context_explains_does_not_count():
    """Scale and shift of the return, and a large function of the context, which is fitted
    with next to no penalty."""
    strategy, where, state, drawn, contexts, returns = example()
    plain = tell_returns(strategy, where, state, drawn, contexts, returns)
    same(tell_returns(strategy, where, state, drawn, contexts, 40 * returns - 1e4), plain)
    value = 1e4 * (contexts[:, 0] - contexts[:, 1] ** 2 + contexts[:, 0] * contexts[:, 1])
    other = 3e4 * (contexts[:, 1] + contexts[:, 0] ** 2)
    one, two = (
        tell_returns(strategy, where, state, drawn, contexts, returns + v) for v in (value, other)
    )
    same(one, two)


def test_units_of_the_context_do_not_matter():
    """Contexts in other units: another A for the same policy, and the same update."""
    strategy, where, state, drawn, contexts, returns = example()
    plain = tell_returns(strategy, where, state, drawn, contexts, returns)
    units, shift = np.array([[200.0, 30.0], [-1.0, 0.04]]), np.array([7.0, -0.1])
    # θ = a + s B and s' = s U + c, so that B' = U⁻¹B and a' = a − c B'.
    slopes = np.linalg.solve(units, state.weights[1:])
    other = replace(state, weights=np.vstack([state.weights[:1] - shift @ slopes, slopes]))
    after = tell_returns(strategy, where, other, drawn, contexts @ units + shift, returns)
    slopes = np.linalg.solve(units, plain.weights[1:])
    assert after.weights[1:] == pytest.approx(slopes, rel=1e-6)
    assert after.weights[0] == pytest.approx(plain.weights[0] - shift @ slopes, rel=1e-6)
    assert after.covariance == pytest.approx(plain.covariance, rel=1e-7)
    assert after.step_size == pytest.approx(plain.step_size)


# ---- Reductions and limits ------------------------------------------------------------


def test_features_without_context_in_them_are_a_plain_mean():
    """Constant policy features and baseline: only the constants know that there are contexts."""
    _, where, state, drawn, contexts, returns = example()
    plain = CCMAES(policy_features="constant", baseline_features="constant")
    begun = replace(plain.init(where), step_size=state.step_size, covariance=state.covariance)
    after = tell_returns(plain, where, begun, drawn, contexts, returns)
    constants = Constants.compute(40, 4, 2)
    best = drawn[np.argsort(-returns)[:20]]
    assert after.weights[0] == pytest.approx(constants.recombination @ best)


def test_failed_candidates_count_as_never_drawn():
    strategy, where, state, drawn, contexts, returns = example()
    failed = np.arange(40) % 4 == 1
    with_failures = np.where(failed, np.nan, returns)
    after = tell_returns(strategy, where, state, drawn, contexts, with_failures)
    fewer = tell_returns(
        strategy, where, state, drawn[~failed], contexts[~failed], returns[~failed]
    )
    same(after, fewer)


def test_too_few_valid_samples_change_nothing():
    """Seven samples for a mean with three coefficients: half of them would fit exactly."""
    strategy, where, state, drawn, contexts, returns = example()
    after = tell_returns(strategy, where, state, drawn[:7], contexts[:7], returns[:7])
    same(after, state)
    assert after.generation == state.generation + 1


@pytest.mark.parametrize("k", [0, 2])
def test_returns_that_say_nothing_change_nothing(k):
    strategy, where, state, drawn, contexts, _ = example(k)
    same(tell_returns(strategy, where, state, drawn, contexts, np.full(40, 200.0)), state)
    if k:
        explained = 100 + contexts @ [3.0, -7.0]
        same(tell_returns(strategy, where, state, drawn, contexts, explained), state)


def test_frozen_parameters_stay():
    strategy = CCMAES(initial_std=(1.0, 0.0, 0.5, 0.0))
    done = search(strategy, problem(), 30)
    assert np.array_equal(done[-1].after.weights[:, [1, 3]], done[0].before.weights[:, [1, 3]])
    assert not done[-1].after.covariance[[1, 3]].any()
    assert (done[-1].parameters[:, [1, 3]] == 1.0).all()
    assert np.ptp(done[-1].parameters[:, 0]) > 0


def test_standard_deviations_at_the_start():
    """Per parameter as given, whatever the step size is."""
    where = problem(3, 0)
    strategy = CCMAES(initial_std=(1.0, 10.0, 0.1))
    drawn = strategy.ask(where, strategy.init(where)).distribution
    assert drawn.scale == pytest.approx([1.0, 10.0, 0.1])


def test_least_standard_deviation():
    done = search(CCMAES(min_std=0.2), problem(), 60)
    state = done[-1].after
    values = np.linalg.eigvalsh(state.step_size**2 * state.covariance)
    assert values.min() >= 0.2**2 * (1 - 1e-9)


def test_it_stops_when_the_covariance_is_degenerate():
    strategy, where = CCMAES(), problem(2, 0)
    state = strategy.init(where)
    assert strategy.stop(state) is None
    flat = replace(state, covariance=np.diag([1.0, 1e-15]))
    assert "condition" in strategy.stop(flat)
    assert "shrunk" in strategy.stop(replace(state, step_size=1e-14))


def test_mistakes():
    with pytest.raises(UsageError, match="at least 8"):
        CCMAES().check(problem(n=7))
    with pytest.raises(UsageError, match="policy_features"):
        CCMAES(policy_features="afine").check(problem())
    with pytest.raises(UsageError, match="min_std"):
        CCMAES(min_std=-1.0)
    with pytest.raises(UsageError, match="initial_std"):
        CCMAES(initial_std=0.0)
    with pytest.raises(UsageError, match="episodes 3"):
        CCMAES().check(problem(episodes=3))


# ---- Convergence ----------------------------------------------------------------------


def regret(strategy, where, state):
    """Mean over fresh contexts of how far the deployed mean is from the best."""
    contexts = np.random.default_rng(99).uniform(-1, 1, (1000, where.num_contexts))
    solution = strategy.solution(where, state).distribution
    drawn = solution.draw(np.zeros(1000, dtype=np.int64), contexts)
    return -float(where.objective(drawn - contexts @ where.moved, np.arange(1000)).mean())


@pytest.mark.slow
def test_contextual_sphere():
    """20 parameters, 2 contexts, 200 generations of 50: regret below 1e-4 on 20 of 20 seeds."""
    reached = []
    for seed in range(20):
        generator = np.random.default_rng(1000 + seed)
        where = FunctionProblem(
            negative_norm,
            generator.normal(size=20),
            seed=seed,
            population_size=50,
            moved=generator.normal(size=(2, 20)),
        )
        done = search(CCMAES(), where, 200)
        reached.append(regret(CCMAES(), where, done[-1].after))
    assert max(reached) < 1e-4, sorted(reached)


@pytest.mark.slow
def test_an_ill_conditioned_ellipsoid():
    """10 parameters, axes 1 to 1000: below 1e-9 after 700 generations on 20 of 20 seeds."""
    scales = 10.0 ** np.linspace(0, 6, 10)

    def ellipsoid(parameters, _seeds):
        return -(((parameters - 1) ** 2) @ scales)

    for seed in range(20):
        where = FunctionProblem(ellipsoid, np.zeros(10), seed=seed)
        done = search(CCMAES(), where, 700)
        assert -ellipsoid(done[-1].after.weights, None)[0] < 1e-9


def test_sphere_with_its_own_population():
    where = FunctionProblem(sphere, np.zeros(5))
    done = search(CCMAES(), where, 150)
    assert np.abs(done[-1].after.weights - 1).max() < 1e-3
