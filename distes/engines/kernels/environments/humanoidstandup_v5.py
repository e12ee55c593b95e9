"""Gymnasium's HumanoidStandup: a body that stands up."""

from __future__ import annotations

from typing import Any

from distes.engines.kernels.mujoco import humanoid
from distes.engines.kernels.mujoco import simulation as sim
from distes.engines.kernels.mujoco.arithmetic import sum_of_squares
from distes.types import Array

CTRL, IMPACT, TIMESTEP = (humanoid.OWN + i for i in range(3))
COST = humanoid.OWN + 3
"""Places of the constants; the range has two."""


class HumanoidStandup(sim.MujocoKernel):
    """Takes what `gymnasium.envs.mujoco.humanoidstandup_v5.HumanoidStandupEnv` takes."""

    entry_point = "gymnasium.envs.mujoco.humanoidstandup_v5:HumanoidStandupEnv"
    exact = True
    has_contact_forces = True
    info_names = (
        *("x_position", "y_position", "z_distance_from_origin"),
        *("reward_linup", "reward_quadctrl", "reward_impact"),
    )

    def __init__(
        self,
        xml_file: str = "humanoidstandup.xml",
        frame_skip: int = 5,
        *,
        uph_cost_weight: float = 1,
        ctrl_cost_weight: float = 0.1,
        impact_cost_weight: float = 0.5e-6,
        impact_cost_range: tuple[float, float] = (-float("inf"), 10.0),
        reset_noise_scale: float = 1e-2,
        exclude_current_positions_from_observation: bool = True,
        include_cinert_in_observation: bool = True,
        include_cvel_in_observation: bool = True,
        include_qfrc_actuator_in_observation: bool = True,
        include_cfrc_ext_in_observation: bool = True,
        **drawing: Any,
    ) -> None:
        self.open(xml_file, frame_skip, drawing)
        self.require_at_least(nq=3, nv=6)
        shown = sim.flags(
            exclude_current_positions_from_observation,
            include_cinert_in_observation,
            include_cvel_in_observation,
            include_qfrc_actuator_in_observation,
            include_cfrc_ext_in_observation,
        )
        del uph_cost_weight  # Gymnasium's reward has no use for it
        numbers = (ctrl_cost_weight, impact_cost_weight, self.model.opt.timestep)
        self.constants = self.pack(
            humanoid.list_arrays(self.model, self.data),
            (*shown, *numbers, *sim.pair(impact_cost_range)),
            reset_noise_scale,
        )

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        humanoid.observe(constants, observation)

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        sim.ensure_begun(state, constants)
        sim.simulate(action, constants)
        up = sim.read(constants, sim.QPOS)[2] / constants[TIMESTEP]
        cost = constants[CTRL] * sum_of_squares(sim.read(constants, sim.CTRL))
        impact = constants[IMPACT] * sum_of_squares(sim.read(constants, humanoid.CONTACTS))
        impact = sim.clip(impact, constants[COST], constants[COST + 1])
        sim.keep(state, (up, -cost, -impact))
        return up - cost - impact + 1.0, False

    @staticmethod
    def inform(state: Array, constants: Array, info: Array) -> None:
        qpos = sim.read(constants, sim.QPOS)
        info[0], info[1] = qpos[0], qpos[1]
        info[2] = qpos[2] - sim.read(constants, sim.QPOS0)[2]
        info[3:] = state[sim.KEPT : sim.KEPT + 3]
