"""Gymnasium's Reacher: an arm of two links that reaches for a target, in a plane."""

from __future__ import annotations

import math
from typing import Any

from distes.engines.kernels.mujoco import simulation as sim
from distes.engines.kernels.mujoco.arithmetic import distance, norm, weigh_controls
from distes.engines.kernels.random import uniform
from distes.types import Array

FINGERTIP, TARGET = sim.OWN, sim.OWN + 2
DISTANCE, CTRL = sim.OWN + 4, sim.OWN + 5
"""Places of the constants, first of two arrays."""

RADIUS = 0.2
"""Of the disk where targets are, m."""


class Reacher(sim.MujocoKernel):
    """Takes what `gymnasium.envs.mujoco.reacher_v5.ReacherEnv` takes."""

    entry_point = "gymnasium.envs.mujoco.reacher_v5:ReacherEnv"
    exact = True
    uses_dots = True
    info_names = ("reward_dist", "reward_ctrl")

    def __init__(
        self,
        xml_file: str = "reacher.xml",
        frame_skip: int = 2,
        *,
        reward_dist_weight: float = 1,
        reward_control_weight: float = 1,
        **drawing: Any,
    ) -> None:
        self.open(xml_file, frame_skip, drawing)
        self.require(nq=4, nv=4)
        self.constants = self.pack(
            [self.data.body(name).xpos for name in ("fingertip", "target")],
            (reward_dist_weight, reward_control_weight),
        )

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        sim.draw_positions(state, generator, constants, 0.1)
        target = state[sim.START + 2 : sim.START + 4]
        while True:
            target[0] = uniform(generator, -RADIUS, RADIUS)
            target[1] = uniform(generator, -RADIUS, RADIUS)
            if norm(target[0], target[1]) < RADIUS:
                break
        sim.draw_velocities(state, generator, constants, 0.005)
        state[sim.START + 6 : sim.START + 8] = 0.0
        sim.set_state(state, constants)

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        qpos, qvel = sim.read(constants, sim.QPOS), sim.read(constants, sim.QVEL)
        fingertip, target = sim.read(constants, FINGERTIP), sim.read(constants, TARGET)
        for i in range(2):
            observation[i], observation[2 + i] = math.cos(qpos[i]), math.sin(qpos[i])
            observation[4 + i], observation[6 + i] = qpos[2 + i], qvel[i]
            observation[8 + i] = fingertip[i] - target[i]

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        sim.ensure_begun(state, constants)
        sim.simulate(action, constants)
        away = distance(sim.read(constants, FINGERTIP), sim.read(constants, TARGET))
        reach = -away * constants[DISTANCE]
        cost = weigh_controls(action, constants[CTRL])
        sim.keep(state, (reach, -cost))
        return reach - cost, False

    @staticmethod
    def inform(state: Array, constants: Array, info: Array) -> None:
        info[:] = state[sim.KEPT : sim.KEPT + 2]
