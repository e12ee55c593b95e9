"""Gymnasium's Pusher: an arm that pushes a cylinder to a goal, on a table."""

from __future__ import annotations

from typing import Any

from distes.engines.kernels.mujoco import simulation as sim
from distes.engines.kernels.mujoco.arithmetic import distance, norm, weigh_controls
from distes.engines.kernels.random import uniform
from distes.types import Array

TIPS, OBJECT, GOAL = sim.OWN, sim.OWN + 2, sim.OWN + 4
NEAR, DISTANCE, CTRL = (sim.OWN + 6 + i for i in range(3))
"""Places of the constants, first of three arrays."""

APART = 0.17
"""Least distance in m of cylinder and goal when an episode begins."""


class Pusher(sim.MujocoKernel):
    """Takes what `gymnasium.envs.mujoco.pusher_v5.PusherEnv` takes."""

    entry_point = "gymnasium.envs.mujoco.pusher_v5:PusherEnv"
    exact = True
    uses_dots = True
    info_names = ("reward_dist", "reward_ctrl", "reward_near")

    def __init__(
        self,
        xml_file: str = "pusher_v5.xml",
        frame_skip: int = 5,
        *,
        reward_near_weight: float = 0.5,
        reward_dist_weight: float = 1,
        reward_control_weight: float = 0.1,
        **drawing: Any,
    ) -> None:
        self.open(xml_file, frame_skip, drawing)
        self.require(nq=11, nv=11)
        self.constants = self.pack(
            [self.data.body(name).xpos for name in ("tips_arm", "object", "goal")],
            (reward_near_weight, reward_dist_weight, reward_control_weight),
        )

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        start = sim.read(constants, sim.QPOS0)
        state[sim.START : sim.START + 11] = start
        cylinder = state[sim.START + 7 : sim.START + 9]
        while True:
            cylinder[0] = uniform(generator, -0.3, 0.0)
            cylinder[1] = uniform(generator, -0.2, 0.2)
            if norm(cylinder[0], cylinder[1]) > APART:
                break
        state[sim.START + 9 : sim.START + 11] = 0.0  # the goal
        sim.draw_velocities(state, generator, constants, 0.005)
        state[sim.START + 18 : sim.START + 22] = 0.0
        sim.set_state(state, constants)

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        qpos, qvel = sim.read(constants, sim.QPOS), sim.read(constants, sim.QVEL)
        observation[:7], observation[7:14] = qpos[:7], qvel[:7]
        observation[14:17] = sim.read(constants, TIPS)
        observation[17:20] = sim.read(constants, OBJECT)
        observation[20:] = sim.read(constants, GOAL)

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        sim.ensure_begun(state, constants)
        sim.simulate(action, constants)
        cylinder = sim.read(constants, OBJECT)
        near = -distance(cylinder, sim.read(constants, TIPS)) * constants[NEAR]
        reach = -distance(cylinder, sim.read(constants, GOAL)) * constants[DISTANCE]
        cost = weigh_controls(action, constants[CTRL])
        sim.keep(state, (reach, -cost, near))
        return reach - cost + near, False

    @staticmethod
    def inform(state: Array, constants: Array, info: Array) -> None:
        info[:] = state[sim.KEPT : sim.KEPT + 3]
