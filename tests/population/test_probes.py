"""Probes: what episodes report, and to what precision."""

from __future__ import annotations

import numpy as np
import pytest

from distes.policies.identity import DirectPolicy
from distes.population.folding import fold, fold_chunk
from distes.population.probes import ObservationMoments
from distes.population.records import Trajectory

POLICY = DirectPolicy(np.zeros(1))
"""Moments of observations do not look at it."""


def trajectory(observations):
    return Trajectory(
        np.empty(0), np.asarray(observations, dtype=np.float64), np.empty(0), np.empty(0)
    )


@pytest.mark.parametrize("size", [1, 2, 17])
def test_moments_match_numpy(size):
    """Otherwise observations are normalised by wrong figures."""
    generator = np.random.default_rng(4)
    episodes = [generator.normal(3.0, 2.0, (steps, size)) for steps in (5, 1, 40, 17)]
    probe = ObservationMoments(np.full(size, 2.5))
    each = [probe.sums(trajectory(episode), POLICY, {}) for episode in episodes]
    sums = fold(fold_chunk(0, each), len(episodes))
    together = np.concatenate(episodes)
    count = sums["observation_count"]
    shift = sums["observation_sum"] / count
    variance = sums["observation_square_sum"] / count - shift**2
    assert count == len(together)
    assert probe.center + shift == pytest.approx(together.mean(axis=0), rel=1e-12)
    assert variance == pytest.approx(together.var(axis=0), rel=1e-10)


def test_a_centre_keeps_precision():
    """Otherwise a variance of 1 about 1e8 is lost: its squares cancel to nothing."""
    observations = 1e8 + np.random.default_rng(0).normal(size=(1000, 1))
    sums = ObservationMoments(np.array([1e8])).sums(trajectory(observations), POLICY, {})
    shift = sums["observation_sum"] / 1000
    variance = sums["observation_square_sum"] / 1000 - shift**2
    assert variance == pytest.approx(observations.var(axis=0), rel=1e-6)


def test_a_column_sums_alike_alone_and_beside_others():
    """Otherwise numpy's pairwise sum of a single column has other bits than the rest."""
    observations = np.random.default_rng(0).normal(size=(1000, 1)) * 1e3
    alone = ObservationMoments(np.zeros(1)).sums(trajectory(observations), POLICY, {})
    beside = ObservationMoments(np.zeros(3)).sums(
        trajectory(np.repeat(observations, 3, axis=1)), POLICY, {}
    )
    for name in ("observation_sum", "observation_square_sum"):
        assert np.array_equal(np.repeat(alone[name], 3), beside[name])


def test_an_episode_without_steps_adds_nothing():
    """Otherwise a failed episode has sums of another shape, and the tree cannot add them."""
    sums = ObservationMoments(np.ones(3)).sums(trajectory(np.empty((0, 3))), POLICY, {})
    assert {name: value.shape for name, value in sums.items()} == {
        "observation_count": (1,),
        "observation_sum": (3,),
        "observation_square_sum": (3,),
    }
    assert not any(value.any() for value in sums.values())


def test_moments_ask_for_observations_alone():
    """Otherwise actions and rewards are recorded at every step for nothing."""
    assert ObservationMoments(np.zeros(1)).records == {"observations"}
