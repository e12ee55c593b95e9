"""The folding tree: sums whose bits do not depend on how work was cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distes.population.folding import fold, fold_chunk


def leaves(num_episodes, seed=0):
    """Numbers of very different sizes: any other order of addition shows in the bits."""
    generator = np.random.default_rng(seed)
    spread = 10.0 ** generator.uniform(-8, 8, (num_episodes, 1))
    return {
        "moments": generator.normal(size=(num_episodes, 5)) * spread,
        "count": generator.normal(size=(num_episodes, 1)) * spread,
        "matrix": generator.normal(size=(num_episodes, 2, 3)) * spread[:, :, None],
    }


def reports(rows, start, stop):
    """What the episodes ``start .. stop`` report, one by one."""
    return [{name: values[i] for name, values in rows.items()} for i in range(start, stop)]


def chunked(rows, cuts, num_episodes):
    edges = [0, *sorted(cuts), num_episodes]
    return [
        fold_chunk(start, reports(rows, start, stop)) for start, stop in itertools.pairwise(edges)
    ]


@st.composite
def cut_episodes(draw):
    num_episodes = draw(st.integers(1, 300))
    inner = st.integers(1, max(num_episodes - 1, 1))
    cuts = draw(st.sets(inner, max_size=20)) if num_episodes > 1 else set()
    return num_episodes, cuts, draw(st.integers(0, 2**32))


@settings(max_examples=150, deadline=None)
@given(cut_episodes(), st.randoms(use_true_random=False))
def test_sums_have_the_same_bits_however_episodes_are_cut(case, random):
    """Otherwise a run with normalised observations depends on the number of workers."""
    num_episodes, cuts, seed = case
    rows = leaves(num_episodes, seed)
    expected = fold(fold_chunk(0, reports(rows, 0, num_episodes)), num_episodes)
    nodes = [node for chunk in chunked(rows, cuts, num_episodes) for node in chunk]
    random.shuffle(nodes)
    found = fold(nodes, num_episodes)
    assert found.keys() == rows.keys()
    for name, values in rows.items():
        assert np.array_equal(found[name], expected[name])
        assert found[name].shape == values.shape[1:]
        # And it is the sum: cancelling leaves an error relative to the largest terms.
        assert found[name] == pytest.approx(
            values.sum(axis=0), rel=1e-10, abs=1e-12 * np.abs(values).sum()
        )


@pytest.mark.parametrize("num_episodes", [1, 2, 3, 7, 8, 9, 63, 64, 65, 300])
def test_one_chunk_per_episode_equals_one_chunk(num_episodes):
    """Otherwise shrinking chunks at the end of a generation change its sums."""
    rows = leaves(num_episodes)
    singles = itertools.chain.from_iterable(
        chunked(rows, range(1, num_episodes), num_episodes),
    )
    expected = fold(fold_chunk(0, reports(rows, 0, num_episodes)), num_episodes)
    found = fold(singles, num_episodes)
    assert all(np.array_equal(found[name], expected[name]) for name in rows)


def test_naive_folding_by_chunk_would_show():
    """Otherwise the numbers used here could not tell one order of addition from another."""
    rows = leaves(300)["moments"]
    sums = {
        sum(rows[i : i + size].sum(axis=0) for i in range(0, 300, size)).tobytes()
        for size in (1, 7, 50, 300)
    }
    assert len(sums) > 1


@given(st.integers(0, 500), st.integers(0, 500))
def test_whole_nodes_tile_the_chunk_with_few_aligned_nodes(one, other):
    """Otherwise episodes are lost or counted twice, or a chunk's reply grows with its size."""
    start, stop = min(one, other), max(one, other)
    nodes = fold_chunk(start, [{}] * (stop - start))
    covered = [i for level, index, _ in nodes for i in range(index << level, (index + 1) << level)]
    assert covered == list(range(start, stop))
    assert len(nodes) <= 2 * max(stop - start, 1).bit_length()


def test_aligned_chunk_is_one_node():
    """Otherwise aligned chunks, as the evaluators cut them, are no cheaper than others."""
    assert [node[:2] for node in fold_chunk(64, [{}] * 64)] == [(6, 1)]


def one_of(rows, level, index):
    start, stop = index << level, (index + 1) << level
    return fold_chunk(start, reports(rows, start, stop))[0]


@pytest.mark.parametrize(
    ("nodes", "num_episodes"),
    [
        pytest.param([(0, 0), (0, 1)], 3, id="the last is missing"),
        pytest.param([(0, 1), (0, 2)], 3, id="the first is missing"),
        pytest.param([(0, 0), (0, 2)], 3, id="one between is missing"),
        pytest.param([(0, 0), (0, 5)], 2, id="as many, but others"),
        pytest.param([(1, 0), (0, 0)], 3, id="one inside another"),
        pytest.param([(1, 0), (0, 1)], 3, id="one inside another, its second"),
        pytest.param([(0, 0), (0, 0), (0, 1)], 2, id="one twice"),
        pytest.param([(0, 0), (0, 0)], 2, id="one twice, another missing"),
        pytest.param([(1, 0), (0, 2)], 2, id="one too many"),
    ],
)
def test_nodes_that_do_not_cover_the_episodes_are_refused(nodes, num_episodes):
    """Otherwise a chunk lost or delivered twice skews the statistics in silence."""
    rows = leaves(8)
    made = [one_of(rows, *node) for node in nodes]
    with pytest.raises(ValueError, match=f"do not cover {num_episodes} episodes"):
        fold(made, num_episodes)


def test_no_probes_no_sums():
    """Otherwise populations without probes cannot be put together."""
    assert fold([], 10) == {}
