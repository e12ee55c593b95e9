"""Weighted refits of linear Gaussians: golden numbers, bounds, reductions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distes.strategies.numerics import gaussians
from distes.strategies.numerics.regression import Fit, fit_constrained, fit_weighted
from distes.strategies.numerics.reps import weigh_samples

ONES = np.ones((5, 1))


def test_golden_a():
    """The refit of golden A: mean, variance by each normaliser, from independent code."""
    parameters = np.array([[-1.0], [0.5], [0.0], [1.5], [2.0]])
    weights = weigh_samples(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), 0.5).weights
    old = np.zeros((1, 1))
    plain = fit_weighted(ONES, parameters, weights, old, normaliser="none")
    assert plain.coefficients[0, 0] == pytest.approx(1.5431539541, abs=1e-9)
    assert plain.covariance[0, 0] == pytest.approx(0.5424831672, abs=1e-9)
    standard = fit_weighted(ONES, parameters, weights, old, normaliser="standard")
    assert standard.covariance[0, 0] == pytest.approx(0.9287892720, abs=1e-9)
    assert plain.covariance[0, 0] / standard.covariance[0, 0] == pytest.approx(
        0.5840756171, abs=1e-9
    )
    # For a mean alone both corrections are the same.
    regression = fit_weighted(ONES, parameters, weights, old, normaliser="regression")
    assert regression.covariance == pytest.approx(standard.covariance)


@pytest.mark.slow
def test_the_regression_normaliser_is_unbiased():
    """Mean over many regressions with fixed weights, known covariance."""
    generator = np.random.default_rng(0)
    features = np.column_stack([np.ones(25), generator.normal(size=(25, 3))])
    weights = generator.random(25)
    weights /= weights.sum()
    truth = np.array([[2.0, 0.5], [0.5, 1.0]])
    factor = np.linalg.cholesky(truth)
    fits = [
        fit_weighted(
            features,
            features @ np.ones((4, 2)) + generator.normal(size=(25, 2)) @ factor.T,
            weights,
            np.zeros((4, 2)),
            normaliser="regression",
        ).covariance
        for _ in range(4000)
    ]
    error = np.std(fits, axis=0) / np.sqrt(len(fits))
    assert (np.abs(np.mean(fits, axis=0) - truth) < 4 * error).all()


def test_exact_data_give_exact_coefficients():
    generator = np.random.default_rng(1)
    features = np.column_stack([np.ones(30), generator.normal(100.0, 1.0, 30)])
    truth = np.array([[1.0, -2.0], [3.0, 0.5]])
    weights = np.full(30, 1 / 30)
    fit = fit_weighted(features, features @ truth, weights, np.zeros((2, 2)))
    assert fit.coefficients == pytest.approx(truth, abs=1e-8)
    assert np.abs(fit.covariance).max() < 1e-15


def test_what_the_samples_leave_open_stays():
    """A feature that is always 0 keeps its old coefficients."""
    generator = np.random.default_rng(2)
    features = np.column_stack([np.ones(20), np.zeros(20)])
    old = np.array([[0.0], [7.0]])
    fit = fit_weighted(features, generator.normal(size=(20, 1)), np.full(20, 0.05), old)
    assert fit.coefficients[1, 0] == 7.0


def case(seed, size=3, columns=3, count=60):
    generator = np.random.default_rng(seed)
    features = np.column_stack([np.ones(count), generator.normal(size=(count, columns - 1))])
    old = generator.normal(size=(columns, size))
    factor = np.tril(generator.normal(size=(size, size))) + 2 * np.eye(size)
    covariance = factor @ factor.T
    parameters = features @ old + generator.normal(size=(count, size)) @ factor.T
    weights = generator.random(count) ** 6
    return features, parameters, weights / weights.sum(), old, covariance


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 5),
    st.integers(1, 4),
    st.floats(0.001, 3.0),
    st.one_of(st.none(), st.floats(0.0, 2.0)),
    st.booleans(),
)
def test_constrained_fits_keep_their_bounds(seed, size, columns, epsilon, loss, diagonal):
    features, parameters, weights, old, covariance = case(seed, size, columns)
    if diagonal:
        covariance = np.diag(np.diag(covariance))
    fit = fit_constrained(
        features,
        parameters,
        weights,
        Fit(old, covariance),
        epsilon=epsilon,
        entropy_loss=loss,
        diagonal=diagonal,
    )
    moved = gaussians.kl(features @ old, covariance, features @ fit.coefficients, fit.covariance)
    assert moved <= epsilon * (1 + 1e-7) + 1e-9
    assert np.linalg.eigvalsh(fit.covariance).min() > 0
    assert not diagonal or np.array_equal(fit.covariance, np.diag(np.diag(fit.covariance)))
    if loss is not None:
        fall = gaussians.entropy(covariance) - gaussians.entropy(fit.covariance)
        assert fall <= loss + 1e-7


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_is_used_up(seed):
    """Where plain maximum likelihood goes further than the bound, the fit goes to the bound."""
    features, parameters, weights, old, covariance = case(seed)
    fit = fit_constrained(features, parameters, weights, Fit(old, covariance), epsilon=0.05)
    moved = gaussians.kl(features @ old, covariance, features @ fit.coefficients, fit.covariance)
    assert moved == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_without_need_it_is_maximum_likelihood(seed):
    features, parameters, weights, old, covariance = case(seed)
    plain = fit_weighted(features, parameters, weights, old, normaliser="none")
    fit = fit_constrained(features, parameters, weights, Fit(old, covariance), epsilon=1e6)
    assert fit.coefficients == pytest.approx(plain.coefficients, abs=1e-9)
    assert fit.covariance == pytest.approx(plain.covariance, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_stationary(seed):
    """No small change of the fit that keeps the divergence raises the weighted likelihood."""
    features, parameters, weights, old, covariance = case(seed, size=2, columns=2)
    fit = fit_constrained(features, parameters, weights, Fit(old, covariance), epsilon=0.1)

    def gradient(function):
        at = np.concatenate([fit.coefficients.ravel(), fit.covariance[np.tril_indices(2)]])
        out = []
        for j in range(len(at)):
            sides = []
            for sign in (1, -1):
                x = at.copy()
                x[j] += sign * 1e-5
                matrix = np.zeros((2, 2))
                matrix[np.tril_indices(2)] = x[4:]
                matrix = np.tril(matrix) + np.tril(matrix, -1).T
                sides.append(function(x[:4].reshape(2, 2), matrix))
            out.append((sides[0] - sides[1]) / 2e-5)
        return np.array(out)

    likelihood = gradient(
        lambda w, c: float(weights @ gaussians.log_density(parameters, features @ w, c))
    )
    moved = gradient(lambda w, c: gaussians.kl(features @ old, covariance, features @ w, c))
    cosine = likelihood @ moved / np.linalg.norm(likelihood) / np.linalg.norm(moved)
    assert cosine == pytest.approx(1.0, abs=1e-6)


def test_density_against_the_formula():
    covariance = np.array([[2.0, 0.3], [0.3, 1.0]])
    value, mean = np.array([[1.0, 2.0]]), np.array([[0.5, -1.0]])
    apart = (value - mean)[0]
    quadratic = apart @ np.linalg.inv(covariance) @ apart
    expected = -0.5 * (quadratic + np.log(np.linalg.det(covariance)) + 2 * np.log(2 * np.pi))
    assert gaussians.log_density(value, mean, covariance)[0] == pytest.approx(expected)


def test_divergence_by_sampling():
    """KL is the mean log ratio under the first Gaussian."""
    generator = np.random.default_rng(0)
    one, other = np.diag([1.0, 2.0]), np.array([[2.0, 0.5], [0.5, 1.0]])
    drawn = generator.normal(size=(400_000, 2)) * np.sqrt([1.0, 2.0])
    zeros, means = np.zeros((1, 2)), np.array([[0.3, -0.4]])
    ratio = gaussians.log_density(drawn, zeros, one) - gaussians.log_density(drawn, means, other)
    error = ratio.std() / np.sqrt(len(ratio))
    assert abs(gaussians.kl(zeros, one, means, other) - ratio.mean()) < 4 * error


@pytest.mark.parametrize("diagonal", [False, True])
def test_reach_stands_for_repeated_contexts(diagonal):
    """A context with twice the reach counts in the divergence as if it were there twice."""
    features, parameters, weights, old, covariance = case(8)
    if diagonal:
        covariance = np.diag(np.diag(covariance))
    times = np.random.default_rng(8).integers(1, 4, len(features))
    whole = fit_constrained(
        np.repeat(features, times, axis=0),
        np.repeat(parameters, times, axis=0),
        np.repeat(weights / times, times),
        Fit(old, covariance),
        epsilon=0.1,
        diagonal=diagonal,
    )
    reach = times / times.sum()
    fit = fit_constrained(
        features,
        parameters,
        weights,
        Fit(old, covariance),
        epsilon=0.1,
        diagonal=diagonal,
        reach=reach,
    )
    assert fit.coefficients == pytest.approx(whole.coefficients, abs=1e-9)
    assert fit.covariance == pytest.approx(whole.covariance, abs=1e-9)
    moved = gaussians.kl(
        features @ old, covariance, features @ fit.coefficients, fit.covariance, reach
    )
    assert moved == pytest.approx(0.1, rel=1e-6)
