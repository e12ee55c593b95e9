"""Gymnasium's MountainCar.

Moore (1990), "Efficient memory-based learning for robot control"; the equations are those of
Sutton and Barto (2018), "Reinforcement learning: an introduction", example 10.1.
"""

from __future__ import annotations

import math

import numpy as np

from distes.engines.kernels.kernel import Kernel, rounded
from distes.engines.kernels.random import uniform
from distes.types import Array

FORCE = 0.001
GRAVITY = 0.0025
MAX_SPEED = 0.07
MIN_POSITION, MAX_POSITION, GOAL = -1.2, 0.6, 0.5


class MountainCar(Kernel):
    """State: position, velocity.

    Args:
        goal_velocity: least velocity at the goal.
    """

    entry_point = "gymnasium.envs.classic_control.mountain_car:MountainCarEnv"
    exact = True
    num_states = 2

    def __init__(self, goal_velocity: float = 0) -> None:
        self.constants = np.array([float(goal_velocity)])

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        state[0] = uniform(generator, -0.6, -0.4)

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        observation[0], observation[1] = rounded(state[0]), rounded(state[1])

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        position, velocity = state[0], state[1]
        velocity += (action[0] - 1.0) * FORCE + math.cos(3 * position) * (-GRAVITY)
        velocity = min(max(velocity, -MAX_SPEED), MAX_SPEED)
        position = min(max(position + velocity, MIN_POSITION), MAX_POSITION)
        if position == MIN_POSITION and velocity < 0:
            velocity = 0.0
        state[0], state[1] = position, velocity
        return -1.0, position >= GOAL and velocity >= constants[0]
