"""Gymnasium's Acrobot.

Sutton (1996), "Generalization in reinforcement learning: successful examples using sparse
coarse coding"; the equations are those of Sutton and Barto's book.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from gymnasium.envs.classic_control.acrobot import AcrobotEnv

from distes.engines.kernels.jit import jit
from distes.engines.kernels.kernel import Kernel, rounded
from distes.engines.kernels.random import uniform
from distes.errors import UsageError
from distes.types import Array, FloatArray

GRAVITY = 9.8
STEP_S = 0.2
MAX_VELOCITIES = (4 * math.pi, 9 * math.pi)
START = 0.1
STANDARD: Mapping[str, object] = {
    "dt": STEP_S,
    "MAX_VEL_1": MAX_VELOCITIES[0],
    "MAX_VEL_2": MAX_VELOCITIES[1],
    **dict.fromkeys(("LINK_LENGTH_1", "LINK_LENGTH_2", "LINK_MASS_1", "LINK_MASS_2"), 1.0),
    "LINK_COM_POS_1": 0.5,
    "LINK_COM_POS_2": 0.5,
    "LINK_MOI": 1.0,
    "AVAIL_TORQUE": [-1.0, 0.0, 1.0],
    "torque_noise_max": 0.0,
    "book_or_nips": "book",
}
"""Attributes of Gymnasium's class that the kernel stands for."""


class Acrobot(Kernel):
    """State: two angles, two angular velocities. Links are 1 m and 1 kg, inertia 1 kg m²."""

    entry_point = "gymnasium.envs.classic_control.acrobot:AcrobotEnv"
    exact = True
    num_states = 4

    def __init__(self) -> None:
        changed = [name for name, value in STANDARD.items() if getattr(AcrobotEnv, name) != value]
        if changed:
            raise UsageError(f"Acrobot's kernel has Gymnasium's constants; {changed[0]} is another")
        # The exponent of squares: see `slopes`.
        self.constants = np.array([2.0])

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        for i in range(4):
            state[i] = rounded(uniform(generator, -START, START))

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        observation[0], observation[1] = rounded(math.cos(state[0])), rounded(math.sin(state[0]))
        observation[2], observation[3] = rounded(math.cos(state[1])), rounded(math.sin(state[1]))
        observation[4], observation[5] = rounded(state[2]), rounded(state[3])

    def correct_first(self, states: FloatArray, observations: FloatArray) -> None:
        """Show cosines of float32 angles, as at the start, which numpy rounds otherwise."""
        angles = states[:, :2].astype(np.float32)
        observations[:, 0:4:2] = np.cos(angles)
        observations[:, 1:4:2] = np.sin(angles)

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        return swing_up(state, action[0] - 1.0, constants[0])


@jit
def swing_up(state: Array, torque: float, two: float) -> tuple[float, bool]:
    """Take a step of 0.2 s by Runge and Kutta's method of fourth order.

    Up is over: the end of the second link is one link above the first joint.
    """
    half, sixth = STEP_S / 2.0, STEP_S / 6.0
    a, b, c, d = state[0], state[1], state[2], state[3]
    c1, d1 = slopes(a, b, c, d, torque, two)
    c_2, d_2 = c + half * c1, d + half * d1
    c2, d2 = slopes(a + half * c, b + half * d, c_2, d_2, torque, two)
    c_3, d_3 = c + half * c2, d + half * d2
    c3, d3 = slopes(a + half * c_2, b + half * d_2, c_3, d_3, torque, two)
    c_4, d_4 = c + STEP_S * c3, d + STEP_S * d3
    c4, d4 = slopes(a + STEP_S * c_3, b + STEP_S * d_3, c_4, d_4, torque, two)
    a = _wrap_angle(a + sixth * (c + 2 * c_2 + 2 * c_3 + c_4))
    b = _wrap_angle(b + sixth * (d + 2 * d_2 + 2 * d_3 + d_4))
    c = c + sixth * (c1 + 2 * c2 + 2 * c3 + c4)
    d = d + sixth * (d1 + 2 * d2 + 2 * d3 + d4)
    c = min(max(c, -MAX_VELOCITIES[0]), MAX_VELOCITIES[0])
    d = min(max(d, -MAX_VELOCITIES[1]), MAX_VELOCITIES[1])
    state[0], state[1], state[2], state[3] = a, b, c, d
    over = -math.cos(a) - math.cos(b + a) > 1.0
    return 0.0 if over else -1.0, over


@jit
def slopes(
    theta1: float, theta2: float, dtheta1: float, dtheta2: float, torque: float, two: float
) -> tuple[float, float]:
    """Accelerations of both joints.

    Sutton and Barto (1998), "Reinforcement learning: an introduction", section 11.3; d1, d2,
    phi1 and phi2 are theirs.

    Squares are the library's powers, which differ from products in the last bit now and
    then, and this system makes much of a bit. The exponent ``two`` is not known to the
    compiler, which would make products of them.
    """
    cos2, sin2 = math.cos(theta2), math.sin(theta2)
    # Masses, lengths and inertias are 1, centres of mass at a half.
    d1 = 0.25 + (1.25 + cos2) + 1.0 + 1.0
    d2 = (0.25 + 0.5 * cos2) + 1.0
    phi2 = 0.5 * GRAVITY * math.cos(theta1 + theta2 - math.pi / 2.0)
    phi1 = (
        -0.5 * dtheta2**two * sin2
        - dtheta2 * dtheta1 * sin2
        + 1.5 * GRAVITY * math.cos(theta1 - math.pi / 2)
        + phi2
    )
    inner = torque + d2 / d1 * phi1 - 0.5 * dtheta1**two * sin2 - phi2
    acc2 = inner / (0.25 + 1.0 - d2**two / d1)
    return -(d2 * acc2 + phi1) / d1, acc2


@jit
def _wrap_angle(angle: float) -> float:
    while angle > math.pi:
        angle = angle - 2 * math.pi
    while angle < -math.pi:
        angle = angle + 2 * math.pi
    return angle
