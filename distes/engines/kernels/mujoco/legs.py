"""What Gymnasium's Hopper and Walker2d share: a body on legs, in a plane."""

from __future__ import annotations

from distes.engines.kernels.jit import jit
from distes.engines.kernels.mujoco import simulation as sim
from distes.engines.kernels.mujoco.arithmetic import weigh_controls
from distes.types import Array

FORWARD, CTRL, HEALTHY, ENDS, SKIPPED, BOUNDED = (sim.OWN + i for i in range(6))
HEIGHT, ANGLE, STATE = sim.OWN + 6, sim.OWN + 8, sim.OWN + 10
"""Places of the constants; ranges have two. `BOUNDED` is whether all other numbers have one."""


class Legs(sim.MujocoKernel):
    """Whatever walks or hops in a plane."""

    info_names = (
        *("x_position", "z_distance_from_origin", "x_velocity"),
        *("reward_forward", "reward_ctrl", "reward_survive"),
    )

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
    if constants[BOUNDED] != 0.0:
        low, high = constants[STATE], constants[STATE + 1]
        for position in qpos[2:]:
            healthy = healthy and sim.is_within(position, low, high)
        for velocity in sim.read(constants, sim.QVEL):
            healthy = healthy and sim.is_within(velocity, low, high)
    return healthy
