"""The PID controller against its formula written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary
from hypothesis import given
from hypothesis import strategies as st

from distes.errors import UsageError
from distes.policies import Pid
from distes.tasks.environment import Task

ROBOT = (
    Box(np.array([0.0, -2.0]), np.array([np.inf, 2.0]), dtype=np.float64),
    Box(-324.0, 324.0, (2,), np.float64),
)


def by_hand(gains, observations, setpoint=(10.0, 0.0), dt=0.1):
    """Two observations, two actions, with plain numbers."""
    kp, ki, kd = (
        [[gains[4 * i], gains[4 * i + 1]], [gains[4 * i + 2], gains[4 * i + 3]]] for i in range(3)
    )
    summed, before, actions = [0.0, 0.0], None, []
    for seen in observations:
        error = [setpoint[0] - seen[0], setpoint[1] - seen[1]]
        error[0] = math.log(1 + error[0]) if error[0] >= 0 else math.log(-1 / (error[0] - 1))
        rate = (
            [0.0, 0.0]
            if before is None
            else [(e - b) / dt for e, b in zip(error, before, strict=True)]
        )
        before = error
        action = []
        for i in range(2):
            summed[i] += (ki[i][0] * error[0] + ki[i][1] * error[1]) * dt
            summed[i] = max(-30.0, min(30.0, summed[i]))
            total = kp[i][0] * error[0] + kp[i][1] * error[1] + summed[i] + 150
            total += kd[i][0] * rate[0] + kd[i][1] * rate[1]
            action.append(max(-324.0, min(324.0, total)))
        actions.append(action)
    return actions


@given(seed=st.integers(0, 2**32), scale=st.sampled_from([0.1, 3.0, 200.0]))
def test_formula(seed, scale):
    """Rows and columns exchanged, or an integral without its limit, would differ."""
    generator = np.random.default_rng(seed)
    gains = generator.normal(size=12) * scale
    observations = np.stack([generator.uniform(0, 300, 20), generator.uniform(-1, 1, 20)], axis=1)
    act = Pid().build(*ROBOT).bind(gains)
    actions = [act(row, None).tolist() for row in observations]
    assert np.array(actions) == pytest.approx(np.array(by_hand(gains, observations)), rel=1e-9)


def test_without_gains_there_is_the_offset():
    act = Pid().build(*ROBOT).bind(np.zeros(12))
    assert act(np.array([50.0, 0.3]), None).tolist() == [150.0, 150.0]


def test_integral_is_limited_and_comes_back():
    """Winding up would take as long to come back as it took to grow."""
    gains = np.zeros(12)
    gains[5] = 100.0  # of the first action, from the second error
    act = Pid().build(*ROBOT).bind(gains)
    up = [act(np.array([10.0, -1.0]), None)[0] for _ in range(6)]
    down = [act(np.array([10.0, 1.0]), None)[0] for _ in range(2)]
    assert up == pytest.approx([160, 170, 180, 180, 180, 180])
    assert down == pytest.approx([170, 160])


def test_one_error_and_one_action():
    """The general case: sizes other than the robot's, no logarithm."""
    spaces = Box(-5.0, 5.0, (1,)), Box(-2.0, 2.0, (1,), np.float32)
    spec = Pid(setpoint=(1.0,), dt=0.5, log_error=False, offset=0.0, limit=1.5)
    policy = spec.build(*spaces)
    assert policy.num_parameters == 3
    act = policy.bind(np.array([1.0, 2.0, 0.25]))
    first, second, third = (act(np.array([o]), None) for o in (0.8, 0.9, -4.0))
    assert first.dtype == np.float32
    assert first == pytest.approx([0.2 + 0.2])
    assert second == pytest.approx([0.1 + 0.3 + 0.25 * -0.2])
    assert third == pytest.approx([1.5])


def test_more_observations_than_actions():
    spaces = Box(-5.0, 5.0, (3,)), Box(-900.0, 900.0, (2,), np.float64)
    spec = Pid(setpoint=(1.0, 2.0), log_error=False, offset=5.0)
    policy = spec.build(*spaces)
    gains = np.zeros((3, 2, 3))
    gains[0] = [[1.0, 10.0, 100.0], [2.0, 20.0, 200.0]]
    action = policy.bind(gains.reshape(-1))(np.array([0.0, 0.0, -1.0]), None)
    assert action == pytest.approx([5 + 1 + 20 + 100, 5 + 2 + 40 + 200])


def test_twelve_gains_on_the_robot():
    assert Task("distes/WallFollow-v0").build_policy(Pid()).num_parameters == 12


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dt": 0.0}, "dt 0.0 is not a finite number > 0"),
        ({"limit": -1.0}, "limit -1.0 is not a finite number > 0"),
        ({"integral_limit": -1.0}, "integral_limit -1.0 is not a finite number >= 0"),
        ({"offset": math.inf}, "offset inf is not a finite number"),
        ({"setpoint": (math.nan,)}, "setpoint"),
    ],
)
def test_bad_settings(settings, said):
    with pytest.raises(UsageError, match=said):
        Pid(**settings)


@pytest.mark.parametrize(
    ("spaces", "said"),
    [
        ((ROBOT[0], Discrete(2)), "action space Discrete"),
        ((MultiBinary(2), ROBOT[1]), "observation space MultiBinary"),
        ((Box(-1.0, 1.0, (2,)), ROBOT[1]), "setpoint has 3 numbers, an observation 2"),
    ],
)
def test_bad_spaces(spaces, said):
    with pytest.raises(UsageError, match=said):
        Pid(setpoint=(1.0, 2.0, 3.0)).build(*spaces)
