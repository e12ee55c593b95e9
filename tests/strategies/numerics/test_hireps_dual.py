"""The HiREPS dual: golden numbers, finite differences, reductions, limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distes.strategies.numerics import reps
from distes.strategies.numerics.dual import Dual
from distes.strategies.numerics.hireps import weigh_options

RETURNS = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
FIRST = np.array([0.9, 0.6, 0.5, 0.3, 0.2])
SHARES = np.column_stack([FIRST, 1 - FIRST])
FEATURE = np.array([[0.5], [-1.0], [0.0], [2.0], [0.25]])


@pytest.mark.parametrize(
    ("features", "overlap", "eta", "xi", "theta", "value", "weights"),
    [
        (
            None,
            0.9,
            1.19072416278,
            0.269531799162,
            [],
            4.32762912861,
            [
                [0.019859223581, 0.0013418928535],
                [0.027973219843, 0.017013405739],
                [0.051804701157, 0.051804701157],
                [0.064126011701, 0.18126171258],
                [0.090326342095, 0.4944887893],
            ],
        ),
        (
            None,
            0.7,
            1.41987153513,
            1.49972090963,
            [],
            4.24154344187,
            [
                [0.040980790372, 0.00044712765875],
                [0.036005083, 0.015641501723],
                [0.050051518866, 0.050051518866],
                [0.035408905306, 0.20219015107],
                [0.031109711719, 0.53811369142],
            ],
        ),
        (
            FEATURE,
            0.9,
            1.21367515691,
            0.26989952573,
            [0.49143847342],
            4.26865814348,
            [
                [0.020651327121, 0.0014076642643],
                [0.05263948383, 0.032067184767],
                [0.064047561491, 0.064047561491],
                [0.034789316157, 0.098006323069],
                [0.098123475321, 0.53422010249],
            ],
        ),
    ],
)
def test_golden(features, overlap, eta, xi, theta, value, weights):
    """From 40-digit arithmetic: roots of the dual's numerical derivatives (mpmath)."""
    found = weigh_options(RETURNS, SHARES, 0.5, features, overlap)
    assert found.eta == pytest.approx(eta, abs=1e-8)
    assert found.xi == pytest.approx(xi, abs=1e-8)
    assert found.theta == pytest.approx(theta, abs=1e-8)
    assert found.value == pytest.approx(value, abs=1e-8)
    assert found.weights == pytest.approx(np.array(weights), abs=1e-9)
    assert found.bound == pytest.approx(overlap * 0.560501709311, abs=1e-10)
    assert found.surprise == pytest.approx(found.bound, abs=1e-9)
    assert found.kl == pytest.approx(0.5, abs=1e-10)


def case(seed, count=200, options=3, width=2):
    """Samples of a few overlapping options, with returns that features explain in part."""
    generator = np.random.default_rng(seed)
    features = generator.normal(3.0, 2.0, (count, width))
    logits = 1.5 * generator.normal(size=(count, options))
    shares = np.exp(logits)
    shares /= shares.sum(axis=1, keepdims=True)
    returns = 10 * features @ np.arange(1.0, width + 1) + 3 * logits[:, 0]
    return returns + generator.normal(size=count) ** 3, shares, features


def dual(x, returns, shares, features, epsilon, kappa):
    """The dual as it is written: x = (η, ξ, θ)."""
    eta, xi, theta = x[0], x[1], x[2:]
    values = (returns - features @ theta)[:, None] / eta + (1 + xi / eta) * np.log(shares)
    top = values.max()
    log_sum = top + np.log(np.exp(values - top).sum() / len(returns))
    return eta * epsilon + xi * kappa + theta @ features.mean(axis=0) + eta * log_sum


@pytest.mark.parametrize("seed", range(5))
def test_it_is_a_minimum_of_the_dual(seed):
    """Differences at the solution vanish, in ξ, too; every step away is worse."""
    returns, shares, features = case(seed)
    found = weigh_options(returns, shares, 0.7, features, 0.6)
    assert found.xi > 0
    at = np.array([found.eta, found.xi, *found.theta])

    def value(x):
        return dual(x, returns, shares, features, 0.7, found.bound)

    assert found.value == pytest.approx(value(at), rel=1e-10)
    for j in range(len(at)):
        step = np.zeros(len(at))
        step[j] = 1e-5 * max(1.0, abs(at[j]))
        assert abs(value(at + step) - value(at - step)) / (2 * step[j]) < 1e-6
        assert value(at + 100 * step) > value(at)
        assert value(at - 100 * step) > value(at)
    exponents = (returns - features @ found.theta)[:, None] / found.eta
    written = np.exp(exponents - exponents.max()) * shares ** (1 + found.xi / found.eta)
    assert found.weights == pytest.approx(written / written.sum(), abs=1e-10)
    assert found.feature_error < 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_its_gradient(seed):
    """Away from the minimum, by finite differences of the dual as it is written.

    The dual that is minimised is that of pairs, the surprise −log p̃ among its columns, so
    that ∂g/∂ξ = κ + Σ w log p̃.
    """
    returns, shares, features = case(seed, count=60)
    returns = returns / returns.std()
    features = features / 3
    rows, options = np.nonzero(shares)
    surprise = -np.log(shares[rows, options])
    pairs = Dual(
        rest=returns[rows],
        columns=np.column_stack([surprise, features[rows]]),
        prior=shares[rows, options] / len(returns),
        targets=np.array([0.4, *features.mean(axis=0)]),
        epsilon=0.7,
    )
    at = np.array([1.3, 0.6, *0.3 * np.random.default_rng(seed).normal(size=2)])
    point = pairs(at[0], at[1:])
    assert point.value == pytest.approx(dual(at, returns, shares, features, 0.7, 0.4), abs=1e-12)
    step = 1e-3
    for j in range(len(at)):
        values = [
            dual(at + k * step * np.eye(len(at))[j], returns, shares, features, 0.7, 0.4)
            for k in (-2, -1, 1, 2)
        ]
        slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        assert point.gradient[j] == pytest.approx(slope, abs=1e-8)
    assert point.gradient[1] == pytest.approx(0.4 - point.weights @ surprise, abs=1e-12)


@pytest.mark.parametrize("overlap", [None, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_one_option_is_reps(seed, overlap):
    returns, _, features = case(seed)
    plain = reps.weigh_samples(returns, 0.5, features)
    found = weigh_options(returns, np.ones((len(returns), 1)), 0.5, features, overlap)
    assert np.array_equal(found.weights[:, 0], plain.weights)
    assert found.xi == 0
    for name in ("eta", "value", "kl", "ess", "feature_error"):
        assert getattr(found, name) == getattr(plain, name)


@pytest.mark.parametrize("seed", range(3))
def test_without_a_bound_on_the_overlap_samples_weigh_as_in_reps(seed):
    returns, shares, features = case(seed)
    plain = reps.weigh_samples(returns, 0.5, features)
    found = weigh_options(returns, shares, 0.5, features)
    assert found.weights.sum(axis=1) == pytest.approx(plain.weights, abs=1e-15)
    assert found.weights / plain.weights[:, None] == pytest.approx(shares, rel=1e-12)
    assert found.xi == 0


def test_options_that_are_apart_are_left_alone():
    """Where weights alone reduce the overlap enough, ξ = 0."""
    shares = np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    found = weigh_options(np.array([0.0, 1.0, 1.0, 0.0]), shares, 0.3, None, 0.9)
    assert found.xi == 0
    assert found.surprise < found.bound


finite = st.floats(-1e3, 1e3, allow_nan=False)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(finite, min_size=3, max_size=40),
    st.floats(0.01, 4.0),
    st.floats(0.05, 1.0),
    st.floats(1e-3, 1e3),
    st.floats(-1e4, 1e4),
    st.integers(1, 4),
    st.integers(0, 3),
    st.floats(0.0, 30.0),
    st.integers(0, 2**31),
)
def test_invariances_and_bounds(
    returns, epsilon, overlap, scale, shift, options, width, sharpness, seed
):
    """Both bounds hold, and weights do not see scale or shift of the returns."""
    returns = np.array(returns)
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(len(returns), width))
    logits = sharpness * generator.normal(size=(len(returns), options))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    found = weigh_options(returns, shares, epsilon, features, overlap)
    assert found.weights.sum() == pytest.approx(1.0)
    assert (found.weights >= 0).all()
    assert found.xi >= 0
    assert found.kl <= epsilon * (1 + 1e-12)
    some = found.weights > 0
    ratios = found.weights[some] * len(returns) / shares[some]
    assert found.kl == pytest.approx(float(found.weights[some] @ np.log(ratios)), abs=1e-6)
    assert found.surprise == pytest.approx(
        -float(found.weights[some] @ np.log(shares[some])), abs=1e-8
    )
    if np.isfinite(found.eta) and found.xi > 0:
        assert found.surprise <= found.bound + 1e-6
    if np.ptp(returns) > 1e-6:
        moved = weigh_options(scale * returns + shift, shares, epsilon, features, overlap)
        # What is lost in the shift's rounding may show.
        lost = 1e-13 * abs(shift) / (scale * np.ptp(returns))
        if lost < 1e-9 and min(found.eta, moved.eta / scale) > 1e-6 * np.ptp(returns):
            assert moved.weights == pytest.approx(found.weights, abs=1e-6)


def test_the_order_of_options_and_samples_does_not_matter():
    returns, shares, features = case(7)
    found = weigh_options(returns, shares, 0.5, features, 0.6).weights
    order = np.random.default_rng(0).permutation(len(returns))
    other = weigh_options(
        returns[order], shares[order][:, [2, 0, 1]], 0.5, features[order], 0.6
    ).weights
    assert other == pytest.approx(found[order][:, [2, 0, 1]], abs=1e-10)


@pytest.mark.parametrize("overlap", [None, 0.9])
def test_constant_returns_change_nothing(overlap):
    _, shares, features = case(1)
    found = weigh_options(np.full(200, 7.0), shares, 0.5, features, overlap)
    assert found.weights == pytest.approx(shares / 200, abs=1e-15)
    assert found.kl == 0
    assert found.xi == 0


def test_options_that_are_the_same_cannot_be_told_apart():
    """No weights lower the overlap: samples weigh as in REPS."""
    returns, _, features = case(2)
    found = weigh_options(returns, np.full((200, 2), 0.5), 0.5, features, 0.9)
    assert found.xi == 0
    assert found.weights.sum(axis=1) == pytest.approx(
        reps.weigh_samples(returns, 0.5, features).weights, abs=1e-15
    )


def test_an_overlap_out_of_reach_is_raised():
    """ε = 0.001 cannot take nine tenths of the overlap; it takes what half of ε can."""
    returns, shares, features = case(3)
    found = weigh_options(returns, shares, 0.001, features, 0.1)
    entropy = -(shares * np.log(shares)).sum(axis=1).mean()
    assert 0.1 * entropy < found.bound < entropy
    assert found.surprise == pytest.approx(found.bound, abs=1e-8)
    assert found.kl == pytest.approx(0.001, abs=1e-10)
    assert found.weights.sum(axis=1) @ returns > returns.mean()


@pytest.mark.parametrize("width", [0, 2])
def test_a_wide_bound(width):
    """Little is left of the overlap and of low returns, and nothing breaks."""
    returns, shares, features = case(4, count=30)
    found = weigh_options(returns, shares, 20.0, features[:, :width], 0.5)
    assert np.isfinite(found.weights).all()
    assert found.weights.sum() == pytest.approx(1.0)
    assert found.surprise <= found.bound + 0.05


@pytest.mark.parametrize("seed", range(20))
def test_responsibilities_down_to_underflow(seed):
    """Options far away have parts of 1e-300 in a sample, and surprises of 700 nats."""
    generator = np.random.default_rng(seed)
    logits = 200 * generator.normal(size=(500, 6))
    logits[:100] /= 300
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    found = weigh_options(
        generator.normal(size=500), shares, 0.8, generator.normal(size=(500, 2)), 0.7
    )
    assert np.isfinite(found.weights).all()
    assert found.surprise <= found.bound + 1e-8
    assert found.kl == pytest.approx(0.8, abs=1e-9)


def test_an_option_without_part_in_a_sample_gets_none_of_it():
    returns, shares, features = case(5)
    shares = np.column_stack([shares[:, :2] / shares[:, :2].sum(axis=1)[:, None], np.zeros(200)])
    found = weigh_options(returns, shares, 0.5, features, 0.6)
    assert (found.weights[:, 2] == 0).all()
    alone = weigh_options(returns, shares[:, :2], 0.5, features, 0.6)
    assert found.weights[:, :2] == pytest.approx(alone.weights, abs=1e-14)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="epsilon"):
        weigh_options(RETURNS, SHARES, 0.0)
    with pytest.raises(ValueError, match="finite"):
        weigh_options(np.array([1.0, 2.0, np.nan, 4.0, 5.0]), SHARES, 0.5)
    with pytest.raises(ValueError, match="finite"):
        weigh_options(RETURNS, SHARES * [np.nan, 1.0], 0.5)
