"""Seeds and noise: functions of what they are for, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distes.population.distributions import Point
from distes.population.records import Population
from distes.seeds import (
    BLOCK_COLUMNS,
    BLOCK_NORMALS,
    Purpose,
    RunKey,
    episode_seeds,
    noise,
    noise_key,
    policy_generator,
    splitmix,
    strategy_generator,
)

KEY = RunKey(seed=7, generation=2)
SEARCH_BIT = 1 << 62


def population(size=40, episodes=3, seed_group=1, purpose=Purpose.SEARCH):
    return Population(
        Point(np.zeros(1)), size, episodes=episodes, seed_group=seed_group, purpose=purpose
    )


RAGGED = np.random.default_rng(0).integers(0, 6, size=40)


@pytest.mark.parametrize("episodes", [1, 3, RAGGED], ids=["one", "three", "ragged"])
@pytest.mark.parametrize("seed_group", [1, 2, 7, 40])
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_seeds_of_a_slice_are_a_slice_of_the_seeds(episodes, seed_group, data):
    """Otherwise an episode's seed depends on the chunk in which it ran."""
    whole = population(episodes=episodes, seed_group=seed_group)
    start = data.draw(st.integers(0, whole.num_episodes - 1))
    stop = data.draw(st.integers(start, whole.num_episodes))
    seeds = whole.seeds(KEY, 0, whole.num_episodes)
    assert np.array_equal(whole.seeds(KEY, start, stop), seeds[start:stop])


@pytest.mark.parametrize("run_seed", [0, 1, 2**32, 2**63 - 1])
@pytest.mark.parametrize("purpose", Purpose)
def test_search_seeds_are_apart_from_all_others(purpose, run_seed):
    """Otherwise a solution may be scored on an episode that it was selected on."""
    every = population(purpose=purpose)
    seeds = every.seeds(RunKey(run_seed, 0), 0, every.num_episodes)
    assert seeds.dtype == np.int64
    assert (seeds >= 0).all()
    assert ((seeds & SEARCH_BIT != 0) == (purpose != Purpose.SEARCH)).all()


def test_a_purpose_read_back_as_a_number_counts_alike():
    """Otherwise a population read from a file, whose purpose is 0, is not search."""
    index = np.arange(3)
    assert np.array_equal(
        episode_seeds(KEY, 0, index, index), episode_seeds(KEY, Purpose.SEARCH, index, index)
    )


def test_everything_that_names_an_evaluation_changes_its_seeds():
    """Otherwise generations repeat their episodes, or a re-evaluation the first one."""
    keys = [RunKey(7, 2, 0), RunKey(8, 2, 0), RunKey(7, 3, 0), RunKey(7, 2, 1), RunKey(2, 7, 0)]
    every = population()
    seeds = [every.seeds(key, 0, every.num_episodes) for key in keys]
    seeds += [population(purpose=purpose).seeds(KEY, 0, 120) for purpose in Purpose if purpose]
    together = np.concatenate(seeds)
    assert len(np.unique(together)) == len(together)


def test_large_run_seeds_are_not_cut():
    """Otherwise run seeds that agree in their low bits give the same run."""
    seeds = [5, 5 + 2**32, 5 + 2**62, 2**63 - 1]
    firsts = {population().seeds(RunKey(seed, 0), 0, 1).item() for seed in seeds}
    assert len(firsts) == len(seeds)


def test_seed_groups_share_and_only_groups_do():
    """Otherwise mirrored pairs do not meet the same episodes, or strangers do."""
    candidates = population(size=6, episodes=2, seed_group=2).seeds(KEY, 0, 12).reshape(3, 2, 2)
    assert np.array_equal(candidates[:, 0], candidates[:, 1])
    assert len(np.unique(candidates[:, 0])) == 6


def test_common_random_numbers_are_common():
    """Otherwise --common-seeds compares candidates on different episodes."""
    seeds = population(size=5, episodes=3, seed_group=5).seeds(KEY, 0, 15).reshape(5, 3)
    assert (seeds == seeds[0]).all()
    assert len(np.unique(seeds[0])) == 3


def test_episodes_of_another_number_keep_their_seeds():
    """Otherwise asking for more episodes changes the ones there were."""
    few = population(episodes=2).seeds(KEY, 0, 80).reshape(40, 2)
    many = population(episodes=5).seeds(KEY, 0, 200).reshape(40, 5)
    assert np.array_equal(few, many[:, :2])


def test_seed_bits_are_even():
    """Otherwise a masked or constant bit halves the seeds there are.

    Each bit of n seeds is one n/2 ± 5·sqrt(n)/2 times, with probability 1 - 6e-7.
    """
    n = 4096
    seeds = population(size=n, episodes=1).seeds(KEY, 0, n)
    ones = np.array([np.count_nonzero(seeds >> bit & 1) for bit in range(62)])
    assert (np.abs(ones - n / 2) < 5 * np.sqrt(n) / 2).all()


def test_no_episodes_no_seeds():
    """Otherwise an empty population stops the run."""
    assert len(population().seeds(KEY, 5, 5)) == 0


@pytest.mark.parametrize("size", [1, 3, 100, BLOCK_NORMALS, BLOCK_NORMALS + 1])
@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.integers(0, 299), min_size=1, max_size=30))
def test_noise_rows_do_not_depend_on_the_request(size, rows):
    """Otherwise a worker's noise depends on which candidates it was given, and in what order."""
    key = noise_key(3, 1)
    together = noise(key, np.array(rows), size)
    for row, values in zip(rows, together, strict=True):
        assert np.array_equal(noise(key, np.array([row]), size)[0], values)


@pytest.mark.parametrize("size", [0, 1, 3, 100, BLOCK_NORMALS - 1, BLOCK_NORMALS + 1])
@settings(max_examples=40, deadline=None)
@given(first=st.integers(0, 9000), count=st.integers(0, 100))
def test_successive_rows_are_those_of_any_other_request(size, first, count):
    """They are generated in place: blocks may begin and end anywhere among them."""
    key, rows = noise_key(3, 1), np.arange(first, first + count)
    backwards = noise(key, rows[::-1], size)[::-1]
    assert np.array_equal(noise(key, rows, size), backwards)
    assert backwards.shape == (count, size)


@pytest.mark.parametrize("size", [3, 100])
def test_noise_is_that_of_philox_under_its_key(size):
    """If wrong: a run of another version, or one that is resumed, draws other candidates."""
    key = noise_key(2**40 + 3, 5, 1)
    words = np.random.SeedSequence(2**40 + 3, spawn_key=(2, 5, 1)).generate_state(2, np.uint64)
    assert key == tuple(words.tolist())
    per_block = BLOCK_NORMALS // size
    for block in (0, 3):
        philox = np.random.Philox(key=words, counter=[0, 0, 0, block])
        expected = np.random.Generator(philox).standard_normal((4, size))
        assert np.array_equal(noise(key, block * per_block + np.arange(4), size), expected)


def test_noise_belongs_to_who_asked():
    """If wrong: a sum of squares, made in place, squares the noise of the next to ask."""
    key, rows = noise_key(3, 1), np.arange(4)
    expected = noise(key, rows, 3).copy()
    noise(key, rows, 3)[:] = 0
    assert np.array_equal(noise(key, rows, 3), expected)


@settings(max_examples=40, deadline=None)
@given(columns=st.lists(st.integers(0, 2 * BLOCK_COLUMNS + 5), min_size=2, max_size=2))
@pytest.mark.parametrize("size", [7, 2 * BLOCK_COLUMNS + 5])
def test_some_columns_are_those_of_all(size, columns):
    """Otherwise a sum over coordinates depends on who has which of them."""
    key, rows = noise_key(3, 1), np.array([2, 3, 50])
    start, stop = sorted(min(each, size) for each in columns)
    whole = noise(key, rows, size)
    assert np.array_equal(noise(key, rows, size, (start, stop)), whole[:, start:stop])


def test_column_blocks_differ():
    """Otherwise a wide row repeats itself."""
    row = noise(noise_key(3, 1), np.array([1]), 3 * BLOCK_COLUMNS)
    assert len(np.unique(row)) == row.size


def test_noise_rows_differ():
    """Otherwise blocks, or rows within a block, repeat."""
    table = noise(noise_key(3, 1), np.arange(5000), 3)
    assert len(np.unique(table)) == table.size


def test_noise_far_out():
    """Otherwise a long run's block numbers wrap around to the first."""
    key = noise_key(2**63 - 1, 10**6, 5)
    rows = np.array([0, 2**40])
    first, far = noise(key, rows, 2)
    assert not np.array_equal(first, far)
    assert np.isfinite(far).all()


def test_noise_is_standard_normal():
    """Otherwise step sizes are not what they say.

    Mean and variance of n normals lie within 5 standard errors, sqrt(1/n) and sqrt(2/n).
    """
    values = noise(noise_key(0, 0), np.arange(20_000), 5).ravel()
    n = len(values)
    assert abs(values.mean()) < 5 / np.sqrt(n)
    assert abs(values.var() - 1) < 5 * np.sqrt(2 / n)
    # Neighbouring rows and columns are not correlated.
    table = values.reshape(-1, 5)
    for one, other in ((table[:-1], table[1:]), (table[:, :-1], table[:, 1:])):
        assert abs(np.mean(one * other)) < 5 / np.sqrt(one.size)


def test_generators_are_keyed_by_what_they_are_for():
    """Otherwise a policy's choices repeat the strategy's, or the next episode's."""
    draws = [
        make.integers(2**63)
        for make in (
            policy_generator(1),
            policy_generator(2),
            policy_generator(2**63 - 1),
            strategy_generator(1),
            strategy_generator(1, 0),
            strategy_generator(1, 0, 0),
            strategy_generator(2),
        )
    ]
    assert len(set(draws)) == len(draws)
    assert policy_generator(1).integers(2**63) == draws[0]
    assert strategy_generator(1, 0).integers(2**63) == draws[4]


def test_global_random_state_is_neither_used_nor_changed():
    """Otherwise a user's np.random.seed changes the run, or the run the user's numbers."""
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = noise(noise_key(0, 0), np.arange(3), 3), population().seeds(KEY, 0, 9)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    second = noise(noise_key(0, 0), np.arange(3), 3), population().seeds(KEY, 0, 9)
    assert all(map(np.array_equal, first, second))


def test_splitmix_is_splitmix64() -> None:
    """The first words for the seed 1234567, as published with the reference C code's tests."""
    state = np.full(5, 1234567, dtype=np.uint64)
    words = splitmix(state, np.arange(5, dtype=np.uint64))
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    expected += [4593380528125082431, 16408922859458223821]
    assert words.tolist() == expected
