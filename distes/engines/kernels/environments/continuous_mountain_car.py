"""Gymnasium's MountainCarContinuous: MountainCar with a force of any size."""

from __future__ import annotations

import math

import numpy as np

from distes.engines.kernels.environments.mountain_car import (
    GRAVITY,
    MAX_POSITION,
    MAX_SPEED,
    MIN_POSITION,
    MountainCar,
)
from distes.engines.kernels.kernel import rounded
from distes.types import Array

POWER = 0.0015
GOAL = 0.45


class MountainCarContinuous(MountainCar):
    """State: position, velocity, and whether both are float32, as from the first step on.

    Args:
        goal_velocity: least velocity at the goal.
    """

    entry_point = "gymnasium.envs.classic_control.continuous_mountain_car:Continuous_MountainCarEnv"
    exact = True
    num_states = 3

    def __init__(self, goal_velocity: float = 0) -> None:
        # The exponent of squares comes last: see `pendulum.swing`.
        self.constants = np.array([float(goal_velocity), 2.0])

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        push = rounded(rounded(POWER) * action[0])
        if state[2] == 0.0:
            # The start is in double precision, and what is drawn from it.
            position, velocity = state[0], state[1]
            pull = GRAVITY * math.cos(3 * position)
            velocity += rounded(push - rounded(pull))
            velocity = min(max(velocity, -MAX_SPEED), MAX_SPEED)
            position = min(max(position + velocity, MIN_POSITION), MAX_POSITION)
            least, goal = MIN_POSITION, GOAL
            state[2] = 1.0
        else:
            position, velocity = state[0], state[1]
            pull = GRAVITY * math.cos(rounded(3 * position))
            velocity = rounded(velocity + rounded(push - rounded(pull)))
            velocity = min(max(velocity, rounded(-MAX_SPEED)), rounded(MAX_SPEED))
            position = rounded(position + velocity)
            least, goal = rounded(MIN_POSITION), rounded(GOAL)
            position = min(max(position, least), rounded(MAX_POSITION))
        if position == least and velocity < 0:
            velocity = 0.0
        over = position >= goal and velocity >= rounded(constants[0])
        reward = (100.0 if over else 0.0) - action[0] ** constants[1] * 0.1
        state[0], state[1] = rounded(position), rounded(velocity)
        return reward, over
