"""The REPS dual: golden numbers, finite differences, invariances, limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distes.strategies.numerics.reps import weigh_samples

RETURNS = np.array([1.0, 2.0, 3.0, 4.0, 5.0])


def test_golden_a():
    """ε = 0.5 over returns 1 to 5, from independent code."""
    found = weigh_samples(RETURNS, 0.5)
    assert found.eta == pytest.approx(1.164779516, abs=1e-8)
    assert found.value == pytest.approx(4.333829762, abs=1e-8)
    expected = [0.0188425805, 0.0444627078, 0.1049183462, 0.2475751008, 0.5842012648]
    assert found.weights == pytest.approx(expected, abs=1e-9)
    assert found.kl == pytest.approx(0.5, abs=1e-10)
    assert found.ess == pytest.approx(1 / np.sum(np.square(expected)), abs=1e-8)


def test_golden_a_with_more_room():
    found = weigh_samples(RETURNS, 1.0)
    assert found.eta == pytest.approx(0.611023443, abs=1e-8)
    assert found.value == pytest.approx(4.759714926, abs=1e-8)


def dual(eta, theta, returns, features, epsilon):
    """The dual as it is written, for comparison."""
    values = (returns - features @ theta) / eta
    top = values.max()
    log_mean = top + np.log(np.mean(np.exp(values - top)))
    return eta * epsilon + theta @ features.mean(axis=0) + eta * log_mean


@pytest.mark.parametrize("seed", range(5))
def test_it_is_a_minimum_of_the_dual(seed):
    """Central differences at the solution vanish; every step away is worse."""
    generator = np.random.default_rng(seed)
    features = generator.normal(3.0, 2.0, (200, 3))
    returns = features @ [1.0, -2.0, 0.5] * 10 + generator.normal(size=200) ** 3
    found = weigh_samples(returns, 0.7, features)
    at = np.array([found.eta, *found.theta])

    def value(x):
        return dual(x[0], x[1:], returns, features, 0.7)

    assert found.value == pytest.approx(value(at), rel=1e-10)
    for j in range(len(at)):
        step = np.zeros(len(at))
        step[j] = 1e-5 * max(1.0, abs(at[j]))
        slope = (value(at + step) - value(at - step)) / (2 * step[j])
        assert abs(slope) < 1e-6
        assert value(at + 100 * step) > value(at)
        assert value(at - 100 * step) > value(at)
    assert found.feature_error < 1e-9
    assert found.weights @ features == pytest.approx(features.mean(axis=0), abs=1e-7)


finite = st.floats(-1e3, 1e3, allow_nan=False)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(finite, min_size=3, max_size=40),
    st.floats(0.01, 3.0),
    st.floats(1e-3, 1e3),
    st.floats(-1e4, 1e4),
    st.integers(0, 3),
    st.integers(0, 2**31),
)
def test_invariances_and_bounds(returns, epsilon, scale, shift, width, seed):
    """Weights keep within the bound, and do not see scale, shift or what features explain."""
    returns = np.array(returns)
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(len(returns), width))
    found = weigh_samples(returns, epsilon, features)
    assert found.weights.sum() == pytest.approx(1.0)
    assert (found.weights >= 0).all()
    assert found.kl <= epsilon * (1 + 1e-12)
    positive = found.weights[found.weights > 0]
    direct = float(np.sum(positive * np.log(positive * len(returns))))
    assert found.kl == pytest.approx(direct, abs=1e-6)
    if np.ptp(returns) > 1e-6:
        moved = weigh_samples(scale * returns + shift, epsilon, features)
        # What is lost in the shift's rounding may show.
        lost = 1e-13 * abs(shift) / (scale * np.ptp(returns))
        if lost < 1e-9 and found.eta > 1e-6 * np.ptp(returns):
            assert moved.weights == pytest.approx(found.weights, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 50), st.floats(0.01, 5.0), st.floats(-1e6, 1e6))
def test_constant_returns_change_nothing(count, epsilon, value):
    features = np.random.default_rng(count).normal(size=(count, 2))
    found = weigh_samples(np.full(count, value), epsilon, features)
    assert np.array_equal(found.weights, np.full(count, 1 / count))
    assert found.kl == 0


def test_returns_that_the_context_explains_change_nothing():
    contexts = np.random.default_rng(0).normal(size=(60, 2))
    found = weigh_samples(100 + contexts @ [3.0, -7.0], 0.5, contexts)
    assert found.weights == pytest.approx(np.full(60, 1 / 60), abs=1e-12)
    assert found.theta == pytest.approx([3.0, -7.0])


def test_the_limit_of_a_wide_bound_is_the_best_alone():
    found = weigh_samples(np.array([1.0, 5.0, 5.0, 2.0]), 10.0)
    assert found.weights == pytest.approx([0.0, 0.5, 0.5, 0.0])
    assert found.eta == 0
    assert found.kl == pytest.approx(np.log(2))


def test_a_wide_bound_with_features_keeps_their_mean():
    generator = np.random.default_rng(3)
    features = generator.normal(size=(30, 2))
    found = weigh_samples(generator.normal(size=30), 20.0, features)
    assert np.isfinite(found.weights).all()
    assert found.weights @ features == pytest.approx(features.mean(axis=0), abs=0.05)


def test_dependent_features_are_harmless():
    generator = np.random.default_rng(1)
    feature = generator.normal(size=(50, 1))
    returns = generator.normal(size=50)
    plain = weigh_samples(returns, 0.4, feature)
    doubled = weigh_samples(returns, 0.4, np.hstack([np.ones((50, 1)), feature, 2 * feature + 5]))
    assert doubled.weights == pytest.approx(plain.weights, abs=1e-10)


def test_base_weights_stand_for_repeated_samples():
    """A sample with twice the base weight counts as if it were there twice."""
    generator = np.random.default_rng(2)
    returns, features = generator.normal(size=20), generator.normal(size=(20, 1))
    times = generator.integers(1, 4, 20)
    whole = weigh_samples(np.repeat(returns, times), 0.6, np.repeat(features, times, axis=0))
    found = weigh_samples(returns, 0.6, features, base=times.astype(float))
    ends = np.cumsum(times)
    summed = [whole.weights[end - n : end].sum() for end, n in zip(ends, times, strict=True)]
    assert found.weights == pytest.approx(summed, abs=1e-10)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan")])
def test_no_room_is_refused(epsilon):
    with pytest.raises(ValueError, match="epsilon"):
        weigh_samples(RETURNS, epsilon)


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="finite"):
        weigh_samples(np.array([1.0, np.nan]), 0.5)
