"""Gymnasium's InvertedDoublePendulum: two poles, one on top of the other, on a cart."""

from __future__ import annotations

import math
from typing import Any

from distes.engines.kernels.mujoco import simulation as sim
from distes.types import Array

TIP, FORCE = sim.OWN, sim.OWN + 2
HEALTHY, TWO = sim.OWN + 4, sim.OWN + 5
"""Places of the constants, first of two arrays."""


class InvertedDoublePendulum(sim.MujocoKernel):
    """Takes what `gymnasium.envs.mujoco.inverted_double_pendulum_v5` takes.

    Powers are the library's: their exponent is no constant to the compiler, which would make
    products of them.
    """

    entry_point = "gymnasium.envs.mujoco.inverted_double_pendulum_v5:InvertedDoublePendulumEnv"
    exact = True
    starts_normally = True
    info_names = ("reward_survive", "distance_penalty", "velocity_penalty")

    def __init__(
        self,
        xml_file: str = "inverted_double_pendulum.xml",
        frame_skip: int = 5,
        *,
        healthy_reward: float = 10.0,
        reset_noise_scale: float = 0.1,
        **drawing: Any,
    ) -> None:
        self.open(xml_file, frame_skip, drawing)
        self.require(nq=3, nv=3)
        self.constants = self.pack(
            (self.data.site_xpos[0], self.data.qfrc_constraint),
            (sim.weight(healthy_reward), 2.0),
            reset_noise_scale,
        )

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        qpos = sim.read(constants, sim.QPOS)
        observation[0] = qpos[0]
        for i in range(2):
            observation[1 + i], observation[3 + i] = math.sin(qpos[1 + i]), math.cos(qpos[1 + i])
        for i in range(3):
            observation[5 + i] = sim.clip(sim.read(constants, sim.QVEL)[i], -10.0, 10.0)
        observation[8] = sim.clip(sim.read(constants, FORCE)[0], -10.0, 10.0)

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        sim.ensure_begun(state, constants)
        sim.simulate(action, constants)
        tip, two = sim.read(constants, TIP), constants[TWO]
        x, y = tip[0], tip[2]
        first, second = sim.read(constants, sim.QVEL)[1], sim.read(constants, sim.QVEL)[2]
        over = y <= 1.0
        distance = 0.01 * x**two + (y - 2.0) ** two
        speed = 1e-3 * first**two + 5e-3 * second**two
        survive = 0.0 if over else constants[HEALTHY]
        sim.keep(state, (survive, -distance, -speed))
        return survive - distance - speed, over

    @staticmethod
    def inform(state: Array, constants: Array, info: Array) -> None:
        info[:] = state[sim.KEPT : sim.KEPT + 3]
