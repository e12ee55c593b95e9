"""Weighted multinomial logistic regression: derivatives, recovery, invariance."""

import numpy as np
import pytest

from distes.strategies.numerics.logistic import SHRINKAGE, fit_multinomial, softmax


def case(seed, count=300, width=2, options=3):
    generator = np.random.default_rng(seed)
    features = np.column_stack([np.ones(count), generator.normal(2.0, 3.0, (count, width))])
    weights = generator.random((count, options)) ** 3
    return features, weights / weights.sum()


def loss(coefficients, features, weights, shrinkage):
    """What is minimised, as it is written."""
    logits = features @ coefficients
    likelihood = (weights * np.log(softmax(logits))).sum()
    samples = weights.sum(axis=1)
    variances = samples @ (logits - samples @ logits) ** 2
    return 0.5 * shrinkage * variances.sum() - likelihood


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shrinkage", [SHRINKAGE, 0.3])
def test_it_is_a_minimum(seed, shrinkage):
    """Differences at the solution vanish; random steps away are worse."""
    features, weights = case(seed)
    found = fit_multinomial(features, weights, shrinkage)
    step = 1e-3
    for index in np.ndindex(found.shape):
        values = []
        for k in (-2, -1, 1, 2):
            moved = found.copy()
            moved[index] += k * step
            values.append(loss(moved, features, weights, shrinkage))
        slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        assert abs(slope) < 1e-8
    generator = np.random.default_rng(seed)
    least = loss(found, features, weights, shrinkage)
    for _ in range(20):
        moved = found + 0.01 * generator.normal(size=found.shape)
        assert loss(moved, features, weights, shrinkage) > least


def test_a_known_gating_is_recovered():
    generator = np.random.default_rng(0)
    count = 20_000
    features = np.column_stack([np.ones(count), generator.normal(size=(count, 2))])
    truth = np.array([[0.5, -0.5, 0.0], [1.0, -2.0, 1.0], [0.0, 1.0, -1.0]])
    levels = generator.random((count, 1))
    chosen = (levels >= np.cumsum(softmax(features @ truth), axis=1)[:, :-1]).sum(axis=1)
    found = fit_multinomial(features, np.eye(3)[chosen] / count, shrinkage=1e-6)
    # Standard errors are about 0.03.
    assert found == pytest.approx(truth, abs=0.12)


def test_without_contexts_probabilities_are_the_shares():
    generator = np.random.default_rng(1)
    weights = generator.random((50, 4)) * [1.0, 5.0, 0.1, 1e-6]
    weights /= weights.sum()
    found = fit_multinomial(np.ones((50, 1)), weights)
    assert softmax(found)[0] == pytest.approx(weights.sum(axis=0), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_linear_maps_of_the_features_change_nothing(seed):
    """Scale, shift, and repeated features give the same probabilities."""
    features, weights = case(seed)
    generator = np.random.default_rng(seed)
    expected = softmax(features @ fit_multinomial(features, weights))
    mapped = features @ generator.normal(size=(3, 3)) * [1e3, 1.0, 1e-3]
    assert softmax(mapped @ fit_multinomial(mapped, weights)) == pytest.approx(expected, abs=1e-9)
    repeated = np.column_stack([features, features[:, 1] + 5])
    assert softmax(repeated @ fit_multinomial(repeated, weights)) == pytest.approx(
        expected, abs=1e-9
    )


def test_options_are_treated_alike():
    features, weights = case(3)
    found = fit_multinomial(features, weights)
    order = [2, 0, 1]
    assert fit_multinomial(features, weights[:, order]) == pytest.approx(found[:, order], abs=1e-9)
    assert found.sum(axis=1) == pytest.approx(np.zeros(3), abs=1e-12)


def test_repeated_samples_are_weights():
    features, _ = case(4, count=40)
    generator = np.random.default_rng(4)
    chosen, times = generator.integers(0, 3, 40), generator.integers(1, 4, 40)
    whole = np.eye(3)[np.repeat(chosen, times)] / times.sum()
    found = fit_multinomial(np.repeat(features, times, axis=0), whole)
    weighted = np.eye(3)[chosen] * times[:, None] / times.sum()
    assert fit_multinomial(features, weighted) == pytest.approx(found, abs=1e-9)


def test_separable_options_keep_finite_coefficients():
    context = np.linspace(-1, 1, 100)
    features = np.column_stack([np.ones(100), context])
    weights = np.column_stack([context < 0, context >= 0]) / 100
    probabilities = softmax(features @ fit_multinomial(features, weights))
    assert (probabilities.argmax(axis=1) == (context >= 0)).all()
    assert probabilities[0, 0] > 0.99
    assert probabilities[0, 0] < 1


def test_one_option_is_certain():
    features, weights = case(5, options=1)
    assert (fit_multinomial(features, weights) == 0).all()
