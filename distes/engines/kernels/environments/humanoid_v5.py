"""Gymnasium's Humanoid: two legs that walk."""

from __future__ import annotations

from typing import Any

from distes.engines.kernels.jit import jit
from distes.engines.kernels.mujoco import humanoid
from distes.engines.kernels.mujoco import simulation as sim
from distes.engines.kernels.mujoco.arithmetic import adds_plainly, norm, sum_of_squares
from distes.errors import UsageError
from distes.types import Array

FORWARD, CTRL, CONTACT, HEALTHY, ENDS = (humanoid.OWN + i for i in range(5))
COST, HEIGHT, MASS = humanoid.OWN + 5, humanoid.OWN + 7, humanoid.OWN + 9
"""Places of the constants; ranges have two."""


class Humanoid(sim.MujocoKernel):
    """Takes what `gymnasium.envs.mujoco.humanoid_v5.HumanoidEnv` takes."""

    entry_point = "gymnasium.envs.mujoco.humanoid_v5:HumanoidEnv"
    exact = True
    uses_dots = True
    has_contact_forces = True
    looks_before = True
    info_names = (
        *("x_position", "y_position", "distance_from_origin", "x_velocity", "y_velocity"),
        *("reward_survive", "reward_forward", "reward_ctrl", "reward_contact"),
    )

    def __init__(
        self,
        xml_file: str = "humanoid.xml",
        frame_skip: int = 5,
        *,
        forward_reward_weight: float = 1.25,
        ctrl_cost_weight: float = 0.1,
        contact_cost_weight: float = 5e-7,
        contact_cost_range: tuple[float, float] = (-float("inf"), 10.0),
        healthy_reward: float = 5.0,
        terminate_when_unhealthy: bool = True,
        healthy_z_range: tuple[float, float] = (1.0, 2.0),
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
        if not adds_plainly():
            raise UsageError("this numpy's sums of products are fused")
        shown = sim.flags(
            exclude_current_positions_from_observation,
            include_cinert_in_observation,
            include_cvel_in_observation,
            include_qfrc_actuator_in_observation,
            include_cfrc_ext_in_observation,
        )
        weights = (
            forward_reward_weight,
            ctrl_cost_weight,
            contact_cost_weight,
            sim.weight(healthy_reward),
        )
        ends = sim.flags(terminate_when_unhealthy)
        ranges = (*sim.pair(contact_cost_range), *sim.pair(healthy_z_range))
        mass = float(self.model.body_mass.sum())
        self.constants = self.pack(
            humanoid.list_arrays(self.model, self.data),
            (*shown, *weights, *ends, *ranges, mass),
            reset_noise_scale,
        )

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        humanoid.observe(constants, observation)

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        sim.ensure_begun(state, constants)
        x, y = find_center(constants)
        sim.simulate(action, constants)
        new_x, new_y = find_center(constants)
        x_velocity = (new_x - x) / constants[sim.STEP_S]
        y_velocity = (new_y - y) / constants[sim.STEP_S]
        height = sim.read(constants, sim.QPOS)[2]
        healthy = sim.is_within(height, constants[HEIGHT], constants[HEIGHT + 1])
        forward = constants[FORWARD] * x_velocity
        survive = constants[HEALTHY] if healthy else 0.0
        cost = constants[CTRL] * sum_of_squares(sim.read(constants, sim.CTRL))
        contact = constants[CONTACT] * sum_of_squares(sim.read(constants, humanoid.CONTACTS))
        contact = sim.clip(contact, constants[COST], constants[COST + 1])
        sim.keep(state, (x_velocity, y_velocity, survive, forward, -cost, -contact))
        return forward + survive - (cost + contact), not healthy and constants[ENDS] != 0.0

    @staticmethod
    def inform(state: Array, constants: Array, info: Array) -> None:
        qpos = sim.read(constants, sim.QPOS)
        info[0], info[1], info[2] = qpos[0], qpos[1], norm(qpos[0], qpos[1])
        info[3:] = state[sim.KEPT : sim.KEPT + 6]


@jit
def find_center(constants: Array) -> tuple[float, float]:
    """Find the center of mass, x and y."""
    masses, places = sim.read(constants, humanoid.MASS), sim.read(constants, humanoid.PLACES)
    x, y = 0.0, 0.0
    for i in range(len(masses)):
        x += masses[i] * places[3 * i]
        y += masses[i] * places[3 * i + 1]
    return x / constants[MASS], y / constants[MASS]
