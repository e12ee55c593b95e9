"""Upper-level policies: what they draw, and that nothing but candidate and context matters."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distes.population.distributions import Gaussian
from distes.population.features import build_features
from distes.population.records import Contextual
from distes.population.upper_policies import LinearGaussian, Mixture, draw_uniform
from distes.seeds import noise_key

KEY, OTHER = noise_key(3, 0), noise_key(3, 0, 1)


def upper(size=4, width=2, *, full=True, seed=0, features="quadratic"):
    generator = np.random.default_rng(seed)
    basis = build_features(features, width)
    scale = generator.normal(size=(size, size)) if full else generator.random(size)
    weights = generator.normal(size=(basis.num_features, size))
    return LinearGaussian(weights, scale, basis, KEY)


def mixture(size=3, width=2, options=3, seed=0, *, greedy=False):
    generator = np.random.default_rng(seed)
    basis, gate = build_features("affine", width), build_features("quadratic", width)
    return Mixture(
        gating=generator.normal(size=(gate.num_features, options)),
        weights=generator.normal(size=(options, basis.num_features, size)),
        scales=generator.normal(size=(options, size, size)),
        gating_features=gate,
        features=basis,
        key=KEY,
        option_key=OTHER,
        greedy=greedy,
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.booleans(), st.integers(1, 300))
def test_a_candidate_is_the_same_in_any_batch(seed, full, mixed, size):
    generator = np.random.default_rng(seed)
    drawn_from = mixture(min(size, 5), seed=seed) if mixed else upper(size, full=full, seed=seed)
    candidates = np.arange(70)
    contexts = generator.normal(size=(70, 2))
    whole = drawn_from.draw(candidates, contexts)
    chosen = generator.permutation(70)[:13]
    assert np.array_equal(drawn_from.draw(chosen, contexts[chosen]), whole[chosen])
    one = chosen[:1]
    assert np.array_equal(drawn_from.draw(one, contexts[one]), whole[one])
    given = drawn_from.prepare_draw(chosen)
    assert np.array_equal([given(i, contexts[n]) for i, n in enumerate(chosen)], whole[chosen])


def test_mean_and_noise():
    """The mean is linear in features; the noise is that of a Gaussian with the same key."""
    drawn_from = upper()
    contexts = np.random.default_rng(1).normal(size=(50, 2))
    drawn = drawn_from.draw(np.arange(50), contexts)
    mean = drawn_from.features(contexts) @ drawn_from.weights
    noise = Gaussian(np.zeros(4), drawn_from.scale, KEY).draw(np.arange(50))
    assert drawn == pytest.approx(mean + noise)


def test_frozen_parameters_are_exactly_the_mean():
    drawn_from = upper(full=False)
    drawn_from.scale[1] = 0.0
    contexts = np.random.default_rng(1).normal(size=(50, 2))
    mean = drawn_from.features(contexts) @ drawn_from.weights
    assert drawn_from.draw(np.arange(50), contexts)[:, 1] == pytest.approx(mean[:, 1], abs=1e-12)


def test_constant_features_need_no_context():
    drawn_from = upper(features="constant")
    assert not drawn_from.uses_context
    contexts = np.random.default_rng(1).normal(size=(5, 2))
    assert np.array_equal(drawn_from.draw(np.arange(5)), drawn_from.draw(np.arange(5), contexts))


def test_a_missing_context_is_a_fault():
    with pytest.raises(ValueError, match="none is given"):
        upper().draw(np.arange(3))


def test_options_are_drawn_as_often_as_they_should():
    drawn_from = mixture()
    contexts = np.tile([[0.3, -0.2]], (20_000, 1))
    chosen = drawn_from.choose_options(np.arange(20_000), contexts)
    expected = drawn_from.probabilities(contexts[:1], 1)[0]
    assert expected.sum() == pytest.approx(1.0)
    observed = np.bincount(chosen, minlength=3) / 20_000
    assert (np.abs(observed - expected) < 4 * np.sqrt(expected * (1 - expected) / 20_000)).all()


def test_one_option_is_a_linear_gaussian():
    drawn_from = mixture(options=1)
    contexts = np.random.default_rng(1).normal(size=(30, 2))
    alone = LinearGaussian(
        drawn_from.weights[0], drawn_from.scales[0], drawn_from.features, drawn_from.key
    )
    candidates = np.arange(30)
    assert np.array_equal(drawn_from.draw(candidates, contexts), alone.draw(candidates, contexts))


def test_greedy_takes_the_likeliest():
    drawn_from = mixture(greedy=True)
    contexts = np.random.default_rng(1).normal(size=(30, 2))
    likeliest = drawn_from.probabilities(contexts, 30).argmax(axis=1)
    assert np.array_equal(drawn_from.choose_options(np.arange(30), contexts), likeliest)


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("features", ["affine", "constant"])
def test_options_can_be_drawn_one_by_one(greedy, features):
    """Engines draw ahead what needs no context; it must be what the log draws again."""
    drawn_from = replace(mixture(greedy=greedy), features=build_features(features, 2))
    drawn_from = replace(
        drawn_from, weights=drawn_from.weights[:, : drawn_from.features.num_features]
    )
    assert isinstance(drawn_from, Contextual)
    contexts = np.random.default_rng(1).normal(size=(30, 2))
    candidates = np.arange(30)
    assert len(np.unique(drawn_from.choose_options(candidates, contexts))) > 1
    given = drawn_from.prepare_draw(candidates)
    one_by_one = [given(i, contexts[i]) for i in range(30)]
    assert np.array_equal(one_by_one, drawn_from.draw(candidates, contexts))


def test_uniform_numbers_are_uniform():
    values = np.sort(draw_uniform(KEY, np.arange(20_000)))
    distance = np.abs(values - (np.arange(20_000) + 0.5) / 20_000).max()
    assert distance < 1.63 / np.sqrt(20_000)  # Kolmogorov-Smirnov at 1%
