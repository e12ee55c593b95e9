"""CMA-ES: constants of the tutorial, two published packages step by step, equivariance."""

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import cast

import cma
import cmaes
import numpy as np
import pytest

from distes.errors import UsageError
from distes.runs.codec import dumps, loads
from distes.strategies.base import Problem
from distes.strategies.cmaes import CMAES
from distes.strategies.numerics import stagnation
from distes.strategies.numerics.cma_constants import CMAConstants
from distes.strategies.parts import memory
from distes.strategies.parts.attempts import Attempt
from distes.strategies.parts.covariances import DiagonalCovariance, FullCovariance
from distes.tasks.function import FunctionTask
from distes.testing.problems import FunctionProblem, draw_solution, episodes_of, search, sphere


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


def run_beside(strategy, other, tell_noise, d=6, n=14, generations=50, state=None):
    """Tell both the same samples; yields our state after each generation."""
    where = problem(d, n)
    state = state or strategy.init(where)
    for _ in range(generations):
        asked = strategy.ask(where, state).distribution
        drawn = asked.draw(np.arange(n))
        fitness = ellipsoid(drawn)
        state = tell_noise(strategy, where, state, asked.noise(np.arange(n)), fitness)
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
def test_the_full_update_is_that_of_cmaes(tell_noise, active, monkeypatch):
    """Mean, step size, paths and covariance after each of 50 updates, to 1e-10."""
    monkeypatch.setattr(cmaes._cma, "_EPS", 0.0)  # it adds 1e-8 to lengths of samples
    package = cmaes.CMA(np.linspace(1.0, 2.0, 6), 0.7, population_size=14)
    set_constants(package, CMAConstants.of(14, 6, separable=False, active=active))
    strategy = CMAES(initial_std=0.7, active=active)

    def other(drawn, fitness):
        package._eigen_decomposition()
        package.tell(list(zip(drawn, -fitness, strict=True)))

    for state in run_beside(strategy, other, tell_noise):
        assert state.mean == pytest.approx(package._mean, rel=1e-10)
        assert state.step_size == pytest.approx(package._sigma, rel=1e-10)
        assert state.path_step == pytest.approx(package._p_sigma, rel=1e-9, abs=1e-10)
        assert state.covariance.path == pytest.approx(package._pc, rel=1e-9, abs=1e-10)
        assert state.covariance.matrix == pytest.approx(package._C, rel=1e-9, abs=1e-10)


def test_adapted_rates_are_those_of_cmaes(tell_noise, monkeypatch):
    """Mean, step size, covariance and both learning rates over 50 noisy generations."""
    monkeypatch.setattr(cmaes._cma, "_EPS", 0.0)  # it adds 1e-8 to lengths of samples
    d, n = 6, 14
    package = cmaes.CMA(np.linspace(1.0, 2.0, d), 0.7, population_size=n, lr_adapt=True)
    set_constants(package, CMAConstants.of(n, d, separable=False, active=True))
    strategy = CMAES(initial_std=0.7, adapt_rates=True)
    where, noise = problem(d, n), np.random.default_rng(3)
    state, least = strategy.init(where), 1.0
    for _ in range(50):
        asked = strategy.ask(where, state).distribution
        drawn = asked.draw(np.arange(n))
        fitness = ellipsoid(drawn) + 100 * noise.normal(size=n)
        state = tell_noise(strategy, where, state, asked.noise(np.arange(n)), fitness)
        package._eigen_decomposition()
        package.tell(list(zip(drawn, -fitness, strict=True)))
        of_mean, of_covariance = state.rates
        assert state.mean == pytest.approx(package._mean, rel=1e-10)
        assert state.step_size == pytest.approx(package._sigma, rel=1e-10)
        assert state.covariance.matrix == pytest.approx(package._C, rel=1e-9, abs=1e-10)
        assert of_mean.rate == pytest.approx(package._eta_mean, rel=1e-10)
        assert of_covariance.rate == pytest.approx(package._eta_Sigma, rel=1e-10)
        least = min(least, of_mean.rate)
    assert least < 0.5  # or nothing was adapted


def test_adapted_rates_find_an_optimum_under_noise():
    """Twenty seeds of a sphere whose noise is as large as its value at the start.

    If wrong: rates never fall, and the mean wanders as far as the noise lets it.
    """

    def noisy(points, seeds):
        noise = np.array([np.random.default_rng(int(s)).normal() for s in seeds])
        return sphere(points, seeds) + 20 * noise

    far = {}
    for adapts in (False, True):
        values = []
        for seed in range(20):
            where = FunctionProblem(noisy, np.full(5, 3.0), population_size=None, seed=seed)
            done = search(CMAES(adapt_rates=adapts), where, 200)
            values.append(-sphere(done[-1].after.mean[None], None)[0])
        far[adapts] = float(np.median(values))
    assert far[True] < 0.7 * far[False]


def test_the_separable_update_is_that_of_cmaes(tell_noise):
    package = cmaes.SepCMA(np.linspace(1.0, 2.0, 6), 0.7, population_size=14)
    set_constants(package, CMAConstants.of(14, 6, separable=True, active=False))
    package._weights = package._weights[:7]
    strategy = CMAES(initial_std=0.7, active=False, covariance="separable")

    def other(drawn, fitness):
        package.tell(list(zip(drawn, -fitness, strict=True)))

    for state in run_beside(strategy, other, tell_noise):
        assert state.mean == pytest.approx(package._mean, rel=1e-10)
        assert state.step_size == pytest.approx(package._sigma, rel=1e-10)
        assert state.path_step == pytest.approx(package._p_sigma, rel=1e-9, abs=1e-10)
        assert state.covariance.matrix == pytest.approx(package._C, rel=1e-9, abs=1e-10)


def set_cma(d, n, constants, **options):
    """A search of package `cma` with our constants."""
    options = {"popsize": n, "verbose": -9, "seed": 1, "CSA_squared": False, **options}
    es = cma.CMAEvolutionStrategy(np.linspace(1.0, 2.0, d), 0.7, options)
    es.ask()  # initialises
    es.adapt_sigma.cs, es.adapt_sigma.damps = constants.step_rate, constants.step_damping
    es.sp.cc = constants.path_rate
    es.sm.parameters = lambda **_: {"c1": constants.rank_one, "cmu": constants.rank_mu}
    return es


def tell_cma(es, drawn, fitness):
    es.before = es.sm.C.copy()
    es.tell(list(drawn), list(-fitness), check_points=False)
    es.ask()  # it decomposes, and wants this before it is told again


def assert_is_cma(state, es):
    assert state.mean == pytest.approx(es.mean, rel=1e-10)
    assert state.step_size == pytest.approx(es.sigma, rel=1e-10)
    assert state.path_step == pytest.approx(es.adapt_sigma.ps, rel=1e-8, abs=1e-10)
    assert state.covariance.path == pytest.approx(es.pc, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize(("d", "n"), [(6, 14), (100, 17)])
def test_the_full_update_is_that_of_cma(tell_noise, d, n):
    """The other published package; its options are set to our constants.

    With 100 parameters both decompose in every second generation.
    """
    constants = CMAConstants.of(n, d, separable=False, active=False)
    rate = constants.rank_one + constants.rank_mu
    es = set_cma(d, n, constants, CMA_active=False, updatecovwait=1 / rate / d / 10)
    strategy = CMAES(initial_std=0.7, active=False)
    # It starts from a covariance a little off I, so that its eigenvalues are distinct.
    decomposed = FullCovariance(es.sm.C.copy(), np.zeros(d), es.sm.B.copy(), es.sm.D.copy())
    begun = replace(strategy.init(problem(d, n)), covariance=decomposed)
    ages = set()
    for told in run_beside(strategy, partial(tell_cma, es), tell_noise, d, n, state=begun):
        assert_is_cma(told, es)
        assert told.covariance.matrix == pytest.approx(es.sm.C, rel=1e-8, abs=1e-10)
        ages.add(told.covariance.age)
    assert ages == ({0} if d == 6 else {0, 1})


def test_active_weights_are_those_of_cma(tell_noise):
    """Bad samples count against the covariance, full and diagonal, taken at the length √n."""
    d, n = 6, 14
    for covariance, options in (
        ("full", {}),
        ("separable", {"CMA_sampler": cma.sampler.GaussDiagonalSampler}),
    ):
        strategy = CMAES(initial_std=0.7, covariance=covariance)
        constants = CMAConstants.of(n, d, separable=strategy.separable, active=True)
        es = set_cma(d, n, constants, CMA_active=True, updatecovwait=0, **options)
        es.sp.weights[:] = constants.weights
        # It adds 1e-9 to lengths, and shrinks a diagonal before it measures them.
        if covariance == "full":
            es.sm.norm = lambda step, norm=es.sm.norm: norm(step) - 1e-9
        else:
            es.sm.norm = lambda step, es=es: np.linalg.norm(step / es.before**0.5) - 1e-9
        start = FullCovariance.decompose if covariance == "full" else DiagonalCovariance
        begun = strategy.init(problem(d, n))
        begun = replace(begun, covariance=start(es.sm.C.copy(), np.zeros(d)))
        for told in run_beside(strategy, partial(tell_cma, es), tell_noise, d, n, state=begun):
            assert_is_cma(told, es)
            assert told.covariance.matrix == pytest.approx(es.sm.C, rel=1e-8, abs=1e-10)


def random_rotation(d):
    return np.linalg.qr(np.random.default_rng(2).normal(size=(d, d)))[0]


@pytest.mark.parametrize("covariance", ["full", "separable"])
def test_one_update_does_not_depend_on_the_frame(tell_noise, covariance):
    """Moved, scaled, turned (full) samples, and returns through a monotone function."""
    d, n = 5, 12
    where, strategy = problem(d, n), CMAES(covariance=covariance)
    generator = np.random.default_rng(4)
    normals, fitness = generator.normal(size=(n, d)), generator.normal(size=n)
    # From a state with paths of its own: one generation later.
    state = tell_noise(strategy, where, strategy.init(where), normals, fitness)
    normals, fitness = generator.normal(size=(n, d)), generator.normal(size=n)
    told = tell_noise(strategy, where, state, normals, fitness)

    shape = tell_noise(strategy, where, state, normals, np.exp(3 * fitness))
    assert np.array_equal(shape.mean, told.mean)
    assert np.array_equal(shape.covariance.matrix, told.covariance.matrix)

    moved = replace(state, mean=state.mean + 7)
    moved = tell_noise(strategy, where, moved, normals, fitness)
    assert moved.mean == pytest.approx(told.mean + 7)
    assert moved.covariance.matrix == pytest.approx(told.covariance.matrix)

    scaled = replace(state, mean=3 * state.mean, step_size=3 * state.step_size)
    scaled = tell_noise(strategy, where, scaled, normals, fitness)
    assert scaled.mean == pytest.approx(3 * told.mean)
    assert scaled.step_size == pytest.approx(3 * told.step_size)
    assert scaled.path_step == pytest.approx(told.path_step)

    if covariance == "full":
        q, old = random_rotation(d), state.covariance
        turned = replace(
            state,
            mean=q @ state.mean,
            covariance=FullCovariance(
                q @ old.matrix @ q.T, q @ old.path, q @ old.axes, old.lengths
            ),
            path_step=q @ state.path_step,
        )
        turned = tell_noise(strategy, where, turned, normals, fitness)
        assert turned.mean == pytest.approx(q @ told.mean)
        assert turned.path_step == pytest.approx(q @ told.path_step)
        assert turned.covariance.matrix == pytest.approx(q @ told.covariance.matrix @ q.T)


def test_equal_returns_pull_alike(tell_noise):
    """The order of equal candidates is chance: swapping them must change nothing."""
    where, strategy = problem(3, 8), CMAES()
    state = strategy.init(where)
    normals = np.random.default_rng(1).normal(size=(8, 3))
    fitness = np.array([2.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0])
    swapped = normals[[0, 3, 2, 1, 6, 5, 4, 7]]
    one = tell_noise(strategy, where, state, normals, fitness)
    other = tell_noise(strategy, where, state, swapped, fitness)
    assert one.mean == pytest.approx(other.mean)
    assert one.covariance.matrix == pytest.approx(other.covariance.matrix)


def test_failed_candidates_count_as_absent(tell_noise):
    """If wrong: a candidate that failed pulls the mean, or shifts the others' weights."""
    normals = np.random.default_rng(1).normal(size=(9, 3))
    fitness = np.array([1.0, 5.0, np.nan, 3.0, 4.0, -1.0, 0.0, 2.0, 7.0])
    kept = ~np.isnan(fitness)
    for covariance in ("full", "separable"):
        strategy = CMAES(covariance=covariance)
        where = problem(3, 9)
        state = strategy.init(where)
        one = tell_noise(strategy, where, state, normals, fitness)
        other = tell_noise(strategy, where, state, normals[kept], fitness[kept])
        assert one.mean == pytest.approx(other.mean)
        assert one.covariance.matrix == pytest.approx(other.covariance.matrix)


def test_a_limited_update_is_that_of_the_paper():
    """Algorithm 1 of LM-MA-ES, line by line, beside ours for 20 generations."""
    d, n = 30, 14
    where, strategy = problem(d, n), CMAES(covariance="limited", initial_std=0.7)
    state = strategy.init(where)
    count, mu = 4 + int(3 * math.log(d)), n // 2
    raw = np.log(mu + 0.5) - np.log(np.arange(1, mu + 1))
    w = raw / raw.sum()
    mu_w = 1 / np.sum(w**2)
    c_s = min(1.0, 2 * n / d)
    c_d = [1 / (1.5**i * d) for i in range(count)]
    c_c = [min(1.0, n / (4.0**i * d)) for i in range(count)]
    y, sigma, p, m = np.linspace(1.0, 2.0, d), 0.7, np.zeros(d), np.zeros((count, d))
    for t in range(20):
        asked = strategy.ask(where, state)
        z, drawn = asked.distribution.noise(np.arange(n)), asked.distribution.draw(np.arange(n))
        steps = z.copy()
        for i in range(n):
            for j in range(min(t, count)):
                steps[i] = (1 - c_d[j]) * steps[i] + c_d[j] * m[j] * (m[j] @ steps[i])
        assert drawn == pytest.approx(y + sigma * steps, rel=1e-10)
        fitness = ellipsoid(drawn)
        best = np.argsort(-fitness)[:mu]
        y = y + sigma * w @ steps[best]
        p = (1 - c_s) * p + math.sqrt(mu_w * c_s * (2 - c_s)) * w @ z[best]
        for i in range(count):
            pull = math.sqrt(mu_w * c_c[i] * (2 - c_c[i])) * w @ z[best]
            m[i] = (1 - c_c[i]) * m[i] + pull
        sigma *= math.exp(min(1.0, c_s / 2 * (p @ p / d - 1)))
        state = strategy.tell(where, state, asked, episodes_of(fitness))
        assert state.mean == pytest.approx(y, rel=1e-10)
        assert state.step_size == pytest.approx(sigma, rel=1e-10)
        assert state.covariance.directions == pytest.approx(m, rel=1e-9, abs=1e-10)


@pytest.mark.parametrize(
    ("covariance", "generations"), [("full", 150), ("separable", 150), ("limited", 400)]
)
def test_it_solves_an_ellipsoid(covariance, generations):
    """Condition 100, from 20 seeds; separable, as this ellipsoid is."""

    def objective(points, seeds):
        return ellipsoid(points)

    for seed in range(20):
        where = FunctionProblem(objective, np.zeros(5), population_size=None, seed=seed)
        strategy = CMAES(covariance=covariance)
        done = search(strategy, where, generations)
        assert ellipsoid(done[-1].after.mean[None])[0] > -1e-6, seed


def test_stops():
    where, strategy = problem(3, 8), CMAES()
    state = strategy.init(where)
    assert strategy.stop(state) is None
    assert "shrunk" in strategy.stop(replace(state, step_size=1e-13))
    flat = FullCovariance.decompose(np.diag([1.0, 1.0, 1e-15]), np.zeros(3))
    assert "condition" in strategy.stop(replace(state, covariance=flat))


@pytest.mark.parametrize("covariance", ["full", "separable", "limited"])
def test_bounds_hold_and_are_reached(covariance):
    """The best of a sphere at (1, ..., 1) within [-1, 0.5] is the corner (0.5, ..., 0.5).

    If wrong: a candidate lies outside, or the search cannot come to a bound.
    """
    where = FunctionProblem(sphere, np.zeros(4), population_size=None)
    strategy = CMAES(covariance=covariance, bounds=(-1.0, 0.5), initial_std=0.5)
    done = search(strategy, where, 150)
    drawn = np.concatenate([generation.parameters for generation in done])
    assert drawn.min() >= -1.0
    assert drawn.max() <= 0.5
    found = draw_solution(where, strategy.solution(where, done[-1].after))
    assert found == pytest.approx(0.5 * np.ones((1, 4)), abs=1e-3)


def rastrigin(points, seeds):
    x = points - 0.3
    return -np.sum(x**2 + 10 * (1 - np.cos(2 * np.pi * x)), axis=1)


@pytest.mark.parametrize(("restarts", "least"), [("none", 0), ("ipop", 4), ("bipop", 4)])
def test_restarts_find_the_best_of_many_optima(restarts, least):
    """Rastrigin in three dimensions from six seeds: four of them within 8,000 evaluations,
    without restarts none.

    If wrong: attempts begin where the last one ended, never grow, or a worse one is deployed.
    """
    solved = 0
    for seed in range(6):
        where = FunctionProblem(rastrigin, np.full(3, 3.0), seed=seed)
        strategy = CMAES(restarts=restarts, stops="all", initial_std=2.0)
        state = strategy.init(where)
        evaluations = 0
        while evaluations < 8_000 and strategy.stop(state) is None:
            asked = strategy.ask(where, state)
            state = strategy.tell(where, state, asked, where.evaluate(asked))
            evaluations += asked.size
        solved += rastrigin(draw_solution(where, strategy.solution(where, state)), None)[0] > -0.1
    assert solved >= least
    assert restarts != "none" or solved <= 1


def test_restarts_go_on_from_a_saved_state():
    """If wrong: a resumed run begins its attempts elsewhere, or counts them from 0."""
    where = FunctionProblem(rastrigin, np.full(3, 3.0))
    strategy = CMAES(restarts="bipop", stops="all", tolerance=0.1)
    whole = search(strategy, where, 200)
    assert whole[-1].after.attempt.number > 3
    rest = search(strategy, where, 200, resumed=(100, loads(dumps(whole[99].after))))
    assert dumps(rest[-1].after) == dumps(whole[-1].after)


def test_attempts_follow_the_papers():
    """IPOP doubles; BIPOP compares what large and small attempts have spent."""
    mean = np.zeros(2)
    first = replace(Attempt(10, 2.0, mean, mean), evaluations=1000)
    second = first.follow_ipop()
    assert (second.population, second.start_step) == (20, 2.0)
    assert second.follow_ipop().population == 40

    large = first.follow_bipop(10, 2.0, (0.5, 0.5))
    assert (large.population, large.spent_large, large.limit) == (20, 1000, 0)
    small = replace(large, evaluations=3000).follow_bipop(10, 2.0, (0.5, 0.5))
    assert (small.population, small.start_step, small.limit) == (10, pytest.approx(0.2), 2000)
    again = replace(small, evaluations=3999).follow_bipop(10, 2.0, (0.5, 0.5))
    assert (again.spent_small, again.limit) == (3999, 2000)
    larger = replace(again, evaluations=1).follow_bipop(10, 2.0, (0.5, 0.5))
    assert (larger.population, larger.limit, larger.spent_small) == (40, 0, 4000)
    small = replace(larger, evaluations=1).follow_bipop(10, 2.0, (0.9, 0.25))
    assert small.population == math.floor(10 * 2 ** (0.9**2))
    assert small.start_step == pytest.approx(2.0 * 10**-0.5)


def test_the_best_scored_mean_is_deployed():
    """Also while a later attempt is behind; a candidate's luck counts for nothing."""
    where, strategy = problem(2, 8), CMAES(restarts="ipop")
    state = strategy.init(where)
    old, new = np.array([5.0, 6.0]), np.array([1.0, 2.0])
    ended = state.attempt.count(old, np.array([1.0, np.nan, 3.0, 2.0]))
    begun = ended.follow_ipop()
    for fitness, deployed in (([1.9, 2.0, 9.0, -9.0], old), ([2.1, 2.1, 2.1, 2.1], new)):
        told = replace(state, mean=new, attempt=begun.count(new, np.array(fitness)))
        assert np.array_equal(draw_solution(where, strategy.solution(where, told))[0], deployed)


def test_returns_end_a_search_only_where_they_are_exact():
    """If wrong: a policy at the greatest return ends the search, or a flat function never does."""

    def flat(points, seeds):
        return np.full(len(points), 200.0)

    exact = FunctionTask(lambda points: -np.sum(points**2, axis=1), 2, vectorised=True)
    where = FunctionProblem(flat, np.ones(2), population_size=8)
    assert not CMAES()._judges_returns(where)
    assert CMAES(stops="all")._judges_returns(where)
    assert CMAES()._judges_returns(cast("Problem", SimpleNamespace(task=exact)))
    assert CMAES().stop(search(CMAES(), where, 30)[-1].after) is None
    told = search(CMAES(stops="all"), where, 30)[-1].after
    assert CMAES(stops="all").stop(told) == "returns have differed by less than 1e-11"
    shrunk = replace(told, step_size=1e-300)
    assert "shrunk" in CMAES(stops="steps").stop(shrunk)
    assert CMAES(stops="none").stop(shrunk) is None


def test_stagnation():
    """Returns that rise a little do not stagnate; noise about one value does."""
    noise = np.random.default_rng(0).normal(size=(400, 3))
    assert "not risen" in stagnation.find_end(noise - np.arange(400)[:, None], 3, 10)
    assert stagnation.find_end(noise + np.arange(400)[:, None], 3, 10) is None
    assert stagnation.find_end(noise[:140], 3, 10) is None


@pytest.mark.parametrize(
    ("strategy", "size", "said"),
    [
        (
            CMAES(restarts="ipop", stops="none"),
            8,
            "strategy.restarts ipop never happen with strategy.stops none",
        ),
        (
            CMAES(adapt_rates=True, covariance="limited"),
            8,
            "strategy.adapt_rates needs a full covariance, not a limited one",
        ),
        (CMAES(bounds=(2.0, 1.0)), 8, "strategy.bounds 2, 1 cross: give the lower one first"),
        (CMAES(bounds=(-1.0, 1.5)), 8, "the start has parameters from 1 to 2: strategy.bounds"),
        (CMAES(), 3, "a population of 3 is too small for cmaes: give at least 4"),
    ],
)
def test_what_cannot_work_is_refused(strategy, size, said):
    with pytest.raises(UsageError, match=said):
        strategy.check(problem(3, size))


def test_a_matrix_that_does_not_fit_is_refused(monkeypatch):
    """If wrong: the run ends by the system's hand instead of one sentence."""
    monkeypatch.setattr("distes.strategies.parts.memory.find_memory", lambda: 16 * 2**30)
    where = FunctionProblem(sphere, np.zeros(100_000), population_size=16)
    said = (
        "a full covariance of 100,000 parameters needs about 596 GiB of memory, and there are "
        "16: give strategy.covariance separable or limited"
    )
    with pytest.raises(UsageError, match=said):
        CMAES().check(where)
    CMAES(covariance="separable").check(where)
    CMAES(covariance="limited").check(where)
    CMAES().check(FunctionProblem(sphere, np.zeros(10_000), population_size=16))
    monkeypatch.setattr("distes.strategies.parts.memory.find_memory", lambda: None)
    CMAES().check(where)  # what is not known is not refused


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    """If wrong: in a container the machine's memory is taken for its own."""
    limit, word = tmp_path / "limit", tmp_path / "word"
    limit.write_text("1048576\n")
    word.write_text("max\n")
    monkeypatch.setattr(memory, "CONTAINER_LIMITS", (word, tmp_path / "nothing"))
    machine = memory.find_memory()
    monkeypatch.setattr(memory, "CONTAINER_LIMITS", (word, limit))
    assert memory.find_memory() == 1048576 < machine
