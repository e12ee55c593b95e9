"""Weighted moments and covariance repairs, against numpy and by definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distes.strategies.numerics import moments


def sample(seed, n=30, d=3):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((n, d)) * 3 + 5, generator.integers(1, 6, n)


@pytest.mark.parametrize("ddof", [0, 1])
def test_integer_weights_repeat_rows_where_ddof_is_zero(ddof):
    """A weight of 3 is a row three times; numpy's aweights has the same correction."""
    rows, weights = sample(0)
    expected = np.cov(rows.T, aweights=weights, ddof=ddof)
    mean, covariance = moments.mean_and_covariance(rows, weights.astype(float), ddof)
    np.testing.assert_allclose(covariance, expected, rtol=1e-12)
    same_mean, variance = moments.mean_and_variance(rows, weights.astype(float), ddof)
    np.testing.assert_allclose(variance, np.diag(expected), rtol=1e-12)
    np.testing.assert_array_equal(mean, same_mean)
    if ddof == 0:
        repeated = np.repeat(rows, weights, axis=0)
        np.testing.assert_allclose(mean, repeated.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(variance, repeated.var(axis=0), rtol=1e-12)


def test_effective_size():
    """Equal weights count each; one weight counts one; (1, 1, 2) is 16/6."""
    assert moments.effective_size(np.full(7, 0.3)) == pytest.approx(7)
    assert moments.effective_size(np.array([0.0, 5.0, 0.0])) == 1
    assert moments.effective_size(np.array([1.0, 1.0, 2.0])) == pytest.approx(16 / 6)


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 8))
def test_symmetric_root_of_any_rank(seed, d, rank):
    """It squares to the matrix, singular ones included, and is symmetric."""
    factor = np.random.default_rng(seed).standard_normal((d, rank))
    covariance = factor @ factor.T
    root = moments.symmetric_root(covariance)
    np.testing.assert_allclose(root @ root, covariance, atol=1e-6)
    np.testing.assert_allclose(root, root.T, atol=1e-9)
    assert np.linalg.eigvalsh(root).min() > -1e-6


def test_floor_raises_thin_directions_alone():
    """Eigenvalues 4 and 0.01 along the diagonals: 0.01 becomes 0.25, directions stay."""
    turn = np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
    covariance = turn @ np.diag([0.01, 4.0]) @ turn.T
    expected = turn @ np.diag([0.25, 4.0]) @ turn.T
    np.testing.assert_allclose(moments.floor_variance(covariance, 0.25), expected, atol=1e-14)
    assert moments.floor_variance(covariance, 0.001) is covariance
    assert moments.floor_variance(covariance, 0.0) is covariance


def test_shrinkage_scales_correlations():
    """Variances stay at any share; all of it leaves the diagonal."""
    covariance = np.array([[4.0, 2.0], [2.0, 9.0]])
    np.testing.assert_allclose(moments.shrink_to_diagonal(covariance, 0.25), [[4, 1.5], [1.5, 9]])
    np.testing.assert_array_equal(moments.shrink_to_diagonal(covariance, 1.0), np.diag([4.0, 9.0]))
