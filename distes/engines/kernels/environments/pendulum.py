"""Gymnasium's Pendulum: a rod that turns about its end, θ'' = 3g/(2l) sin θ + 3/(m l²) u."""

from __future__ import annotations

import math

import numpy as np

from distes.engines.kernels.jit import jit
from distes.engines.kernels.kernel import Kernel, rounded
from distes.engines.kernels.random import uniform
from distes.types import Array

MAX_SPEED = 8.0
STEP_S = 0.05
START = (math.pi, 1.0)
TURN = 2 * math.pi

ANGLE, VELOCITY, SIN, FALL, PUSH = 0, 1, 2, 3, 4
"""Places in the state; fall and push are accelerations of gravity and of a unit torque."""


class Pendulum(Kernel):
    """State: angle, angular velocity, and what follows from angle, mass and length.

    Args:
        g: gravity, m/s².
    """

    entry_point = "gymnasium.envs.classic_control.pendulum:PendulumEnv"
    exact = True
    num_states = 5

    def __init__(self, g: float = 10.0) -> None:
        # The exponent of squares comes last: see `swing`.
        self.constants = np.array([g, 2.0])

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        hang(state, generator)
        weigh(state, 1.0, 1.0, constants)

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        observation[0] = rounded(math.cos(state[ANGLE]))
        observation[1] = rounded(state[SIN])
        observation[2] = rounded(state[VELOCITY])

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        return swing(state, action[0], constants[1])


@jit
def hang(state: Array, generator: Array) -> None:
    """Draw where it starts."""
    state[ANGLE] = uniform(generator, -START[0], START[0])
    state[VELOCITY] = uniform(generator, -START[1], START[1])
    state[SIN] = math.sin(state[ANGLE])


@jit
def weigh(state: Array, mass: float, length: float, constants: Array) -> None:
    """Note what follows from mass in kg and length in m."""
    state[FALL] = 3 * constants[0] / (2 * length)
    state[PUSH] = rounded(3.0 / (mass * length ** constants[1]))


@jit
def swing(state: Array, torque: float, two: float) -> tuple[float, bool]:
    """Take a step of the pendulum's equations.

    Powers are the library's, which differ from products in the last bit now and then; their
    exponent ``two`` is not known to the compiler, which would make products of them.
    """
    theta, velocity = state[ANGLE], state[VELOCITY]
    # Gymnasium's torque is a float32, and so is what it makes of the torque alone.
    u = np.float32(torque)
    effort = np.float32(np.float32(0.001) * np.float32(u ** np.float32(two)))
    angle = theta + math.pi
    if not 0.0 <= angle < TURN:  # the remainder takes long, and is seldom another number
        angle = angle % TURN
    costs = (angle - math.pi) ** two + 0.1 * velocity**two + np.float64(effort)
    push = np.float32(np.float32(state[PUSH]) * u)
    velocity = velocity + (state[FALL] * state[SIN] + np.float64(push)) * STEP_S
    velocity = min(max(velocity, -MAX_SPEED), MAX_SPEED)
    theta = theta + velocity * STEP_S
    state[ANGLE], state[VELOCITY], state[SIN] = theta, velocity, math.sin(theta)
    return -costs, False
