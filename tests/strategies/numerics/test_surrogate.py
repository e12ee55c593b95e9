"""Quadratic models: exact recovery, few samples, noise, equivariance, concavity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distes.strategies.numerics.surrogate import cut_convex_part, fit_ridge, fit_surrogate


def samples(seed=0, d=4, k=2, count=120):
    generator = np.random.default_rng(seed)
    contexts = generator.uniform(-1, 1, (count, k))
    features = np.column_stack([np.ones(count), contexts])
    products = [contexts[:, [i]] * contexts[:, [j]] for i in range(k) for j in range(i + 1)]
    return generator.normal(size=(count, d)), features, np.hstack([features, *products])


def truth(seed=1, d=4, p=3):
    generator = np.random.default_rng(seed)
    factor = generator.normal(size=(d, d))
    return -factor @ factor.T, generator.normal(size=(p, d))


def values(whitened, features, quadratic, linear):
    curved = np.einsum("ni,ij,nj->n", whitened, quadratic, whitened)
    return curved + ((features @ linear) * whitened).sum(axis=1)


@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_quadratic_is_found_exactly(k):
    """Cross terms are halved, contexts' own value is separated; returns far from zero."""
    whitened, features, baseline = samples(k=k)
    quadratic, linear = truth(p=1 + k)
    returns = values(whitened, features, quadratic, linear)
    returns = returns + 1e3 * baseline.sum(axis=1)
    found = fit_surrogate(whitened, features, baseline, returns, np.ones(120))
    assert found.quadratic == pytest.approx(quadratic, abs=1e-6)
    assert found.linear == pytest.approx(linear, abs=1e-6)
    assert found.r2 == pytest.approx(1.0, abs=1e-8)


def test_cross_terms_by_hand():
    """2xy + 3x − 5y² is [[0, 1], [1, −5]], whose cut at 0 is checked by its eigenvalues."""
    generator = np.random.default_rng(0)
    z = generator.normal(size=(50, 2))
    ones = np.ones((50, 1))
    returns = -5 * z[:, 0] ** 2 + 2 * z[:, 0] * z[:, 1] - z[:, 1] ** 2 + 3 * z[:, 0]
    found = fit_surrogate(z, ones, ones, returns, np.ones(50))
    assert found.quadratic == pytest.approx(np.array([[-5.0, 1.0], [1.0, -1.0]]), abs=1e-7)
    assert found.linear == pytest.approx(np.array([[3.0, 0.0]]), abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(2, 40), st.floats(0, 2))
def test_any_samples_give_a_concave_finite_model(seed, d, count, noise):
    """Fewer samples than unknowns included."""
    generator = np.random.default_rng(seed)
    whitened, features, baseline = samples(seed % 1000, d, 1, count)
    returns = noise * generator.normal(size=count) + whitened[:, 0] ** 3
    found = fit_surrogate(whitened, features, baseline, returns, generator.random(count) + 0.01)
    if found is None:
        return
    for each in (found.quadratic, found.linear, found.r2, found.penalty):
        assert np.isfinite(each).all()
    assert np.linalg.eigvalsh(found.quadratic).max() <= 1e-9 * np.abs(found.quadratic).max()
    assert found.r2 <= 1


def test_few_samples_still_tell_the_slope():
    """60 samples, 231 terms: what is learnt points uphill and predicts."""
    generator = np.random.default_rng(0)
    z, ones = generator.normal(size=(60, 20)), np.ones((60, 1))
    slope = generator.normal(size=20)
    found = fit_surrogate(z, ones, ones, z @ slope - 0.05 * (z**2).sum(axis=1), np.ones(60))
    cosine = found.linear[0] @ slope / np.linalg.norm(found.linear) / np.linalg.norm(slope)
    assert cosine > 0.9
    assert 0 < found.r2 < 1


def test_noise_alone_is_not_believed():
    """Over 20 draws the predictive share is not above zero in the mean, and penalties are high."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(20):
        z, ones = generator.normal(size=(100, 5)), np.ones((100, 1))
        found.append(fit_surrogate(z, ones, ones, generator.normal(size=100), np.ones(100)))
    assert np.mean([each.r2 for each in found]) < 0.05
    assert np.median([each.penalty for each in found]) > 0.3


@pytest.mark.parametrize("value", [0.0, 200.0, -1e9, 1e-300])
def test_constant_returns_give_none(value):
    whitened, features, baseline = samples()
    assert fit_surrogate(whitened, features, baseline, np.full(120, value), np.ones(120)) is None


def test_returns_that_contexts_explain_give_none():
    whitened, features, baseline = samples()
    returns = baseline @ np.arange(baseline.shape[1])
    assert fit_surrogate(whitened, features, baseline, returns, np.ones(120)) is None


def test_scale_and_shift_of_the_return():
    whitened, features, baseline = samples()
    returns = np.sin(whitened).sum(axis=1) - (whitened**2).sum(axis=1)
    plain = fit_surrogate(whitened, features, baseline, returns, np.ones(120))
    other = fit_surrogate(whitened, features, baseline, 1e7 * returns - 5e7, np.ones(120))
    assert other.quadratic == pytest.approx(1e7 * plain.quadratic)
    assert other.linear == pytest.approx(1e7 * plain.linear)
    assert other.r2 == pytest.approx(plain.r2)


def test_turning_turns_along():
    """The penalty has no preferred axes."""
    whitened, features, baseline = samples(count=30)
    returns = np.sin(whitened).sum(axis=1) - (whitened**2).sum(axis=1)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    plain = fit_surrogate(whitened, features, baseline, returns, np.ones(30))
    turned = fit_surrogate(whitened @ turn.T, features, baseline, returns, np.ones(30))
    assert plain.penalty > 1e-9
    assert turned.quadratic == pytest.approx(turn @ plain.quadratic @ turn.T)
    assert turned.linear == pytest.approx(plain.linear @ turn.T)


def test_units_of_the_context_do_not_matter():
    whitened, features, baseline = samples(count=30)
    returns = np.sin(whitened).sum(axis=1) * features[:, 1]
    change = np.array([[1.0, 3.0, 0.0], [0.0, 40.0, 2.0], [0.0, 0.0, 0.01]])
    plain = fit_surrogate(whitened, features, baseline, returns, np.ones(30))
    other = fit_surrogate(whitened, features @ change, baseline, returns, np.ones(30))
    assert (features @ change) @ other.linear == pytest.approx(features @ plain.linear)
    assert other.quadratic == pytest.approx(plain.quadratic)


def test_weights_stand_for_repeated_samples():
    """Where the penalty is next to nothing, a weight of 3 is a sample that is there thrice."""
    whitened, features, baseline = samples(count=80)
    generator = np.random.default_rng(0)
    returns = values(whitened, features, *truth()) + 1e-3 * generator.normal(size=80)
    times = generator.integers(1, 4, 80)

    def repeat(rows):
        return np.repeat(rows, times, axis=0)

    found = fit_surrogate(whitened, features, baseline, returns, times.astype(float))
    whole = fit_surrogate(
        *(repeat(x) for x in (whitened, features, baseline, returns)), np.ones(sum(times))
    )
    assert found.quadratic == pytest.approx(whole.quadratic, abs=1e-4)
    assert found.linear == pytest.approx(whole.linear, abs=1e-4)


def test_leaving_out_is_leaving_out():
    """r2 of the formula equals that of 40 regressions, each without one sample."""
    generator = np.random.default_rng(0)
    columns, free = generator.normal(size=(40, 6)), np.ones((40, 1))
    targets = columns @ generator.normal(size=6) + generator.normal(size=40)
    found = fit_ridge(columns, free, targets, np.ones(40))
    errors, plain = [], []
    for i in range(40):
        rest = np.arange(40) != i
        design = np.hstack([free, columns])[rest]
        penalty = 40 * found.penalty * np.diag([0.0, *np.ones(6)])
        solved = np.linalg.solve(design.T @ design + penalty, design.T @ targets[rest])
        errors.append(targets[i] - np.hstack([free, columns])[i] @ solved)
        plain.append(targets[i] - targets[rest].mean())
    assert found.r2 == pytest.approx(1 - np.sum(np.square(errors)) / np.sum(np.square(plain)))


def test_the_concave_part_is_the_nearest():
    matrix = np.array([[1.0, 2.0], [2.0, -3.0]])
    cut = cut_convex_part(matrix)
    assert np.linalg.eigvalsh(cut).max() <= 1e-12
    positive = matrix - cut
    assert np.linalg.eigvalsh(positive).min() >= -1e-12
    assert np.trace(positive @ cut) == pytest.approx(0.0, abs=1e-12)
