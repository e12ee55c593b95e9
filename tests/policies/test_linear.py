"""The linear policy: layout, arithmetic, sizes."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary
from hypothesis import given
from hypothesis import strategies as st

from distes.policies import Linear, products
from distes.tasks.environment import Task


@pytest.mark.parametrize(
    ("env", "bias", "expected"),
    [
        ("CartPole-v1", True, 10),
        ("CartPole-v1", False, 8),
        ("Pendulum-v1", True, 4),
        ("Pendulum-v1", False, 3),
        ("Acrobot-v1", True, 21),
        ("FrozenLake-v1", True, 68),
    ],
)
def test_number_of_parameters(env, bias, expected):
    """Otherwise parameters published for (observations + 1) x actions do not fit."""
    assert Task(env).build_policy(Linear(bias=bias)).num_parameters == expected


def test_layout_is_weights_row_by_row_then_bias():
    """Otherwise saved parameters mean another policy."""
    policy = Linear().build(Box(-1.0, 1.0, (2,)), Box(-100.0, 100.0, (3,), np.float64))
    act = policy.bind(np.array([1.0, 2.0, 3.0, 40.0, 50.0, 60.0, 0.1, 0.2, 0.3]))
    assert act(np.array([1.0, 0.0]), None) == pytest.approx([1.1, 2.2, 3.3])
    assert act(np.array([0.0, 1.0]), None) == pytest.approx([40.1, 50.2, 60.3])


def test_single_output_layout():
    """Otherwise the column that pads a single output shifts the parameters."""
    policy = Linear().build(Box(-1.0, 1.0, (3,)), Box(-100.0, 100.0, (1,), np.float64))
    action = policy.bind(np.array([1.0, 10.0, 20.0, 0.5]))(np.array([0.1, 0.2, 0.3]), None)
    assert action.shape == (1,)
    assert action == pytest.approx([8.6])


def test_starts_at_zero():
    """Otherwise runs without a given start begin at random."""
    policy = Linear().build(Box(-1.0, 1.0, (3,)), Discrete(2))
    assert np.array_equal(policy.initial(np.random.default_rng(0)), np.zeros(8))


@given(
    seed=st.integers(0, 2**32),
    size=st.integers(1, 40),
    outputs=st.integers(1, 9),
    bias=st.booleans(),
)
def test_act_equals_the_batched_product(seed, size, outputs, bias):
    """Otherwise an engine that acts for many environments at once gives other episodes."""
    generator = np.random.default_rng(seed)
    space = Box(-np.inf, np.inf, (outputs,), np.float64)
    policy = Linear(bias=bias).build(Box(-np.inf, np.inf, (size,), np.float64), space)
    parameters = generator.standard_normal(policy.num_parameters)
    observations = generator.standard_normal((7, size))
    ((weights, offset),) = policy.layers(parameters)
    batched = products.multiply(observations, products.lay_out(weights))[:, :outputs]
    expected = batched if offset is None else batched + offset
    act = policy.bind(parameters)
    assert np.array_equal([act(row, None) for row in observations], expected)


def test_act_keeps_its_own_parameters():
    """Otherwise an array that is used again changes a policy already handed out."""
    policy = Linear().build(Box(-1.0, 1.0, (2,)), MultiBinary(3))
    parameters = np.ones(9)
    act = policy.bind(parameters)
    parameters[:] = -1.0
    assert np.array_equal(act(np.ones(2), None), [1, 1, 1])


@pytest.mark.parametrize("count", [0, 9, 11])
def test_other_lengths_are_refused(count):
    """Otherwise a solution of another environment acts as if it were this one's."""
    policy = Task("CartPole-v1").build_policy(Linear())
    with pytest.raises(ValueError, match="the policy has 10"):
        policy.bind(np.zeros(count))


def test_cartpole_balances_with_known_weights():
    """Otherwise observation, weights and actions are not wired as they should be.

    Pushing towards the side to which the pole leans and turns holds it up for long; the
    opposite sign drops it at once.
    """
    policy = Task("CartPole-v1").build_policy(Linear(bias=False))
    lean = np.array([0.0, 0.0, 1.0, 1.0])
    env = gym.make("CartPole-v1")

    def play(sign):
        act = policy.bind(np.stack([-sign * lean, sign * lean], axis=1).reshape(-1))
        observation, _ = env.reset(seed=3)
        terminated = truncated = False
        steps = 0
        while not (terminated or truncated):
            action = act(policy.encode(observation), None)
            observation, _, terminated, truncated, _ = env.step(action)
            steps += 1
        return steps

    assert play(+1) > 100
    assert play(-1) < 20


def test_scaled_and_rescaled():
    """Otherwise the flags do not reach encoder and head."""
    policy = Linear(bias=False, scale_observations=True, rescale_actions=True).build(
        Box(0.0, 10.0, (1,)), Box(-4.0, 4.0, (1,))
    )
    act = policy.bind(np.array([1.0]))
    assert act(policy.encode(np.float32([10.0])), None) == pytest.approx([4.0])
    assert act(policy.encode(np.float32([2.5])), None) == pytest.approx([-2.0])
