"""The dual behind REPS and HiREPS: its derivatives, and what is kept of the returns."""

import numpy as np
import pytest

from distes.strategies.numerics.dual import Dual, standardise


def differences(function, at, step=1e-3):
    """Slopes of a function of a vector, by a five-point rule with an error of step⁴."""
    slopes = []
    for j in range(len(at)):
        unit = step * np.eye(len(at))[j]
        near = function(at + unit) - function(at - unit)
        far = function(at + 2 * unit) - function(at - 2 * unit)
        slopes.append((8 * near - far) / (12 * step))
    return np.array(slopes)


def dual(seed, count=80, width=3):
    generator = np.random.default_rng(seed)
    prior = generator.random(count)
    return Dual(
        rest=generator.normal(size=count),
        columns=generator.normal(size=(count, width)),
        prior=prior / prior.sum(),
        targets=0.1 * generator.normal(size=width),
        epsilon=0.4,
    )


@pytest.mark.parametrize("seed", range(5))
def test_derivatives(seed):
    case = dual(seed)
    at = np.array([1.5, *0.5 * np.random.default_rng(seed + 100).normal(size=3)])
    point = case(at[0], at[1:])
    slopes = differences(lambda x: case(x[0], x[1:]).value, at)
    assert point.gradient == pytest.approx(slopes, abs=1e-8)
    curvature = differences(lambda x: case(x[0], x[1:]).gradient, at)
    assert point.hessian == pytest.approx(curvature, abs=1e-8)
    assert np.linalg.eigvalsh(point.hessian).min() > -1e-12


@pytest.mark.parametrize("seed", range(5))
def test_the_minimum_meets_targets_and_bound(seed):
    case = dual(seed)
    found = case.minimise()
    assert np.abs(found.gradient).max() < 1e-10
    assert found.weights @ case.columns == pytest.approx(case.targets, abs=1e-10)
    assert found.kl == pytest.approx(0.4, abs=1e-10)
    assert found.kl <= 0.4


@pytest.mark.parametrize("epsilon", [1e-3, 3.0, 30.0])
def test_narrow_and_wide_bounds(epsilon):
    generator = np.random.default_rng(0)
    count = 40
    columns = generator.normal(size=(count, 2))
    case = Dual(
        rest=generator.normal(size=count),
        columns=columns - columns.mean(axis=0),
        prior=np.full(count, 1 / count),
        targets=np.array([0.01, -0.01]) * min(1, epsilon / 0.01),
        epsilon=epsilon,
    )
    found = case.minimise()
    assert np.isfinite(found.weights).all()
    assert found.kl <= epsilon
    assert found.weights @ case.columns == pytest.approx(case.targets, abs=0.05)


def test_standardised_parts_make_the_returns():
    generator = np.random.default_rng(4)
    features = np.column_stack([np.ones(30), generator.normal(5.0, 3.0, (30, 2))])
    returns = 100 + features @ [0.0, 2.0, -1.0] + generator.normal(size=30)
    prior = generator.random(30)
    prior /= prior.sum()
    parts = standardise(returns, features, prior)
    centred = features - prior @ features
    whole = parts.mean + centred @ parts.explained + parts.unit * parts.rest
    assert whole == pytest.approx(returns, rel=1e-12)
    assert prior @ parts.rest**2 == pytest.approx(1.0)
    assert parts.white.T @ (prior * parts.rest) == pytest.approx(np.zeros(2), abs=1e-12)
    assert (parts.white.T * prior) @ parts.white == pytest.approx(np.eye(2), abs=1e-12)
    assert centred @ parts.unwhiten == pytest.approx(parts.white, abs=1e-12)
