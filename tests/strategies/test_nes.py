"""SNES and xNES: golden utilities, the matrix exponential, equivariance, convergence."""

from dataclasses import replace

import numpy as np
import pytest

from distes.errors import UsageError
from distes.strategies.numerics.shaping import centred_ranks, nes_utilities, ranks
from distes.strategies.snes import SNES
from distes.strategies.xnes import XNES, exponential
from distes.testing.problems import FunctionProblem, search, sphere

GENERATOR = np.random.default_rng(4)
D, N = 5, 12


def problem(d=D, n=N, **changes):
    return FunctionProblem(sphere, np.linspace(1.0, 2.0, d), population_size=n, **changes)


def test_utilities():
    """Golden numbers for λ = 8, from independent code."""
    golden = [0.3687383775, 0.1560968325, 0.0317095026, -0.0565447125, *[-0.125] * 4]
    assert nes_utilities(-np.arange(8.0)) == pytest.approx(golden, abs=1e-10)


def test_failed_candidates_have_no_utility():
    fitness = np.array([3.0, np.nan, 1.0, 2.0, np.nan])
    shaped = nes_utilities(fitness)
    assert shaped[[1, 4]].tolist() == [0, 0]
    assert shaped[[0, 3, 2]] == pytest.approx(nes_utilities(np.array([3.0, 2.0, 1.0])))
    assert centred_ranks(fitness) == pytest.approx([0.5, 0, -0.5, 0, 0])


def test_equal_returns_share():
    assert nes_utilities(np.full(6, 200.0)) == pytest.approx(np.zeros(6), abs=1e-15)
    assert centred_ranks(np.array([1.0, 1.0, 0.0])) == pytest.approx([0.25, 0.25, -0.5])
    assert ranks(np.array([5.0, 5.0, 9.0])).tolist() == [2.5, 2.5, 1.0]


def test_the_exponential_is_the_matrix_one():
    matrix = GENERATOR.normal(size=(4, 4))
    matrix = matrix + matrix.T
    series = term = np.eye(4)
    for k in range(1, 60):
        term = term @ matrix / k
        series = series + term
    assert exponential(matrix) == pytest.approx(series, rel=1e-10)


def test_one_snes_update_by_hand(tell_noise):
    """Two parameters, four candidates, from the papers' formulas."""
    where, strategy = problem(2, 4), SNES(std_rate=0.3)
    state = replace(strategy.init(where), std=np.array([2.0, 0.5]))
    normals = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0], [0.5, -0.5]])
    told = tell_noise(strategy, where, state, normals, [4.0, 3.0, 2.0, 1.0])
    raw = np.maximum(0, np.log(3) - np.log([1, 2, 3, 4]))
    u = raw / raw.sum() - 0.25
    assert told.mean == pytest.approx(state.mean + state.std * (u @ normals))
    assert told.std == pytest.approx(state.std * np.exp(0.15 * (u @ (normals**2 - 1))))


def test_one_snes_update_does_not_depend_on_the_frame(tell_noise):
    """Moved and scaled samples have the same normals; returns go through a monotone function."""
    where, strategy = problem(), SNES()
    state = strategy.init(where)
    normals, fitness = GENERATOR.normal(size=(N, D)), GENERATOR.normal(size=N)
    told = tell_noise(strategy, where, state, normals, fitness)

    shaped = tell_noise(strategy, where, state, normals, np.exp(3 * fitness))
    assert np.array_equal(shaped.mean, told.mean)
    assert np.array_equal(shaped.std, told.std)

    moved = replace(state, mean=state.mean + 7)
    assert tell_noise(strategy, where, moved, normals, fitness).mean == pytest.approx(told.mean + 7)

    scale = np.linspace(0.5, 3.0, D)
    wide = replace(state, mean=scale * state.mean, std=scale * state.std)
    wide = tell_noise(strategy, where, wide, normals, fitness)
    assert wide.mean == pytest.approx(scale * told.mean)
    assert wide.std == pytest.approx(scale * told.std)


def test_one_xnes_update_does_not_depend_on_the_frame(tell):
    """Moved, scaled and turned samples, and returns through a monotone function."""
    where, strategy = problem(), XNES()
    state = strategy.init(where)
    points, fitness = state.mean + GENERATOR.normal(size=(N, D)), GENERATOR.normal(size=N)
    told = tell(strategy, where, state, points, fitness)

    shaped = tell(strategy, where, state, points, np.exp(3 * fitness))
    assert np.array_equal(shaped.mean, told.mean)
    assert np.array_equal(shaped.factor, told.factor)

    moved = tell(strategy, where, replace(state, mean=state.mean + 7), points + 7, fitness)
    assert moved.mean == pytest.approx(told.mean + 7)

    wide = replace(state, mean=3 * state.mean, factor=3 * state.factor)
    wide = tell(strategy, where, wide, 3 * points, fitness)
    assert wide.mean == pytest.approx(3 * told.mean)
    assert wide.factor == pytest.approx(3 * told.factor)

    q = np.linalg.qr(GENERATOR.normal(size=(D, D)))[0]
    turned = replace(state, mean=q @ state.mean, factor=q @ state.factor)
    turned = tell(strategy, where, turned, points @ q.T, fitness)
    assert turned.mean == pytest.approx(q @ told.mean)
    covariance = told.factor @ told.factor.T
    assert turned.factor @ turned.factor.T == pytest.approx(q @ covariance @ q.T)


@pytest.mark.parametrize("strategy", [SNES(), XNES()], ids=["snes", "xnes"])
def test_it_solves_a_sphere(strategy):
    """From 20 seeds, within 200 generations of the default population."""
    for seed in range(20):
        where = FunctionProblem(sphere, np.full(4, 2.0), population_size=None, seed=seed)
        done = search(strategy, where, 200)
        assert np.abs(done[-1].after.mean - 1).max() < 1e-3, seed


def test_xnes_learns_what_snes_cannot(tell):
    """Correlated samples among the better ones show in the factor's off-diagonal."""
    where, strategy = problem(2, 40), XNES()
    state = strategy.init(where)
    points = state.mean + GENERATOR.normal(size=(40, 2))
    fitness = -np.abs(points @ np.array([1.0, -1.0]) - (state.mean[0] - state.mean[1]))
    told = tell(strategy, where, state, points, fitness)
    covariance = told.factor @ told.factor.T
    assert covariance[0, 1] > 0.05


@pytest.mark.parametrize("strategy", [SNES(), XNES()], ids=["snes", "xnes"])
def test_a_small_population_is_refused(strategy):
    with pytest.raises(UsageError, match=r"of 3 is too small for .nes: give at least 4"):
        strategy.check(problem(n=3))
