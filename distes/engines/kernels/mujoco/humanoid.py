"""What Gymnasium's two humanoids share."""

from __future__ import annotations

from typing import Any

from distes.engines.kernels.jit import jit
from distes.engines.kernels.mujoco import simulation as sim
from distes.types import Array, FloatArray

INERTIA, VELOCITY, ACTUATOR, CONTACTS, MASS, PLACES = (sim.OWN + 2 * i for i in range(6))
"""Places of arrays in the constants."""

SKIPPED, SHOWN = sim.OWN + 12, sim.OWN + 13
"""Places of numbers: which of the four arrays are shown has four."""

OWN = SHOWN + 4
"""Where the constants of one of them begin."""


def list_arrays(model: Any, data: Any) -> list[FloatArray]:
    """Arrays of model and data: what is shown, and what the center of mass is made of."""
    shown = [data.cinert, data.cvel, data.qfrc_actuator, data.cfrc_ext]
    return [*shown, model.body_mass, data.xipos]


@jit
def observe(constants: Array, observation: Array) -> None:
    """Write what both show: the world, and what is no joint's, are left out."""
    qpos, qvel = sim.read(constants, sim.QPOS), sim.read(constants, sim.QVEL)
    at = sim.write_from(qpos, 2 * int(constants[SKIPPED]), observation, 0)
    at = sim.write_from(qvel, 0, observation, at)
    if constants[SHOWN] != 0.0:
        at = sim.write_from(sim.read(constants, INERTIA), 10, observation, at)
    if constants[SHOWN + 1] != 0.0:
        at = sim.write_from(sim.read(constants, VELOCITY), 6, observation, at)
    if constants[SHOWN + 2] != 0.0:
        at = sim.write_from(sim.read(constants, ACTUATOR), 6, observation, at)
    if constants[SHOWN + 3] != 0.0:
        sim.write_from(sim.read(constants, CONTACTS), 6, observation, at)
