"""Reset and step of a robot, compiled once for each.

Its own functions stand in the place of the names that are declared below.
"""

from __future__ import annotations

from collections.abc import Callable

from distes.engines.kernels.mujoco import simulation as sim
from distes.engines.kernels.mujoco.arrays import (
    Model,
    Simulation,
    change,
    context_of,
    look,
    note_start,
    restore_model,
)
from distes.engines.kernels.mujoco.library import set_constants
from distes.types import Array

observe: Callable[[Simulation, Array], None]
reward: Callable[[Simulation, Array], float]
is_over: Callable[[Simulation], bool]
start: Callable[[Simulation, Array], None]
inform: Callable[[Simulation, Array], None]
draw_context: Callable[[Array, Array], None]
apply_context: Callable[[Model, Array], None]


def reset_robot(state: Array, generator: Array, context: Array, constants: Array) -> None:
    now, shown = look(constants), context_of(state, constants)
    if len(shown):
        if len(context):
            shown[:] = context
        else:
            draw_context(generator, shown)
        restore_model(constants)
        apply_context(change(constants), shown)
        set_constants(int(constants[sim.MODEL]), int(constants[sim.DATA]))
    sim.reset_all(constants)
    note_start(constants)
    sim.add_noise(now.qpos, generator, constants[sim.NOISE])
    sim.add_noise(now.qvel, generator, constants[sim.NOISE])
    start(now, generator)
    sim.note_start(state, constants)
    sim.set_state(state, constants)
    note_start(constants)


def observe_robot(state: Array, constants: Array, observation: Array) -> None:
    observation[:] = 0.0
    observe(look(constants), observation)


def step_robot(
    state: Array,
    action: Array,
    generator: Array,
    constants: Array,
) -> tuple[float, bool]:
    now = look(constants)
    if state[sim.BEGUN] == 0.0:
        shown = context_of(state, constants)
        if len(shown):
            restore_model(constants)
            apply_context(change(constants), shown)
            set_constants(int(constants[sim.MODEL]), int(constants[sim.DATA]))
        sim.ensure_begun(state, constants)
        note_start(constants)
    now.previous_qpos[:] = now.qpos
    sim.simulate(action, constants)
    now.time[0] += constants[sim.STEP_S]
    return float(reward(now, action)), bool(is_over(now))


def show_context(state: Array, constants: Array, context: Array) -> None:
    context[:] = context_of(state, constants)


def inform_robot(state: Array, constants: Array, info: Array) -> None:
    inform(look(constants), info)


TEMPLATES = {
    "reset": reset_robot,
    "observe": observe_robot,
    "step": step_robot,
    "show": show_context,
    "inform": inform_robot,
}
"""Functions of the kernel."""
