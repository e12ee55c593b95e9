"""Gymnasium's Swimmer: three links that swim, in a plane."""

from __future__ import annotations

from typing import Any

from distes.engines.kernels.mujoco import simulation as sim
from distes.engines.kernels.mujoco.arithmetic import norm, weigh_controls
from distes.types import Array

FORWARD, CTRL, SKIPPED = (sim.OWN + i for i in range(3))
"""Places of the constants."""


class Swimmer(sim.MujocoKernel):
    """Takes what `gymnasium.envs.mujoco.swimmer_v5.SwimmerEnv` takes."""

    entry_point = "gymnasium.envs.mujoco.swimmer_v5:SwimmerEnv"
    exact = True
    uses_dots = True
    info_names = (
        *("x_position", "y_position", "distance_from_origin", "x_velocity", "y_velocity"),
        *("reward_forward", "reward_ctrl"),
    )

    def __init__(
        self,
        xml_file: str = "swimmer.xml",
        frame_skip: int = 4,
        *,
        forward_reward_weight: float = 1.0,
        ctrl_cost_weight: float = 1e-4,
        reset_noise_scale: float = 0.1,
        exclude_current_positions_from_observation: bool = True,
        **drawing: Any,
    ) -> None:
        self.open(xml_file, frame_skip, drawing)
        self.require_at_least(nq=2)
        skipped = sim.flags(exclude_current_positions_from_observation)
        numbers = (forward_reward_weight, ctrl_cost_weight, *skipped)
        self.constants = self.pack(numbers=numbers, noise=reset_noise_scale)

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        qpos, qvel = sim.read(constants, sim.QPOS), sim.read(constants, sim.QVEL)
        at = sim.write_from(qpos, 2 * int(constants[SKIPPED]), observation, 0)
        sim.write_from(qvel, 0, observation, at)

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        sim.ensure_begun(state, constants)
        qpos = sim.read(constants, sim.QPOS)
        x, y = qpos[0], qpos[1]
        sim.simulate(action, constants)
        x_velocity = (qpos[0] - x) / constants[sim.STEP_S]
        y_velocity = (qpos[1] - y) / constants[sim.STEP_S]
        forward = constants[FORWARD] * x_velocity
        cost = weigh_controls(action, constants[CTRL])
        sim.keep(state, (x_velocity, y_velocity, forward, -cost))
        return forward - cost, False

    @staticmethod
    def inform(state: Array, constants: Array, info: Array) -> None:
        qpos = sim.read(constants, sim.QPOS)
        info[0], info[1], info[2] = qpos[0], qpos[1], norm(qpos[0], qpos[1])
        info[3:] = state[sim.KEPT : sim.KEPT + 4]
