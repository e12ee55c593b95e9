"""Features of contexts."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distes.errors import UsageError
from distes.population.features import build_features, remember_functions

CONTEXTS = np.array([[2.0, 3.0], [-1.0, 0.5]])


def doubled(contexts):
    return np.hstack([np.ones((len(contexts), 1)), 2 * contexts])


def ragged(contexts):
    return contexts[0]


def above_one(contexts):
    return np.log(contexts - 1)


def never_one(contexts):
    if (contexts == 1).any():
        raise ArithmeticError("one has no features")
    return 1 / (contexts - 1)


def never(contexts):
    raise ArithmeticError("there are no features")


def in_place(contexts):
    contexts *= 2
    return contexts


class Basis:
    def __init__(self, factor):
        self.factor = factor

    def features(self, contexts):
        return self.factor * contexts

    @staticmethod
    def named(contexts):
        return contexts


def replaced(contexts):
    return contexts


first, replaced = replaced, doubled


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
    assert np.array_equal(build_features(name, 2)(CONTEXTS), expected)


def test_cubic_has_all_monomials():
    features = build_features("cubic", 2)
    assert features.num_features == 10
    x, y = 2.0, 3.0
    assert features(CONTEXTS[:1])[0] == pytest.approx(
        [1, x, y, x * x, x * y, y * y, x**3, x * x * y, x * y * y, y**3]
    )


def test_without_contexts_there_is_the_constant():
    for name in ("constant", "affine", "quadratic"):
        features = build_features(name, 0)
        assert features.num_features == 1
        assert not features.uses_context


def test_bumps_cover_the_first_contexts_and_stay():
    contexts = np.random.default_rng(0).uniform([0, 0], [1, 100], (200, 2))
    empty = build_features("rbf:9", 2)
    assert not empty.uses_context
    features = empty.adapt_to(contexts)
    assert features.num_features == 10
    values = features(contexts)
    assert (values[:, 0] == 1).all()
    assert values[:, 1:].max(axis=1).min() > 0.3, "a context is far from all bumps"
    assert features.adapt_to(contexts + 5) is features
    own = features(features.centers)
    assert np.diag(own[:, 1:]) == pytest.approx(1)


@pytest.mark.parametrize("distinct", [1, 2, 3, 6])
def test_fewer_contexts_than_bumps(distinct):
    """As many bumps as different contexts are dependent, together with the constant."""
    generator = np.random.default_rng(0)
    apart = generator.normal(size=(distinct, 2))
    contexts = apart[generator.integers(distinct, size=60)]
    features = build_features("rbf:6", 2).adapt_to(contexts)
    assert features.num_features == distinct
    assert np.linalg.matrix_rank(features(contexts), tol=1e-3) == distinct
    assert features.adapt_to(contexts) is features
    assert features.adapt_to(contexts[::-1]).num_features == distinct


def test_bumps_are_added_by_later_contexts():
    """A first generation of few valid episodes must not decide what the run can learn."""
    generator = np.random.default_rng(0)
    contexts = generator.uniform(-1, 1, (200, 2))
    first = build_features("rbf:9", 2).adapt_to(contexts[:3])
    assert first.num_features == 3
    second = first.adapt_to(contexts[3:6])
    assert 3 < second.num_features < 10
    last = second.adapt_to(contexts)
    assert last.num_features == 10
    assert last.adapt_to(contexts + 1) is last
    for earlier in (first, second):
        width = earlier.num_features
        assert np.array_equal(last(contexts)[:, :width], earlier(contexts))
    assert last(contexts)[:, 1:].max(axis=1).min() > 0.1, "a context is far from all bumps"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(2, 60), min_size=1, max_size=6),
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(0, 2**31),
)
def test_bumps_are_independent_however_they_were_added(sizes, count, width, seed):
    generator = np.random.default_rng(seed)
    features = build_features(f"rbf:{count}", width)
    seen = []
    for size in sizes:
        # Now from here, now from there, on a narrow or a wide range.
        place, range_ = generator.normal(size=width), np.exp(generator.normal())
        seen.append(place + range_ * generator.normal(size=(size, width)))
        features = features.adapt_to(seen[-1])
    contexts = np.concatenate(seen)
    assert features.num_features == min(count, sizes[0] - 1) + 1 or len(sizes) > 1
    assert (features.widths > 0).all()
    rows = features(contexts)
    # Close ones are nearly alike: in one of 20,000 the least singular value is below 1e-8.
    assert np.linalg.matrix_rank(rows) == features.num_features


def test_a_component_that_does_not_vary_sets_no_width():
    """The spread of seventy times 0.3 is 6e-17: as a width, it makes all others unreachable."""
    contexts = np.column_stack([np.linspace(0, 1, 70), np.full(70, 0.3)])
    assert contexts[:, 1].std() > 0
    features = build_features("rbf:3", 2).adapt_to(contexts)
    moved = contexts + np.array([0.0, 1e-9])
    assert features(moved) == pytest.approx(features(contexts), abs=1e-6)


def test_contexts_that_differ_by_rounding_are_one():
    generator = np.random.default_rng(0)
    contexts = np.repeat([[0.0], [1.0], [5.0]], 20, axis=0) + 1e-9 * generator.normal(size=(60, 1))
    assert build_features("rbf:6", 1).adapt_to(contexts).num_features == 3


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["affine", "quadratic", "cubic", "rbf:7"]),
    st.integers(1, 5),
    st.integers(0, 2**31),
)
def test_a_row_is_the_same_in_any_batch(name, size, seed):
    generator = np.random.default_rng(seed)
    contexts = generator.normal(size=(67, size))
    features = build_features(name, size).adapt_to(generator.normal(size=(30, size)))
    whole = features(contexts)
    for start, stop in ((0, 1), (3, 4), (5, 12), (13, 67)):
        assert np.array_equal(features(contexts[start:stop]), whole[start:stop])
    assert np.array_equal(features(contexts[::3]), whole[::3])


def test_bumps_are_gaussian():
    generator = np.random.default_rng(0)
    features = build_features("rbf:5", 3).adapt_to(generator.normal(size=(40, 3)) * [1, 10, 0.1])
    contexts = generator.normal(size=(7, 3))
    for i, context in enumerate(contexts):
        for j, (center, width) in enumerate(zip(features.centers, features.widths, strict=True)):
            expected = np.exp(-0.5 * (((context - center) / width) ** 2).sum())
            assert features(contexts)[i, 1 + j] == pytest.approx(expected, rel=1e-12)


def test_a_function_may_compute_in_place():
    """It is given a view of what the log will say the episode's context was."""
    contexts = CONTEXTS.copy()
    features = build_features(in_place, 2)
    assert np.array_equal(features(contexts), 2 * CONTEXTS)
    assert np.array_equal(features(contexts[:1]), 2 * CONTEXTS[:1])
    assert np.array_equal(contexts, CONTEXTS)


def test_a_function_is_not_refused_for_contexts_that_it_never_has():
    """Nobody knows a task's contexts where features are made."""
    assert build_features(above_one, 2)(CONTEXTS[:1] + 1) == pytest.approx(np.log(CONTEXTS[:1]))
    assert build_features(never_one, 2)(CONTEXTS[:1]) == pytest.approx(1 / (CONTEXTS[:1] - 1))
    says = r"above_one are not finite for context \[1.0, 0.5\]"
    with pytest.raises(UsageError, match=says), np.errstate(all="ignore"):
        build_features(above_one, 2)(np.array([[1.0, 0.5]]))


def test_functions_of_one_name_do_not_take_each_others_place():
    """Records hold a name alone: two methods of that name would be one function."""
    build_features(Basis.named, 2)
    for function in (Basis(2.0).features, first):
        remember_functions([function])
        with pytest.raises(UsageError, match="use a function of a module") as refusal:
            build_features(function, 2)
        assert "\n" not in str(refusal.value)


def test_a_function_of_ones_own():
    features = build_features(doubled, 2)
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
        (never, 2, "fail: ArithmeticError: there are no features"),
        (lambda contexts: contexts, 2, "no name of its own"),
    ],
)
def test_what_is_refused(choice, size, sentence):
    with pytest.raises(UsageError, match=sentence), np.errstate(all="ignore"):
        build_features(choice, size, "policy_features")
