"""CMA-ES: constants of the tutorial, two published packages step by step, equivariance."""

import math
from dataclasses import replace

import cma
import cmaes
import numpy as np
import pytest

from distes.errors import UsageError
from distes.strategies.cmaes import CMAES, CMAConstants
from distes.testing.problems import FunctionProblem, search, sphere


def problem(d, n, **changes):
    return FunctionProblem(sphere, np.linspace(1.0, 2.0, d), population_size=n, **changes)


def test_constants_of_the_tutorial():
    """Golden numbers for n = 20, λ = 12, from independent code."""
    full = CMAConstants.of(12, 20, separable=False, active=True)
    assert full.rank_one == pytest.approx(0.00437235, abs=5e-9)
    assert full.rank_mu == pytest.approx(0.00921656, abs=5e-9)
    assert full.path_rate == pytest.approx(0.171767, abs=1e-6)
    assert full.effective == pytest.approx(3.7294589343, abs=5e-11)
    assert full.weights[0] == pytest.approx(0.4024029428, abs=5e-11)
    assert full.weights[-1] == pytest.approx(-0.4152044225, abs=1e-10)
    separable = CMAConstants.of(12, 20, separable=True, active=True)
    assert separable.rank_one == pytest.approx(0.0343279, abs=1e-7)
    assert separable.rank_mu == pytest.approx(0.0565385, abs=1e-7)
    assert separable.path_rate == pytest.approx(0.252594, abs=1e-6)


def ellipsoid(points):
    scales = 10.0 ** np.linspace(0, 2, points.shape[1])
    return -((points - 3.0) ** 2 @ scales)


def run_beside(strategy, other, tell, d=6, n=14, generations=50):
    """Tell both the same samples; yields our state after each generation."""
    where = problem(d, n)
    state = strategy.init(where)
    for _ in range(generations):
        drawn = strategy.ask(where, state).distribution.draw(np.arange(n))
        fitness = ellipsoid(drawn)
        state = tell(strategy, where, state, drawn, fitness)
        other(drawn, fitness)
        yield state


def set_constants(package, constants):
    """Give a `cmaes` optimiser our constants: only its update is compared."""
    package._weights = constants.weights
    package._mu_eff = constants.effective
    package._c1, package._cmu = constants.rank_one, constants.rank_mu
    package._c_sigma, package._d_sigma = constants.step_rate, constants.step_damping
    package._cc = constants.path_rate
    size = len(package._mean)
    package._chi_n = math.sqrt(2) * math.gamma((size + 1) / 2) / math.gamma(size / 2)


@pytest.mark.parametrize("active", [True, False])
def test_the_full_update_is_that_of_cmaes(tell, active, monkeypatch):
    """Mean, step size, paths and covariance after each of 50 updates, to 1e-10."""
    monkeypatch.setattr(cmaes._cma, "_EPS", 0.0)  # it adds 1e-8 to lengths of samples
    package = cmaes.CMA(np.linspace(1.0, 2.0, 6), 0.7, population_size=14)
    set_constants(package, CMAConstants.of(14, 6, separable=False, active=active))
    strategy = CMAES(initial_std=0.7, active=active)

    def other(drawn, fitness):
        package._eigen_decomposition()
        package.tell(list(zip(drawn, -fitness, strict=True)))

    for state in run_beside(strategy, other, tell):
        assert state.mean == pytest.approx(package._mean, rel=1e-10)
        assert state.step_size == pytest.approx(package._sigma, rel=1e-10)
        assert state.path_step == pytest.approx(package._p_sigma, rel=1e-9, abs=1e-10)
        assert state.path_cov == pytest.approx(package._pc, rel=1e-9, abs=1e-10)
        assert state.covariance == pytest.approx(package._C, rel=1e-9, abs=1e-10)


def test_the_separable_update_is_that_of_cmaes(tell):
    package = cmaes.SepCMA(np.linspace(1.0, 2.0, 6), 0.7, population_size=14)
    set_constants(package, CMAConstants.of(14, 6, separable=True, active=False))
    package._weights = package._weights[:7]
    strategy = CMAES(initial_std=0.7, active=False, covariance="separable")

    def other(drawn, fitness):
        package.tell(list(zip(drawn, -fitness, strict=True)))

    for state in run_beside(strategy, other, tell):
        assert state.mean == pytest.approx(package._mean, rel=1e-10)
        assert state.step_size == pytest.approx(package._sigma, rel=1e-10)
        assert state.path_step == pytest.approx(package._p_sigma, rel=1e-9, abs=1e-10)
        assert state.covariance == pytest.approx(package._C, rel=1e-9, abs=1e-10)


def test_the_full_update_is_that_of_cma(tell):
    """The other published package; its options are set to our constants."""
    d, n = 6, 14
    constants = CMAConstants.of(n, d, separable=False, active=False)
    options = {"CMA_active": False, "verbose": -9, "seed": 1, "updatecovwait": 0}
    es = cma.CMAEvolutionStrategy(
        np.linspace(1.0, 2.0, d), 0.7, {**options, "popsize": n, "CSA_squared": False}
    )
    es.ask()  # initialises
    es.adapt_sigma.cs, es.adapt_sigma.damps = constants.step_rate, constants.step_damping
    es.sp.cc = constants.path_rate
    es.sm.parameters = lambda **_: {"c1": constants.rank_one, "cmu": constants.rank_mu}
    where = problem(d, n)
    strategy = CMAES(initial_std=0.7, active=False)
    # It starts from a covariance a little off I, so that its eigenvalues are distinct.
    state = replace(strategy.init(where), covariance=es.sm.C.copy())
    for _ in range(50):
        drawn = strategy.ask(where, state).distribution.draw(np.arange(n))
        fitness = ellipsoid(drawn)
        state = tell(strategy, where, state, drawn, fitness)
        es.ask()  # what it wants before it is told
        es.tell(list(drawn), list(-fitness), check_points=False)
        assert state.mean == pytest.approx(es.mean, rel=1e-10)
        assert state.step_size == pytest.approx(es.sigma, rel=1e-10)
        assert state.path_step == pytest.approx(es.adapt_sigma.ps, rel=1e-8, abs=1e-10)
        assert state.path_cov == pytest.approx(es.pc, rel=1e-8, abs=1e-10)
        assert state.covariance == pytest.approx(es.sm.C, rel=1e-8, abs=1e-10)


def random_rotation(d):
    return np.linalg.qr(np.random.default_rng(2).normal(size=(d, d)))[0]


@pytest.mark.parametrize("covariance", ["full", "separable"])
def test_one_update_does_not_depend_on_the_frame(tell, covariance):
    """Moved, scaled, turned (full) samples, and returns through a monotone function."""
    d, n = 5, 12
    where, strategy = problem(d, n), CMAES(covariance=covariance)
    generator = np.random.default_rng(4)
    first = strategy.init(where)
    drawn = first.mean + generator.normal(size=(n, d))
    fitness = generator.normal(size=n)
    # From a state with paths of its own: one generation later.
    state = tell(strategy, where, first, drawn, fitness)
    points, fitness = state.mean + generator.normal(size=(n, d)), generator.normal(size=n)
    told = tell(strategy, where, state, points, fitness)

    shape = tell(strategy, where, state, points, np.exp(3 * fitness))
    assert np.array_equal(shape.mean, told.mean)
    assert np.array_equal(shape.covariance, told.covariance)

    moved = tell(strategy, where, replace(state, mean=state.mean + 7), points + 7, fitness)
    assert moved.mean == pytest.approx(told.mean + 7)
    assert moved.covariance == pytest.approx(told.covariance)

    scaled = replace(state, mean=3 * state.mean, step_size=3 * state.step_size)
    scaled = tell(strategy, where, scaled, 3 * points, fitness)
    assert scaled.mean == pytest.approx(3 * told.mean)
    assert scaled.step_size == pytest.approx(3 * told.step_size)
    assert scaled.path_step == pytest.approx(told.path_step)

    if covariance == "full":
        q = random_rotation(d)
        turned = replace(
            state,
            mean=q @ state.mean,
            covariance=q @ state.covariance @ q.T,
            path_step=q @ state.path_step,
            path_cov=q @ state.path_cov,
        )
        turned = tell(strategy, where, turned, points @ q.T, fitness)
        assert turned.mean == pytest.approx(q @ told.mean)
        assert turned.path_step == pytest.approx(q @ told.path_step)
        assert turned.covariance == pytest.approx(q @ told.covariance @ q.T)


def test_equal_returns_pull_alike(tell):
    """The order of equal candidates is chance: swapping them must change nothing."""
    where, strategy = problem(3, 8), CMAES()
    state = strategy.init(where)
    drawn = strategy.ask(where, state).distribution.draw(np.arange(8))
    fitness = np.array([2.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0])
    swapped = drawn[[0, 3, 2, 1, 6, 5, 4, 7]]
    one = tell(strategy, where, state, drawn, fitness)
    other = tell(strategy, where, state, swapped, fitness)
    assert one.mean == pytest.approx(other.mean)
    assert one.covariance == pytest.approx(other.covariance)


@pytest.mark.parametrize("covariance", ["full", "separable"])
def test_it_solves_an_ellipsoid(covariance):
    """Condition 100, from 20 seeds; separable, as this ellipsoid is."""

    def objective(points, seeds):
        return ellipsoid(points)

    for seed in range(20):
        where = FunctionProblem(objective, np.zeros(5), population_size=None, seed=seed)
        strategy = CMAES(covariance=covariance)
        done = search(strategy, where, 150)
        assert ellipsoid(done[-1].after.mean[None])[0] > -1e-6, seed


def test_stops():
    where, strategy = problem(3, 8), CMAES()
    state = strategy.init(where)
    assert strategy.stop(state) is None
    assert "shrunk" in strategy.stop(replace(state, step_size=1e-13))
    flat = np.diag([1.0, 1.0, 1e-15])
    assert "condition" in strategy.stop(replace(state, covariance=flat))


@pytest.mark.parametrize(
    ("strategy", "size", "said"),
    [
        (CMAES(), 3, "a population of 3 is too small for cmaes: give at least 4"),
    ],
)
def test_what_cannot_work_is_refused(strategy, size, said):
    with pytest.raises(UsageError, match=said):
        strategy.check(problem(3, size))


def test_a_matrix_that_does_not_fit_is_refused():
    where = FunctionProblem(sphere, np.zeros(100_000), population_size=16)
    with pytest.raises(UsageError, match=r"about 298 GiB: give strategy.covariance separable"):
        CMAES().check(where)
    CMAES(covariance="separable").check(where)
