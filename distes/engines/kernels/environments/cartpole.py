"""Gymnasium's CartPole.

Barto, Sutton and Anderson (1983), "Neuronlike adaptive elements that can solve difficult
learning control problems"; without friction, as in Florian (2007), "Correct equations for
the dynamics of the cart-pole system".
"""

from __future__ import annotations

import math

import numpy as np

from distes.engines.kernels.jit import jit
from distes.engines.kernels.kernel import Kernel, rounded
from distes.engines.kernels.random import uniform
from distes.types import Array

GRAVITY = 9.8
MASS_POLE = 0.1
HALF_LENGTH = 0.5
FORCE = 10.0
STEP_S = 0.02
MAX_ANGLE = 12 * 2 * math.pi / 360
MAX_POSITION = 2.4
START = 0.05


class CartPole(Kernel):
    """State: position, velocity, angle, angular velocity.

    Args:
        sutton_barto_reward: 0 for every step and -1 for the last, instead of 1 for each.
    """

    entry_point = "gymnasium.envs.classic_control.cartpole:CartPoleEnv"
    exact = True
    num_states = 4

    def __init__(self, sutton_barto_reward: bool = False) -> None:
        self.constants = np.array([0.0, -1.0] if sutton_barto_reward else [1.0, 1.0])

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        for i in range(4):
            state[i] = uniform(generator, -START, START)

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        for i in range(4):
            observation[i] = rounded(state[i])

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        force = FORCE if action[0] == 1.0 else -FORCE
        return balance(state, force, MASS_POLE, HALF_LENGTH, constants)


@jit
def balance(
    state: Array, force: float, mass_pole: float, half_length: float, constants: Array
) -> tuple[float, bool]:
    """Take a step by Euler's method; constants begin with the two rewards."""
    x, x_dot, theta, theta_dot = state[0], state[1], state[2], state[3]
    total_mass = mass_pole + 1.0
    pole_mass_length = mass_pole * half_length
    cos, sin = math.cos(theta), math.sin(theta)
    shared = (force + pole_mass_length * (theta_dot * theta_dot) * sin) / total_mass
    # Florian, eqs. 23 and 24.
    theta_acc = (GRAVITY * sin - cos * shared) / (
        half_length * (4.0 / 3.0 - mass_pole * (cos * cos) / total_mass)
    )
    x_acc = shared - pole_mass_length * theta_acc * cos / total_mass
    x = x + STEP_S * x_dot
    x_dot = x_dot + STEP_S * x_acc
    theta = theta + STEP_S * theta_dot
    theta_dot = theta_dot + STEP_S * theta_acc
    state[0], state[1], state[2], state[3] = x, x_dot, theta, theta_dot
    over = x < -MAX_POSITION or x > MAX_POSITION or theta < -MAX_ANGLE or theta > MAX_ANGLE
    return constants[1] if over else constants[0], over
