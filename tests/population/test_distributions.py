"""Distributions: any draw is the same whoever asks, and follows the law it names."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
from cma.transformations import BoxConstraintsLinQuadTransformation
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng
from threadpoolctl import threadpool_limits

from distes.policies import products
from distes.population.distributions import Boxed, Concat, Gaussian, LowRankGaussian, Point, Table
from distes.population.records import Distribution
from distes.seeds import BLOCK_COLUMNS, noise_key

KEY = noise_key(seed=5, generation=3)
N = 70


def gaussian(d, full=False, mirrored=False, seed=0):
    generator = default_rng(seed)
    scale = generator.normal(size=(d, d)) if full else generator.uniform(0.1, 2.0, d)
    return Gaussian(generator.normal(size=d), scale, KEY, mirrored)


def low_rank(d, count=3):
    generator = default_rng(3)
    directions = generator.normal(size=(count, d))
    mixing = generator.normal(size=(count, count)) / d
    scale = generator.uniform(0.1, 2.0, d)
    mean = generator.normal(size=d)
    return LowRankGaussian(mean, scale, KEY, directions=directions, mixing=mixing, share=0.9)


def union(d):
    generator = default_rng(1)
    return Concat(
        (
            gaussian(d, mirrored=True),
            Table(generator.normal(size=(9, d))),
            Point(generator.normal(size=d)),
            gaussian(d, full=d <= 300, seed=2),
        ),
        (30, 9, 1, 30),
    )


KINDS = {
    "point": lambda d: Point(default_rng(0).normal(size=d)),
    "table": lambda d: Table(default_rng(0).normal(size=(N, d))),
    "diagonal": gaussian,
    "mirrored": lambda d: gaussian(d, mirrored=True),
    "full": lambda d: gaussian(d, full=True),
    "full mirrored": lambda d: gaussian(d, full=True, mirrored=True),
    "low rank": low_rank,
    "one direction": lambda d: low_rank(d, 1),
    "boxed": lambda d: Boxed(gaussian(d), -0.5, 0.7),
    "union": union,
}

WHOLE: dict[tuple[str, int], tuple[Distribution, np.ndarray]] = {}


def whole(kind, d):
    """A distribution and its candidates drawn in one go, as a driver would."""
    if (kind, d) not in WHOLE:
        made = KINDS[kind](d)
        WHOLE[kind, d] = made, made.draw(np.arange(N))
    return WHOLE[kind, d]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(d=st.sampled_from([1, 2, 3, 10, 65, 256]), cuts=st.sets(st.integers(1, N - 1), max_size=8))
def test_draws_are_equal_however_candidates_are_split(kind, d, cuts):
    """Otherwise a worker evaluates other parameters than the driver learns from."""
    distribution, expected = whole(kind, d)
    edges = [0, *sorted(cuts), N]
    parts = [distribution.draw(np.arange(start, stop)) for start, stop in pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(
    d=st.sampled_from([1, 4, 65]),
    chosen=st.lists(st.integers(0, N - 1), min_size=1, max_size=12),
)
def test_draws_are_equal_in_any_order_and_repeated(kind, d, chosen):
    """Otherwise elites drawn again after a generation differ from what was evaluated."""
    distribution, expected = whole(kind, d)
    assert np.array_equal(distribution.draw(np.array(chosen)), expected[chosen])


@pytest.mark.parametrize(
    ("kind", "d"),
    [
        (kind, d)
        for d in (300, 5000)
        for kind in KINDS
        if d <= 300 or kind not in {"full", "full mirrored"}
    ],
)
def test_large_draws_are_equal_one_by_one(kind, d):
    """Otherwise BLAS, or a row longer than a noise block, brings the batch into the bits."""
    distribution, expected = whole(kind, d)
    for candidate in (0, 1, 29, 30, 38, 39, 40, 63, 64, N - 1):
        assert np.array_equal(distribution.draw(np.array([candidate]))[0], expected[candidate])
    assert np.array_equal(distribution.draw(np.arange(60, N)), expected[60:])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("d", [256, 300, 700])
def test_full_covariance_does_not_depend_on_blas_threads(d, threads):
    """Otherwise a worker with another share of the cores draws other candidates."""
    distribution = gaussian(d, full=True)
    expected = distribution.draw(np.arange(N))
    with threadpool_limits(threads):
        assert np.array_equal(distribution.draw(np.arange(N)), expected)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40),
    size=st.integers(1, 60),
    out=st.integers(1, 20),
    seed=st.integers(0, 2**32),
)
def test_product_of_a_row_is_that_row_of_a_batch(rows, size, out, seed):
    """Otherwise a policy acting alone and in a batch takes different actions."""
    generator = default_rng(seed)
    left, matrix = generator.normal(size=(rows, size)), generator.normal(size=(size, out))
    batch = products.multiply(left, products.lay_out(matrix))
    single = [products.multiply(row, products.lay_out(matrix)) for row in left]
    assert np.array_equal(batch, single)
    assert batch[:, :out] == pytest.approx(left @ matrix, rel=1e-10, abs=1e-12)
    assert not batch[:, out:].any()


@pytest.mark.parametrize("full", [False, True])
def test_mirrored_pairs_lie_about_the_mean(full):
    """Otherwise the pairs' differences are no gradient, and their means no centre."""
    distribution = gaussian(7, full=full, mirrored=True)
    draws = distribution.draw(np.arange(N))
    sums = draws[0::2] + draws[1::2]
    assert sums == pytest.approx(np.tile(2 * distribution.mean, (N // 2, 1)), rel=1e-12, abs=1e-12)
    noise = distribution.noise(np.arange(N))
    assert np.array_equal(noise[0::2], -noise[1::2])
    # Pairs differ from one another: mirroring must not use one noise for all.
    assert len(np.unique(noise[0::2, 0])) == N // 2


@pytest.mark.parametrize("full", [False, True])
def test_draws_are_mean_plus_scaled_noise(full):
    """Otherwise weighted noise (the ES gradient) belongs to other candidates."""
    distribution = gaussian(6, full=full, mirrored=True)
    scale = distribution.scale if full else np.diag(distribution.scale)
    rows = np.arange(N)
    expected = np.array([distribution.mean + scale @ noise for noise in distribution.noise(rows)])
    assert distribution.draw(rows) == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("d", [1, 5, 2 * BLOCK_COLUMNS + 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_noise_is_weighed_as_if_it_were_one_table(mirrored, d):
    """If wrong: evolution strategies step elsewhere than their candidates' returns say."""
    distribution, n = gaussian(d, mirrored=mirrored), 131
    weights, squares = np.random.default_rng(5).normal(size=(2, n))
    weights[10:30] = squares[10:20] = 0.0
    drawn = distribution.noise(np.arange(n))
    first, second = distribution.weigh_noise(weights, squares)
    assert first == pytest.approx(weights @ drawn, abs=1e-11)
    assert second == pytest.approx(squares @ drawn**2, abs=1e-11)
    assert not distribution.weigh_noise(weights)[1].any()


def test_union_is_its_parts():
    """Otherwise retained elites or the mean are not what is evaluated in their place."""
    distribution = union(5)
    draws = distribution.draw(np.arange(N))
    start = 0
    for part, size in zip(distribution.parts, distribution.sizes, strict=True):
        assert np.array_equal(draws[start : start + size], part.draw(np.arange(size)))
        start += size


class Shifted:
    """Parameters equal to the context: shows whose context a candidate gets."""

    num_parameters, uses_context = 2, True

    def draw(self, candidates, contexts=None):
        return contexts + 100.0 * candidates[:, None]


def test_union_hands_each_part_its_own_contexts():
    """Otherwise candidates of the second part see contexts of the first."""
    distribution = Concat((Point(np.zeros(2)), Shifted()), (3, 4))
    contexts = np.arange(14.0).reshape(7, 2)
    draws = distribution.draw(np.arange(7), contexts)
    assert not draws[:3].any()
    assert np.array_equal(draws[3:], contexts[3:] + 100.0 * np.arange(4)[:, None])
    assert distribution.uses_context
    assert not Concat((Point(np.zeros(2)),), (3,)).uses_context


def test_candidates_beyond_a_union_are_refused():
    """Otherwise a population larger than its parts evaluates uninitialised memory."""
    with pytest.raises(IndexError, match="candidate 4 of a union of 4"):
        Concat((Point(np.zeros(2)), Point(np.ones(2))), (2, 2)).draw(np.array([0, 4]))


def test_no_candidates():
    """Otherwise an empty chunk stops the run."""
    for make in KINDS.values():
        assert make(3).draw(np.arange(0)).shape == (0, 3)


def test_draws_can_be_changed_without_changing_the_distribution():
    """Otherwise a policy that writes into its parameters changes the next candidate."""
    for kind in ("point", "table", "union"):
        distribution = KINDS[kind](3)
        expected = distribution.draw(np.arange(N)).copy()
        with pytest.raises(ValueError, match="read-only") if kind == "point" else nullcontext():
            distribution.draw(np.arange(N))[:] = 0.0
        assert np.array_equal(distribution.draw(np.arange(N)), expected)


@pytest.mark.parametrize("mirrored", [False, True])
def test_moments_are_those_named(mirrored):
    """Otherwise scale is not a standard deviation or a factor A of A Aᵀ.

    The bounds hold with probability above 1 - 1e-6: a mean of n draws has standard error
    sqrt(Σii / n), a covariance at most sqrt(2 Σii Σjj / n); mirrored draws count half.
    """
    n, d = 40_000, 3
    mean = np.array([1.0, -2.0, 0.5])
    factor = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [-0.5, 0.3, 2.0]])
    covariance = factor @ factor.T
    for scale, expected in ((factor, covariance), (np.array([0.5, 1.0, 3.0]), None)):
        sigma = np.diag(scale**2) if expected is None else expected
        draws = Gaussian(mean, scale, KEY, mirrored).draw(np.arange(n))
        spread = np.sqrt(np.diag(sigma))
        assert (np.abs(draws.mean(axis=0) - mean) < 6 * spread / np.sqrt(n)).all()
        bound = 6 * np.sqrt(2 / (n / (1 + mirrored))) * np.outer(spread, spread)
        assert (np.abs(np.cov(draws.T) - sigma) < bound).all()
        assert draws.shape == (n, d)


def test_keys_separate_generations_and_streams():
    """Otherwise two generations, or two samplers of one, share their noise."""
    keys = [noise_key(5, 3), noise_key(5, 4), noise_key(6, 3), noise_key(5, 3, stream=1)]
    draws = [Gaussian(np.zeros(4), np.ones(4), key).draw(np.arange(6)).tobytes() for key in keys]
    assert len(set(draws)) == len(keys)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (-0.01, 0.02), (5.0, 900.0)])
def test_a_box_is_that_of_cma(low, high):
    """If wrong: candidates leave the bounds, or jump where the search takes a small step."""
    points = np.linspace(low - 3 * (high - low), high + 3 * (high - low), 4001)[:, None]
    theirs = BoxConstraintsLinQuadTransformation([[low, high]])
    expected = [theirs([x])[0] for x in points[:, 0]]
    box = Boxed(Table(points), low, high)
    drawn = box.draw(np.arange(len(points)))
    assert drawn[:, 0] == pytest.approx(expected, rel=1e-9, abs=1e-9 * (high - low))
    assert drawn.min() >= low
    assert drawn.max() <= high
    inside = np.linspace(low, high, 101)[:, None]
    bent = Boxed(Table(box.unbend(inside)), low, high).draw(np.arange(101))
    assert bent == pytest.approx(inside, abs=1e-9 * (high - low))
