"""Arrays of MuJoCo's model and data, as a robot's functions see them."""

from __future__ import annotations

from typing import NamedTuple

from distes.engines.kernels.jit import jit
from distes.engines.kernels.mujoco import simulation as sim
from distes.engines.kernels.mujoco.library import table_at
from distes.types import Array, FloatArray


class Simulation(NamedTuple):
    """What a robot's functions see: arrays of MuJoCo's data, by its own names.

    ``time`` (1,) is in s since the reset, ``dt`` (1,) what a step takes, ``previous_qpos`` (nq,)
    is what it was a step ago, ``numbers`` are the robot's own.
    """

    qpos: FloatArray
    qvel: FloatArray
    ctrl: FloatArray
    act: FloatArray
    qacc: FloatArray
    sensordata: FloatArray
    actuator_force: FloatArray
    qfrc_actuator: FloatArray
    qfrc_constraint: FloatArray
    xpos: FloatArray  # (nbody, 3)
    xquat: FloatArray  # (nbody, 4)
    xmat: FloatArray  # (nbody, 9)
    xipos: FloatArray  # (nbody, 3)
    cvel: FloatArray  # (nbody, 6)
    cfrc_ext: FloatArray  # (nbody, 6)
    subtree_com: FloatArray  # (nbody, 3)
    geom_xpos: FloatArray  # (ngeom, 3)
    site_xpos: FloatArray  # (nsite, 3)
    site_xmat: FloatArray  # (nsite, 9)
    time: FloatArray
    dt: FloatArray
    previous_qpos: FloatArray
    numbers: FloatArray


class Model(NamedTuple):
    """What contexts may change: arrays of MuJoCo's model, by its own names."""

    body_mass: FloatArray
    dof_damping: FloatArray
    dof_armature: FloatArray
    dof_frictionloss: FloatArray
    jnt_stiffness: FloatArray
    gravity: FloatArray
    body_inertia: FloatArray  # (nbody, 3)
    body_pos: FloatArray  # (nbody, 3)
    geom_size: FloatArray  # (ngeom, 3)
    geom_friction: FloatArray  # (ngeom, 3)
    actuator_gear: FloatArray  # (nu, 6)
    actuator_gainprm: FloatArray  # (nu, 10)
    actuator_biasprm: FloatArray  # (nu, 10)


SEEN = sim.OWN
"""Place of the first array of `Simulation` in the constants."""

CHANGED = SEEN + 2 * len(Simulation._fields)
"""Place of the first array of `Model`, and then those of the model as it is in the file."""

NUM_PARTS = len(Model._fields)


@jit
def look(constants: Array) -> Simulation:
    """Make what a robot's functions see."""
    return Simulation(
        sim.read(constants, SEEN),
        sim.read(constants, SEEN + 2),
        sim.read(constants, SEEN + 4),
        sim.read(constants, SEEN + 6),
        sim.read(constants, SEEN + 8),
        sim.read(constants, SEEN + 10),
        sim.read(constants, SEEN + 12),
        sim.read(constants, SEEN + 14),
        sim.read(constants, SEEN + 16),
        table_at(constants[SEEN + 18], constants[SEEN + 19], 3),
        table_at(constants[SEEN + 20], constants[SEEN + 21], 4),
        table_at(constants[SEEN + 22], constants[SEEN + 23], 9),
        table_at(constants[SEEN + 24], constants[SEEN + 25], 3),
        table_at(constants[SEEN + 26], constants[SEEN + 27], 6),
        table_at(constants[SEEN + 28], constants[SEEN + 29], 6),
        table_at(constants[SEEN + 30], constants[SEEN + 31], 3),
        table_at(constants[SEEN + 32], constants[SEEN + 33], 3),
        table_at(constants[SEEN + 34], constants[SEEN + 35], 3),
        table_at(constants[SEEN + 36], constants[SEEN + 37], 9),
        sim.read(constants, SEEN + 38),
        sim.read(constants, SEEN + 40),
        sim.read(constants, SEEN + 42),
        sim.read(constants, SEEN + 44),
    )


@jit
def change(constants: Array) -> Model:
    """Make what contexts change."""
    return Model(
        sim.read(constants, CHANGED),
        sim.read(constants, CHANGED + 2),
        sim.read(constants, CHANGED + 4),
        sim.read(constants, CHANGED + 6),
        sim.read(constants, CHANGED + 8),
        sim.read(constants, CHANGED + 10),
        table_at(constants[CHANGED + 12], constants[CHANGED + 13], 3),
        table_at(constants[CHANGED + 14], constants[CHANGED + 15], 3),
        table_at(constants[CHANGED + 16], constants[CHANGED + 17], 3),
        table_at(constants[CHANGED + 18], constants[CHANGED + 19], 3),
        table_at(constants[CHANGED + 20], constants[CHANGED + 21], 6),
        table_at(constants[CHANGED + 22], constants[CHANGED + 23], 10),
        table_at(constants[CHANGED + 24], constants[CHANGED + 25], 10),
    )


@jit
def restore_model(constants: Array) -> None:
    """Make the model what it is in its file."""
    for i in range(NUM_PARTS):
        filed = sim.read(constants, CHANGED + 2 * (NUM_PARTS + i))
        sim.read(constants, CHANGED + 2 * i)[:] = filed


@jit
def context_of(state: Array, constants: Array) -> Array:
    """Find the context in the state, behind the start; (0,) where there is none."""
    start = sim.START + int(constants[sim.QPOS + 1]) + int(constants[sim.QVEL + 1])
    return state[start:]


@jit
def note_start(constants: Array) -> None:
    """Begin what is ours of an episode."""
    now = look(constants)
    now.time[0] = 0.0
    now.previous_qpos[:] = now.qpos
