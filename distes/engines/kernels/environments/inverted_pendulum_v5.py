"""Gymnasium's InvertedPendulum: a pole on a cart."""

from __future__ import annotations

import math
from typing import Any

from distes.engines.kernels.mujoco import simulation as sim
from distes.types import Array

LEANS = 0.2
"""Angle in rad at which it has fallen."""


class InvertedPendulum(sim.MujocoKernel):
    """Takes what `gymnasium.envs.mujoco.inverted_pendulum_v5.InvertedPendulumEnv` takes."""

    entry_point = "gymnasium.envs.mujoco.inverted_pendulum_v5:InvertedPendulumEnv"
    exact = True
    info_names = ("reward_survive",)

    def __init__(
        self,
        xml_file: str = "inverted_pendulum.xml",
        frame_skip: int = 2,
        *,
        reset_noise_scale: float = 0.01,
        **drawing: Any,
    ) -> None:
        self.open(xml_file, frame_skip, drawing)
        self.require(nq=2, nv=2)
        self.constants = self.pack(noise=reset_noise_scale)

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        qpos, qvel = sim.read(constants, sim.QPOS), sim.read(constants, sim.QVEL)
        observation[0], observation[1] = qpos[0], qpos[1]
        observation[2], observation[3] = qvel[0], qvel[1]

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        sim.ensure_begun(state, constants)
        sim.simulate(action, constants)
        qpos, qvel = sim.read(constants, sim.QPOS), sim.read(constants, sim.QVEL)
        over = abs(qpos[1]) > LEANS
        for i in range(2):
            over = over or not math.isfinite(qpos[i]) or not math.isfinite(qvel[i])
        reward = 0.0 if over else 1.0
        state[sim.KEPT] = reward
        return reward, over

    @staticmethod
    def inform(state: Array, constants: Array, info: Array) -> None:
        info[0] = state[sim.KEPT]
