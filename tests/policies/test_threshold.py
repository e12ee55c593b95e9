"""The threshold policy: one output, and which action it is."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from distes.errors import UsageError
from distes.policies import Threshold
from distes.tasks.environment import Task

SEEN = Box(-10.0, 10.0, (1,), np.float64)


def actions(spec, count, outputs, start=0):
    policy = spec.build(SEEN, Discrete(count, start=start))
    act = policy.bind(np.ones(policy.num_parameters))
    return [act(np.array([float(value)]), None) for value in outputs]


def test_two_actions_part_at_zero():
    """CartPole's convention: right from 0 on."""
    assert actions(Threshold(), 2, [-1e-9, 0.0, 1e-9]) == [0, 1, 1]


def test_three_actions_part_at_minus_one_and_one():
    """Acrobot's: a dead band around 0."""
    assert actions(Threshold(), 3, [-2, -1, 0, 0.99, 1, 5]) == [0, 1, 1, 1, 2, 2]


def test_more_actions():
    assert actions(Threshold(), 4, [-3, -2, 0, 1, 2]) == [0, 1, 2, 2, 3]
    assert actions(Threshold(), 1, [-3, 3]) == [0, 0]
    assert actions(Threshold(), 2, [-1, 1], start=5) == [5, 6]


def test_own_thresholds_and_bias():
    assert actions(Threshold(bias=True), 2, [-1.5, -1.0, 0.0]) == [0, 1, 1]
    assert actions(Threshold(thresholds=(0.5, 0.6)), 3, [0.4, 0.55, 0.7]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("env", "bias", "expected"),
    [("CartPole-v1", False, 4), ("CartPole-v1", True, 5), ("Acrobot-v1", False, 6)],
)
def test_number_of_parameters(env, bias, expected):
    policy = Task(env).build_policy(Threshold(bias=bias))
    assert policy.num_parameters == expected
    assert np.array_equal(policy.initial(np.random.default_rng(0)), np.zeros(expected))


@pytest.mark.parametrize("thresholds", [(1.0, 1.0), (2.0, 1.0), (float("nan"),)])
def test_thresholds_must_increase(thresholds):
    with pytest.raises(UsageError, match="are not finite and increasing"):
        Threshold(thresholds=thresholds)


def test_thresholds_must_fit_the_actions():
    with pytest.raises(UsageError, match=r"1 thresholds for Discrete\(3\): 2 are due"):
        Threshold(thresholds=(0.0,)).build(SEEN, Discrete(3))
    with pytest.raises(UsageError, match="action space Box"):
        Threshold().build(SEEN, SEEN)
