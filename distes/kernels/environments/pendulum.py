"""Gymnasium's Pendulum."""

from __future__ import annotations

import math

import numpy as np

from distes.kernels.base import Kernel, rounded
from distes.kernels.jit import jit
from distes.kernels.random import uniform
from distes.types import Array

MAX_SPEED = 8.0
STEP_S = 0.05
START = (math.pi, 1.0)


class Pendulum(Kernel):
    """State: angle, angular velocity.

    Args:
        g: gravity, m/s².
    """

    entry_point = "gymnasium.envs.classic_control.pendulum:PendulumEnv"
    num_states = 2

    def __init__(self, g: float = 10.0) -> None:
        self.constants = np.array([g, 1.0, 1.0, 2.0])

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        state[0] = uniform(generator, -START[0], START[0])
        state[1] = uniform(generator, -START[1], START[1])

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        observe_angle(state, observation)

    @staticmethod
    def step(
        state: Array, action: Array, generator: Array, constants: Array
    ) -> tuple[float, bool]:
        return swing(state, action[0], constants[0], constants[1], constants[2], constants[3])


@jit
def observe_angle(state: Array, observation: Array) -> None:
    """Write cosine and sine of the angle, and the velocity."""
    observation[0] = rounded(math.cos(state[0]))
    observation[1] = rounded(math.sin(state[0]))
    observation[2] = rounded(state[1])


@jit
def swing(
    state: Array, torque: float, g: float, mass: float, length: float, two: float
) -> tuple[float, bool]:
    """Take a step of the pendulum's equations.

    Powers are the library's, which differ from products in the last bit now and then; their
    exponent ``two`` is not known to the compiler, which would make products of them.
    """
    theta, velocity = state[0], state[1]
    # Gymnasium's torque is a float32, and so is what it makes of the torque alone.
    u = np.float32(torque)
    angle = (theta + math.pi) % (2 * math.pi) - math.pi
    effort = np.float32(np.float32(0.001) * np.float32(u ** np.float32(two)))
    costs = angle**two + 0.1 * velocity**two + np.float64(effort)
    push = np.float32(np.float32(3.0 / (mass * length**two)) * u)
    velocity = velocity + (3 * g / (2 * length) * math.sin(theta) + np.float64(push)) * STEP_S
    velocity = min(max(velocity, -MAX_SPEED), MAX_SPEED)
    state[0] = theta + velocity * STEP_S
    state[1] = velocity
    return -costs, False
