"""Gaussian processes: predictions beside scikit-learn's, evidence, the same in any batch."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from distes.errors import UsageError
from distes.runs.codec import dumps, loads
from distes.strategies.numerics import gaussian_process as gp


def waves(count=40, noise=0.0, seed=0):
    generator = np.random.default_rng(seed)
    rows = generator.uniform(-2, 2, (count, 3))
    targets = np.column_stack([np.sin(2 * rows[:, 0]) + rows[:, 1], 5 - rows[:, 0] ** 2])
    return rows, targets + noise * generator.standard_normal(targets.shape)


def kernel_of(model, o):
    return ConstantKernel(model.signal_variance[o]) * RBF(model.length_scales[o]) + WhiteKernel(
        model.noise_variance[o]
    )


@pytest.fixture(scope="module")
def model():
    return gp.fit_processes(*waves(noise=0.05))


def test_predicts_as_scikit_learn_does(model):
    """Same hyper-parameters, same means and deviations."""
    rows, targets = waves(noise=0.05)
    new = np.random.default_rng(1).uniform(-4, 4, (30, 3))
    mean, variance = model.predict(new)
    for o in range(2):
        theirs = GaussianProcessRegressor(kernel_of(model, o), alpha=0.0, optimizer=None)
        theirs.fit(
            (rows - model.center) / model.spread,
            (targets[:, o] - model.target_center[o]) / model.target_spread[o],
        )
        center, std = theirs.predict((new - model.center) / model.spread, return_std=True)
        scale = model.target_spread[o]
        assert mean[:, o] == pytest.approx(model.target_center[o] + scale * center, rel=1e-6)
        exact = (scale * std) ** 2
        assert variance[:, o] == pytest.approx(exact, rel=1e-3)
        assert (variance[:, o] >= (1 - 1e-9) * exact).all(), "what is left out can only widen"


def test_the_evidence_is_at_its_greatest(model):
    """No hyper-parameter inside its bounds can be moved to make the data likelier."""
    rows, targets = waves(noise=0.05)
    inputs = (rows - model.center) / model.spread
    outputs = (targets - model.target_center) / model.target_spread

    def evidence(o, log):
        kernel = ConstantKernel() * RBF(np.ones(3)) + WhiteKernel()
        covariance = kernel.clone_with_theta(log)(inputs)
        return multivariate_normal(np.zeros(len(rows)), covariance).logpdf(outputs[:, o])

    bounds = np.log([gp.SIGNAL_VARIANCES, *[gp.LENGTH_SCALES] * 3, gp.NOISE_VARIANCES])
    for o in range(2):
        found = np.log([model.signal_variance[o], *model.length_scales[o], model.noise_variance[o]])
        best = evidence(o, found)
        for j in range(5):
            for step in (-0.1, 0.1):
                moved = found.copy()
                moved[j] += step
                if bounds[j, 0] <= moved[j] <= bounds[j, 1]:
                    assert evidence(o, moved) < best + 1e-4, (o, j, step)


def test_learns_a_function_and_what_does_not_matter():
    """Errors of noiseless data are small; the unused input has the longest length scale."""
    model = gp.fit_processes(*waves(60))
    new, truth = waves(50, seed=7)
    mean, variance = model.predict(new)
    assert np.abs(mean - truth).mean() < 0.02
    assert (model.length_scales.argmax(axis=1) == 2)[0]
    far, _ = model.predict(np.full((1, 3), 100.0))
    assert far[0] == pytest.approx(model.target_center)  # back to the prior
    assert variance.max() < model.predict(np.full((1, 3), 100.0))[1].min()


def test_noise_is_recovered():
    model = gp.fit_processes(*waves(150, noise=0.2))
    std = np.sqrt(model.noise_variance) * model.target_spread
    assert std == pytest.approx([0.2, 0.2], rel=0.25)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 70))
def test_a_row_is_predicted_the_same_in_any_batch(model, seed, size):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(80, 3))
    mean, variance = model.predict(rows)
    chosen = generator.permutation(80)[:size]
    some, their = model.predict(rows[chosen])
    assert np.array_equal(some, mean[chosen])
    assert np.array_equal(their, variance[chosen])


def test_the_same_data_the_same_model():
    """Fixed starts, fixed limits: every bit, and saved and read back, too."""
    first, second = (gp.fit_processes(*waves(30, noise=0.1)) for _ in range(2))
    assert dumps(first) == dumps(second)
    rows, _ = waves(5, seed=3)
    assert np.array_equal(loads(dumps(first)).predict(rows)[0], first.predict(rows)[0])


@pytest.mark.parametrize("count", [2, 3, 20])
def test_data_without_variation(count):
    """Constant inputs, constant targets, repeated rows: finite predictions."""
    rows = np.column_stack([np.ones(count), np.repeat(2.0, count), np.arange(count) % 2])
    model = gp.fit_processes(rows, np.column_stack([np.full(count, 3.0), np.arange(count) % 2]))
    mean, variance = model.predict(rows)
    assert mean[:, 0] == pytest.approx(np.full(count, 3.0))
    assert np.isfinite(mean).all()
    assert (variance > 0).all()
    assert np.isfinite(variance).all()


def test_log_likelihood():
    generator = np.random.default_rng(0)
    mean, values = generator.normal(size=(2, 6, 3))
    variance = generator.random((6, 3)) + 0.1
    expected = norm(mean, np.sqrt(variance)).logpdf(values).sum(axis=1).mean()
    assert gp.log_likelihood(mean, variance, values) == pytest.approx(expected)


def test_spread_out():
    """Four corners before any of a thousand rows in the middle; few rows are all kept."""
    crowd = 0.1 * np.random.default_rng(0).standard_normal((1000, 2))
    corners = 5.0 * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    rows = np.vstack([crowd, corners])
    assert set(gp.choose_spread_out(rows, 5)) > {1000, 1001, 1002, 1003}
    assert len(gp.choose_spread_out(rows, 50)) == 50
    assert gp.choose_spread_out(rows[:7], 50) == list(range(7))
    assert gp.choose_spread_out(rows * [1e6, 1.0], 50) == gp.choose_spread_out(rows, 50), (
        "units matter"
    )


def test_a_missing_library_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"scikit-learn.*pip install 'distes\[gp\]'"):
        gp.fit_processes(*waves())
