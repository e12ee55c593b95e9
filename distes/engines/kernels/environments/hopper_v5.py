"""Gymnasium's Hopper: one leg that hops, in a plane."""

from __future__ import annotations

from typing import Any

from distes.engines.kernels.jit import jit
from distes.engines.kernels.mujoco import simulation as sim
from distes.engines.kernels.mujoco.arithmetic import weigh_controls
from distes.types import Array

FORWARD, CTRL, HEALTHY, NOISE, ENDS, SKIPPED = (sim.OWN + i for i in range(6))
HEIGHT, ANGLE, STATE = sim.OWN + 6, sim.OWN + 8, sim.OWN + 10
"""Places of the constants; ranges have two."""


class Hopper(sim.MujocoKernel):
    """Takes what `gymnasium.envs.mujoco.hopper_v5.HopperEnv` takes."""

    entry_point = "gymnasium.envs.mujoco.hopper_v5:HopperEnv"
    exact = True
    info_names = (
        *("x_position", "z_distance_from_origin", "x_velocity"),
        *("reward_forward", "reward_ctrl", "reward_survive"),
    )

    def __init__(
        self,
        xml_file: str = "hopper.xml",
        frame_skip: int = 4,
        *,
        forward_reward_weight: float = 1.0,
        ctrl_cost_weight: float = 1e-3,
        healthy_reward: float = 1.0,
        terminate_when_unhealthy: bool = True,
        healthy_state_range: tuple[float, float] = (-100.0, 100.0),
        healthy_z_range: tuple[float, float] = (0.7, float("inf")),
        healthy_angle_range: tuple[float, float] = (-0.2, 0.2),
        reset_noise_scale: float = 5e-3,
        exclude_current_positions_from_observation: bool = True,
        **drawing: Any,
    ) -> None:
        self.open(xml_file, frame_skip, drawing)
        self.require_at_least(nq=3)
        weights = (
            forward_reward_weight,
            ctrl_cost_weight,
            sim.weight(healthy_reward),
            sim.noise(reset_noise_scale),
        )
        chosen = sim.flags(terminate_when_unhealthy, exclude_current_positions_from_observation)
        ranges = (
            *sim.pair(healthy_z_range),
            *sim.pair(healthy_angle_range),
            *sim.pair(healthy_state_range),
        )
        self.constants = self.pack(numbers=(*weights, *chosen, *ranges))

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        sim.draw_positions(state, generator, constants, constants[NOISE])
        sim.draw_velocities(state, generator, constants, constants[NOISE])
        sim.set_state(state, constants)

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        qpos = sim.read(constants, sim.QPOS)
        at = sim.write_from(qpos, int(constants[SKIPPED]), observation, 0)
        for velocity in sim.read(constants, sim.QVEL):
            observation[at] = sim.clip(velocity, -10.0, 10.0)
            at += 1

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        sim.ensure_begun(state, constants)
        qpos = sim.read(constants, sim.QPOS)
        before = qpos[0]
        sim.simulate(action, constants)
        velocity = (qpos[0] - before) / constants[sim.STEP_S]
        healthy = is_healthy(constants)
        forward = constants[FORWARD] * velocity
        survive = constants[HEALTHY] if healthy else 0.0
        cost = weigh_controls(action, constants[CTRL])
        sim.keep(state, (velocity, forward, -cost, survive))
        return forward + survive - cost, not healthy and constants[ENDS] != 0.0

    @staticmethod
    def inform(state: Array, constants: Array, info: Array) -> None:
        qpos = sim.read(constants, sim.QPOS)
        info[0], info[1] = qpos[0], qpos[1] - sim.read(constants, sim.QPOS0)[1]
        info[2:] = state[sim.KEPT : sim.KEPT + 4]


@jit
def is_healthy(constants: Array) -> bool:
    """Whether all that has a range is within it."""
    qpos = sim.read(constants, sim.QPOS)
    healthy = sim.is_within(qpos[1], constants[HEIGHT], constants[HEIGHT + 1])
    healthy = healthy and sim.is_within(qpos[2], constants[ANGLE], constants[ANGLE + 1])
    low, high = constants[STATE], constants[STATE + 1]
    for position in qpos[2:]:
        healthy = healthy and sim.is_within(position, low, high)
    for velocity in sim.read(constants, sim.QVEL):
        healthy = healthy and sim.is_within(velocity, low, high)
    return healthy
