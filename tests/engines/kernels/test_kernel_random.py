"""Generators in kernels: the words of numpy's, seed by seed."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import PCG64, Generator, Philox, SeedSequence

pytest.importorskip("numba")

from distes.engines.kernels import random as kernel_random
from distes.engines.kernels.random import (
    ENVIRONMENT_WORDS,
    POLICY_WORDS,
    normal,
    policy_random,
    random,
    seed_environment,
    seed_policy,
    uniform,
)
from distes.seeds import _Domain, policy_generator

SEEDS = st.integers(0, 2**64 - 1) | st.integers(0, 63).map(lambda bits: 2**bits)
EDGES = [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def word(seed: int) -> Any:
    """What engines pass, as far as it holds the seed."""
    return np.int64(seed) if seed < 2**63 else np.uint64(seed)


def environment(seed: int) -> Any:
    generator = np.zeros(ENVIRONMENT_WORDS, np.uint64)
    seed_environment(generator, word(seed))
    return generator


def policy(seed: int) -> Any:
    generator = np.full(POLICY_WORDS, 7, np.uint64)  # what an earlier episode left
    seed_policy(generator, word(seed))
    return generator


def pcg_words(seed: int) -> list[int]:
    state: Any = PCG64(SeedSequence(seed)).state["state"]
    return [n for key in ("state", "inc") for n in divmod(state[key], 2**64)]


@given(seed=SEEDS)
@settings(max_examples=300, deadline=None)
def test_an_environments_generator_starts_as_numpys(seed: int) -> None:
    """All 256 bits: the first draws alone would hide a wrong increment for a while."""
    assert environment(seed).tolist() == pcg_words(seed)


@pytest.mark.parametrize("seed", EDGES)
def test_edges_of_words(seed: int) -> None:
    """Seeds of one 32-bit word and of two are hashed differently."""
    assert environment(seed).tolist() == pcg_words(seed)
    expected = policy_generator(seed)
    generator = policy(seed)
    assert [policy_random(generator) for _ in range(9)] == expected.random(9).tolist()


@given(seed=SEEDS, low=st.floats(-1e6, 1e6), width=st.floats(0, 1e6))
@settings(max_examples=300, deadline=None)
def test_uniform_draws_are_gymnasiums(seed: int, low: float, width: float) -> None:
    """Interleaved with plain draws, bit for bit."""
    expected, _ = gym.utils.seeding.np_random(seed)
    generator = environment(seed)
    for _ in range(3):
        assert random(generator) == expected.random()
        assert uniform(generator, low, low + width) == expected.uniform(low, low + width)
    array = expected.uniform(low, low + width, size=(4,)).tolist()
    assert [uniform(generator, low, low + width) for _ in range(4)] == array


@given(seed=SEEDS)
@settings(max_examples=300, deadline=None)
def test_policies_draw_as_from_their_own_generator(seed: int) -> None:
    """Over several of Philox's blocks of four words."""
    expected = policy_generator(seed)
    generator = policy(seed)
    assert [policy_random(generator) for _ in range(23)] == expected.random(23).tolist()


def test_a_carry_in_the_middle_of_a_product_is_not_lost() -> None:
    """Long streams meet every carry of the 128-bit arithmetic."""
    generator = environment(12345)
    expected = Generator(PCG64(12345)).random(200_000)
    found = np.array([random(generator) for _ in range(len(expected))])
    np.testing.assert_array_equal(found, expected)
    keyed = policy(98765)
    words = Generator(Philox(key=keyed[:2].copy())).random(100_000)
    np.testing.assert_array_equal(np.array([policy_random(keyed) for _ in words]), words)


def test_the_policies_domain_is_the_projects() -> None:
    """Two numbers that must not part."""
    assert int(kernel_random._POLICY_DOMAIN) == _Domain.POLICY


@pytest.mark.parametrize("seed", range(4))
def test_normal_draws_are_numpys(seed: int) -> None:
    """A hundred thousand draws of each seed, some in the tails beyond the ziggurat's last layer.

    If wrong: MuJoCo's environments start elsewhere than Gymnasium's.
    """
    numba = pytest.importorskip("numba")

    @numba.njit
    def fill(generator: Any, drawn: Any) -> None:
        for i in range(len(drawn)):
            drawn[i] = normal(generator)

    drawn = np.empty(100_000)
    fill(environment(seed), drawn)
    expected = Generator(PCG64(SeedSequence(seed))).standard_normal(len(drawn))
    assert np.abs(expected).max() > kernel_random._TAIL
    np.testing.assert_array_equal(drawn, expected)
