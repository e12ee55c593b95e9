"""The MORE update: golden numbers, the dual as it is written, bounds, equivariance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distes.strategies.numerics import gaussians
from distes.strategies.numerics.more import maximise_model

ONE = np.ones((1, 1))


def test_golden():
    """d = 1, q = N(0, 1), R = −1, r = 3, ε = 0.3, β = H − 0.1, from independent code."""
    found = maximise_model(-ONE, 3 * ONE, ONE, epsilon=0.3, entropy_change=-0.1)
    assert found.eta == pytest.approx(1.9348898673, abs=1e-8)
    assert found.omega == pytest.approx(1.2867254770, abs=1e-8)
    assert found.shift[0, 0] == pytest.approx(0.7624101566, abs=1e-8)
    assert found.covariance[0, 0] == pytest.approx(0.8187307531, abs=1e-8)
    assert found.value == pytest.approx(0.8872304699, abs=1e-8)
    assert found.kl == pytest.approx(0.3, abs=1e-12)
    assert found.entropy_change == pytest.approx(-0.1, abs=1e-12)


def model(seed, d=3, p=2, count=30, scale=1.0):
    """A concave quadratic, slopes, features."""
    generator = np.random.default_rng(seed)
    factor = generator.normal(size=(d, d))
    features = np.column_stack([np.ones(count), generator.normal(size=(count, p - 1))])
    return -scale * factor @ factor.T, scale * generator.normal(size=(p, d)), features


def log_volume(matrix):
    """log |2πM|"""
    return np.linalg.slogdet(2 * np.pi * matrix)[1]


def dual(eta, omega, quadratic, linear, means, old, epsilon, least_entropy):
    """As Abdolmaleki et al. write it, in coordinates of θ; means and linear (N, d)."""
    inverse = np.linalg.inv(old)
    inner = np.linalg.inv(eta * inverse - 2 * quadratic)
    f = eta * means @ inverse + linear
    quadratics = np.einsum("ni,ij,nj->n", f, inner, f) - eta * np.einsum(
        "ni,ij,nj->n", means, inverse, means
    )
    rest = -eta * log_volume(old) + (eta + omega) * log_volume((eta + omega) * inner)
    return eta * epsilon - omega * least_entropy + 0.5 * (quadratics.mean() + rest)


def in_whitened(quadratic, linear, weights, old, features):
    """Express a model about N(ψ(s) W, Q) by z with θ = ψ(s) W + A z; linear is (p, d)."""
    factor = np.linalg.cholesky(old)
    slopes = (linear + 2 * weights @ quadratic) @ factor
    return factor.T @ quadratic @ factor, slopes, factor


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("p", [1, 3])
def test_it_is_a_minimum_of_the_dual(seed, p):
    """Central differences of the dual, in coordinates of θ, vanish to 1e-8; F f and (η+ω)F."""
    quadratic, linear, features = model(seed, p=p)
    generator = np.random.default_rng(100 + seed)
    root = generator.normal(size=(3, 3)) + 2 * np.eye(3)
    old, weights = root @ root.T, generator.normal(size=(p, 3))
    white, slopes, factor = in_whitened(quadratic, linear, weights, old, features)
    found = maximise_model(white, slopes, features, epsilon=0.4, entropy_change=-0.2)
    assert found.omega > 0
    least = gaussians.entropy(old) - 0.2
    means, tilts = features @ weights, features @ linear

    def value(eta, omega):
        return dual(eta, omega, quadratic, tilts, means, old, 0.4, least)

    # Five points: the error is of fourth order.
    for step in (np.array([1e-3, 0.0]) * found.eta, np.array([0.0, 1e-3]) * found.omega):
        near, far = (
            value(found.eta + k * step[0], found.omega + k * step[1])
            - value(found.eta - k * step[0], found.omega - k * step[1])
            for k in (1, 2)
        )
        assert abs((8 * near - far) / (12 * step.sum())) < 1e-8
    inner = np.linalg.inv(found.eta * np.linalg.inv(old) - 2 * quadratic)
    f = found.eta * means @ np.linalg.inv(old) + tilts
    assert means + features @ found.shift @ factor.T == pytest.approx(f @ inner)
    covariance = factor @ found.covariance @ factor.T
    assert covariance == pytest.approx((found.eta + found.omega) * inner)
    at_mean = (np.einsum("ni,ij,nj->n", means, quadratic, means) + (tilts * means).sum(1)).mean()
    assert value(found.eta, found.omega) == pytest.approx(found.value + at_mean)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 6),
    st.integers(1, 4),
    st.floats(1e-3, 5.0),
    st.floats(-3.0, 1.0),
    st.floats(-8, 8),
    st.integers(0, 6),
)
def test_bounds_hold(seed, d, p, epsilon, entropy_change, magnitude, flat):
    """KL(new ‖ old) and the entropy keep their bounds; flat directions included."""
    quadratic, slopes, features = model(seed, d, p, scale=10.0**magnitude)
    values, axes = np.linalg.eigh(quadratic)
    values[: min(flat, d)] = 0.0
    quadratic = (axes * values) @ axes.T
    found = maximise_model(
        quadratic, slopes, features, epsilon=epsilon, entropy_change=entropy_change
    )
    old = np.eye(d)
    zeros = np.zeros((len(features), d))
    moved = gaussians.kl(features @ found.shift, found.covariance, zeros, old)
    assert moved <= epsilon * (1 + 1e-9) + 1e-12
    assert found.kl == pytest.approx(moved, abs=1e-9)
    change = gaussians.entropy(found.covariance) - gaussians.entropy(old)
    assert found.entropy_change == pytest.approx(change, abs=1e-9)
    widened = d / 2 * (np.exp(2 * entropy_change / d) - 1) - entropy_change
    if entropy_change <= 0 or widened <= epsilon / 2:
        assert change >= entropy_change - 1e-9
    assert np.linalg.eigvalsh(found.covariance).min() > 0


@pytest.mark.parametrize("seed", range(5))
def test_nothing_within_the_bounds_is_better(seed):
    """Random Gaussians within both bounds have no higher mean of the model."""
    quadratic, slopes, features = model(seed)
    found = maximise_model(quadratic, slopes, features, epsilon=0.4, entropy_change=-0.2)

    def gain(shift, covariance):
        means = features @ shift
        inner = np.einsum("ni,ij,nj->n", means, quadratic, means)
        return float((inner + (means * (features @ slopes)).sum(1)).mean()) + float(
            np.trace(quadratic @ covariance)
        )

    best = gain(found.shift, found.covariance)
    generator = np.random.default_rng(seed)
    zeros, kept = np.zeros((len(features), 3)), 0
    for spread in np.tile([1.0, 0.1, 0.01], 400):
        shift = found.shift + spread * generator.normal(size=(2, 3))
        bent = np.eye(3) + spread * generator.normal(size=(3, 3))
        covariance = bent @ found.covariance @ bent.T
        if gaussians.kl(features @ shift, covariance, zeros, np.eye(3)) > 0.4:
            continue
        if gaussians.entropy(covariance) - gaussians.entropy(np.eye(3)) < -0.2:
            continue
        kept += 1
        assert gain(shift, covariance) <= best + 1e-9
    assert kept > 20


def test_scale_of_the_return_does_not_matter():
    quadratic, slopes, features = model(3)
    plain = maximise_model(quadratic, slopes, features, epsilon=0.3, entropy_change=-0.1)
    scaled = maximise_model(
        1e9 * quadratic, 1e9 * slopes, features, epsilon=0.3, entropy_change=-0.1
    )
    assert scaled.shift == pytest.approx(plain.shift)
    assert scaled.covariance == pytest.approx(plain.covariance)
    assert scaled.eta == pytest.approx(1e9 * plain.eta)


def test_turning_turns_along():
    quadratic, slopes, features = model(4)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    plain = maximise_model(quadratic, slopes, features, epsilon=0.3, entropy_change=-0.1)
    turned = maximise_model(
        turn @ quadratic @ turn.T, slopes @ turn.T, features, epsilon=0.3, entropy_change=-0.1
    )
    assert turned.shift == pytest.approx(plain.shift @ turn.T)
    assert turned.covariance == pytest.approx(turn @ plain.covariance @ turn.T)


def test_nothing_to_gain_changes_nothing():
    found = maximise_model(0 * ONE, 0 * ONE, ONE, epsilon=0.3, entropy_change=-0.1)
    assert (found.shift.item(), found.covariance.item(), found.kl) == (0.0, 1.0, 0.0)


def test_within_wide_bounds_the_mean_is_the_best():
    """The maximum of −θ² + 3θ is at 1.5; the entropy alone is kept."""
    found = maximise_model(-ONE, 3 * ONE, ONE, epsilon=50.0, entropy_change=-0.5)
    assert found.shift.item() == pytest.approx(1.5)
    assert found.covariance.item() == pytest.approx(np.exp(-1.0))
    assert found.eta < 1e-9


def test_a_flat_model_moves_the_mean_alone():
    """A linear model: the whole bound goes into the mean, μ²/2 = ε."""
    found = maximise_model(0 * ONE, 7 * ONE, ONE, epsilon=0.5, entropy_change=-1.0)
    assert found.shift.item() == pytest.approx(1.0)
    assert found.covariance.item() == pytest.approx(1.0)


def test_a_rise_of_the_entropy_beyond_the_bound_is_cut():
    found = maximise_model(-ONE, 3 * ONE, ONE, epsilon=0.1, entropy_change=5.0)
    assert found.entropy_change > 0
    assert found.shift.item() > 0
    assert found.kl <= 0.1
