"""Gymnasium's HalfCheetah: two legs and a back that run, in a plane."""

from __future__ import annotations

from typing import Any

from distes.engines.kernels.mujoco import simulation as sim
from distes.engines.kernels.mujoco.arithmetic import weigh_controls
from distes.types import Array

FORWARD, CTRL, SKIPPED = (sim.OWN + i for i in range(3))
"""Places of the constants."""


class HalfCheetah(sim.MujocoKernel):
    """Takes what `gymnasium.envs.mujoco.half_cheetah_v5.HalfCheetahEnv` takes."""

    entry_point = "gymnasium.envs.mujoco.half_cheetah_v5:HalfCheetahEnv"
    exact = True
    starts_normally = True
    info_names = ("x_position", "x_velocity", "reward_forward", "reward_ctrl")

    def __init__(
        self,
        xml_file: str = "half_cheetah.xml",
        frame_skip: int = 5,
        *,
        forward_reward_weight: float = 1.0,
        ctrl_cost_weight: float = 0.1,
        reset_noise_scale: float = 0.1,
        exclude_current_positions_from_observation: bool = True,
        **drawing: Any,
    ) -> None:
        self.open(xml_file, frame_skip, drawing)
        self.require_at_least(nq=1)
        skipped = sim.flags(exclude_current_positions_from_observation)
        numbers = (forward_reward_weight, ctrl_cost_weight, *skipped)
        self.constants = self.pack(numbers=numbers, noise=reset_noise_scale)

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        qpos, qvel = sim.read(constants, sim.QPOS), sim.read(constants, sim.QVEL)
        at = sim.write_from(qpos, int(constants[SKIPPED]), observation, 0)
        sim.write_from(qvel, 0, observation, at)

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        sim.ensure_begun(state, constants)
        qpos = sim.read(constants, sim.QPOS)
        before = qpos[0]
        sim.simulate(action, constants)
        velocity = (qpos[0] - before) / constants[sim.STEP_S]
        forward = constants[FORWARD] * velocity
        cost = weigh_controls(action, constants[CTRL])
        sim.keep(state, (velocity, forward, -cost))
        return forward - cost, False

    @staticmethod
    def inform(state: Array, constants: Array, info: Array) -> None:
        info[0] = sim.read(constants, sim.QPOS)[0]
        info[1:] = state[sim.KEPT : sim.KEPT + 3]
