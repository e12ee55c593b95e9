"""Gymnasium's Ant: four legs that walk."""

from __future__ import annotations

import math
from typing import Any

from distes.engines.kernels.jit import jit
from distes.engines.kernels.mujoco import simulation as sim
from distes.engines.kernels.mujoco.arithmetic import norm, sum_of_squares, weigh_controls
from distes.types import Array

TRUNK, CONTACTS = sim.OWN, sim.OWN + 2
FORWARD, CTRL, CONTACT, HEALTHY = (sim.OWN + 4 + i for i in range(4))
ENDS, SKIPPED, SHOWN = (sim.OWN + 8 + i for i in range(3))
HEIGHT, FORCE = sim.OWN + 11, sim.OWN + 13
"""Places of the constants, first of two arrays; ranges have two."""


class Ant(sim.MujocoKernel):
    """Takes what `gymnasium.envs.mujoco.ant_v5.AntEnv` takes."""

    entry_point = "gymnasium.envs.mujoco.ant_v5:AntEnv"
    exact = True
    starts_normally = True
    uses_dots = True
    has_contact_forces = True
    looks_before = True
    info_names = (
        *("x_position", "y_position", "distance_from_origin", "x_velocity", "y_velocity"),
        *("reward_forward", "reward_ctrl", "reward_contact", "reward_survive"),
    )

    def __init__(
        self,
        xml_file: str = "ant.xml",
        frame_skip: int = 5,
        *,
        forward_reward_weight: float = 1,
        ctrl_cost_weight: float = 0.5,
        contact_cost_weight: float = 5e-4,
        healthy_reward: float = 1.0,
        main_body: int | str = 1,
        terminate_when_unhealthy: bool = True,
        healthy_z_range: tuple[float, float] = (0.2, 1.0),
        contact_force_range: tuple[float, float] = (-1.0, 1.0),
        reset_noise_scale: float = 0.1,
        exclude_current_positions_from_observation: bool = True,
        include_cfrc_ext_in_observation: bool = True,
        **drawing: Any,
    ) -> None:
        self.open(xml_file, frame_skip, drawing)
        self.require_at_least(nq=3)
        weights = (
            forward_reward_weight,
            ctrl_cost_weight,
            contact_cost_weight,
            sim.weight(healthy_reward),
        )
        chosen = sim.flags(
            terminate_when_unhealthy,
            exclude_current_positions_from_observation,
            include_cfrc_ext_in_observation,
        )
        ranges = (*sim.pair(healthy_z_range), *sim.pair(contact_force_range))
        self.constants = self.pack(
            (self.data.body(main_body).xpos, self.data.cfrc_ext),
            (*weights, *chosen, *ranges),
            reset_noise_scale,
        )

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        qpos, qvel = sim.read(constants, sim.QPOS), sim.read(constants, sim.QVEL)
        at = sim.write_from(qpos, 2 * int(constants[SKIPPED]), observation, 0)
        at = sim.write_from(qvel, 0, observation, at)
        if constants[SHOWN] != 0.0:
            for force in sim.read(constants, CONTACTS)[6:]:  # the world has none
                observation[at] = sim.clip(force, constants[FORCE], constants[FORCE + 1])
                at += 1

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        sim.ensure_begun(state, constants)
        trunk = sim.read(constants, TRUNK)
        x, y = trunk[0], trunk[1]
        sim.simulate(action, constants)
        x_velocity = (trunk[0] - x) / constants[sim.STEP_S]
        y_velocity = (trunk[1] - y) / constants[sim.STEP_S]
        healthy = is_healthy(constants)
        forward = x_velocity * constants[FORWARD]
        survive = constants[HEALTHY] if healthy else 0.0
        cost = weigh_controls(action, constants[CTRL])
        forces = sim.read(constants, CONTACTS).copy()
        for i in range(len(forces)):
            forces[i] = sim.clip(forces[i], constants[FORCE], constants[FORCE + 1])
        contact = constants[CONTACT] * sum_of_squares(forces)
        sim.keep(state, (x_velocity, y_velocity, forward, -cost, -contact, survive))
        return forward + survive - (cost + contact), not healthy and constants[ENDS] != 0.0

    @staticmethod
    def inform(state: Array, constants: Array, info: Array) -> None:
        qpos = sim.read(constants, sim.QPOS)
        info[0], info[1], info[2] = qpos[0], qpos[1], norm(qpos[0], qpos[1])
        info[3:] = state[sim.KEPT : sim.KEPT + 6]


@jit
def is_healthy(constants: Array) -> bool:
    """Whether it is at a good height, and all is finite."""
    qpos = sim.read(constants, sim.QPOS)
    healthy = bool(constants[HEIGHT] <= qpos[2] <= constants[HEIGHT + 1])
    for position in qpos:
        healthy = healthy and math.isfinite(position)
    for velocity in sim.read(constants, sim.QVEL):
        healthy = healthy and math.isfinite(velocity)
    return healthy
