"""Features of contexts."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distes.errors import UsageError
from distes.numerics.features import make

CONTEXTS = np.array([[2.0, 3.0], [-1.0, 0.5]])


def doubled(contexts):
    return np.hstack([np.ones((len(contexts), 1)), 2 * contexts])


def ragged(contexts):
    return contexts[0]


def endless(contexts):
    return np.log(contexts - 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [[1], [1]]),
        ("linear", [[2, 3], [-1, 0.5]]),
        ("affine", [[1, 2, 3], [1, -1, 0.5]]),
        ("quadratic", [[1, 2, 3, 4, 6, 9], [1, -1, 0.5, 1, -0.5, 0.25]]),
    ],
)
def test_polynomials(name, expected):
    assert np.array_equal(make(name, 2)(CONTEXTS), expected)


def test_cubic_has_all_monomials():
    features = make("cubic", 2)
    assert features.num_features == 10
    x, y = 2.0, 3.0
    assert features(CONTEXTS[:1])[0] == pytest.approx(
        [1, x, y, x * x, x * y, y * y, x**3, x * x * y, x * y * y, y**3]
    )


def test_without_contexts_there_is_the_constant():
    for name in ("constant", "affine", "quadratic"):
        features = make(name, 0)
        assert features.num_features == 1
        assert not features.uses_context


def test_bumps_cover_the_first_contexts_and_stay():
    contexts = np.random.default_rng(0).uniform([0, 0], [1, 100], (200, 2))
    empty = make("rbf:9", 2)
    assert not empty.uses_context
    features = empty.fitted(contexts)
    assert features.num_features == 10
    values = features(contexts)
    assert (values[:, 0] == 1).all()
    assert values[:, 1:].max(axis=1).min() > 0.3, "a context is far from all bumps"
    assert features.fitted(contexts + 5) is features
    own = features(features.centers)
    assert np.diag(own[:, 1:]) == pytest.approx(1)


def test_fewer_contexts_than_bumps():
    features = make("rbf:9", 1).fitted(np.array([[1.0], [1.0], [2.0]]))
    assert features.num_features == 3


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["affine", "quadratic", "cubic", "rbf:7"]),
    st.integers(1, 5),
    st.integers(0, 2**31),
)
def test_a_row_is_the_same_in_any_batch(name, size, seed):
    generator = np.random.default_rng(seed)
    contexts = generator.normal(size=(67, size))
    features = make(name, size).fitted(generator.normal(size=(30, size)))
    whole = features(contexts)
    for start, stop in ((0, 1), (3, 4), (5, 12), (13, 67)):
        assert np.array_equal(features(contexts[start:stop]), whole[start:stop])
    assert np.array_equal(features(contexts[::3]), whole[::3])


def test_a_function_of_ones_own():
    features = make(doubled, 2)
    assert features.num_features == 3
    assert features(CONTEXTS) == pytest.approx(np.array([[1, 4, 6], [1, -2, 1]]))
    again = pickle.loads(pickle.dumps(features))  # noqa: S301 - as it travels to a worker
    assert again == features
    assert copy.deepcopy(features) == features
    unknown = np.array([[np.nan, 1.0], [1.0, 1.0]])
    assert np.isnan(features(unknown)[0]).all()
    assert np.isfinite(features(unknown)[1]).all()


@pytest.mark.parametrize(
    ("choice", "size", "sentence"),
    [
        ("quadratc", 2, "did you mean 'quadratic'"),
        ("rbf", 2, "rbf:COUNT"),
        ("rbf:0", 2, "at least 1"),
        ("linear", 0, "no features"),
        (ragged, 2, r"gave shape \(2,\)"),
        (endless, 2, "not finite"),
        (lambda contexts: contexts, 2, "no name of its own"),
    ],
)
def test_what_is_refused(choice, size, sentence):
    with pytest.raises(UsageError, match=sentence), np.errstate(all="ignore"):
        make(choice, size, "policy_features")
