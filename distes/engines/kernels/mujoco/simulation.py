"""Kernels whose steps MuJoCo takes.

One model and its data belong to a kernel. Between two steps of an episode they hold its state;
an episode's own numbers (`Kernel`'s ``state``) tell where it begins, since the episodes of a batch
are all reset before the first one runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from distes.engines.kernels.jit import jit
from distes.engines.kernels.kernel import Kernel
from distes.engines.kernels.mujoco.arithmetic import fuses
from distes.engines.kernels.mujoco.library import (
    LINKED,
    advance,
    find_contact_forces,
    forward,
    numbers_at,
    reset_data,
)
from distes.engines.kernels.random import normal, uniform
from distes.errors import UsageError
from distes.tasks.mujoco_warnings import hear_warnings
from distes.types import Array, FloatArray

MODEL, DATA, FRAME_SKIP, STEP_S, RNE, PLACES, NOISE, NORMAL = range(8)
"""Places in the constants: addresses, simulation steps of a step, its seconds, whether forces of
contacts are wanted after it, whether it looks at places before it, the scale of a start's noise,
and whether velocities' is normal."""

QPOS, QVEL, CTRL, QPOS0 = 8, 10, 12, 14
"""Places of arrays, each of an address and a size; see `read`."""

OWN = 16
"""Where a kernel's own constants begin: first its arrays, then its numbers."""

BEGUN, KEPT, START = 0, 1, 12
"""Places in the state: whether the data hold this episode, numbers that a kernel keeps of the last
step, and where positions and velocities of the start are."""

DRAWING = {
    *("default_camera_config", "width", "height", "camera_id", "camera_name"),
    *("max_geom", "visual_options"),
}
"""Arguments of `gymnasium.envs.mujoco.MujocoEnv` that change no episode."""

CALLBACKS = (
    *("mjcb_passive", "mjcb_control", "mjcb_contactfilter", "mjcb_sensor", "mjcb_time"),
    *("mjcb_act_dyn", "mjcb_act_gain", "mjcb_act_bias"),
)
"""What users may hang into the simulation."""


class MujocoKernel(Kernel):
    """A kernel with a model of MuJoCo's, for one thread at a time.

    Attributes:
        model: compiled; None before `open`.
        data: of the model.
        uses_dots: whether it follows dot products of numpy's; see `fuses`.
        has_contact_forces: whether `mj_rnePostConstraint` is called after each step.
        looks_before: whether a step reads more than positions and velocities of what was before.
        starts_normally: whether velocities of a start have a normal distribution.
    """

    step_work = 100_000
    uses_dots: ClassVar[bool] = False
    has_contact_forces: ClassVar[bool] = False
    looks_before: ClassVar[bool] = False
    starts_normally: ClassVar[bool] = False
    model: Any = None
    data: Any = None

    def open(self, xml_file: str, frame_skip: int, drawing: dict[str, Any]) -> None:
        """Make model and data as Gymnasium's environments do.

        Args:
            xml_file: a path, or the name of one of Gymnasium's.
            frame_skip: simulation steps of a step.
            drawing: the other arguments.

        Raises:
            TypeError: an argument is none of the environments'.
            UsageError: there is no such model, or it cannot be simulated as Gymnasium does it.
        """
        if type(frame_skip) is not int or frame_skip < 1:
            raise TypeError(f"frame_skip {frame_skip!r} is not a whole number from 1 on")
        unknown = [name for name in drawing if name not in DRAWING]
        if unknown:
            raise TypeError(f"unexpected argument '{unknown[0]}'")
        import mujoco
        from gymnasium.envs.mujoco.mujoco_env import expand_model_path

        if not LINKED:
            raise UsageError("MuJoCo's library is not where its package is")
        if self.uses_dots and not fuses():
            raise UsageError("this numpy's dot products add in an order of their own")
        callbacks = [name for name in CALLBACKS if getattr(mujoco, f"get_{name}")() is not None]
        if callbacks:
            raise UsageError(f"{callbacks[0]} is set, which machine code would call without a lock")
        try:
            path = expand_model_path(xml_file)
        except OSError as error:
            raise UsageError(str(error)) from None
        try:
            with hear_warnings():
                self.model = mujoco.MjModel.from_xml_path(path)
        except ValueError as error:
            raise UsageError(f"{path} does not compile: {' '.join(str(error).split())}") from None
        self.data = mujoco.MjData(self.model)
        self.frame_skip = frame_skip
        self.num_states = START + self.model.nq + self.model.nv  # type: ignore[misc]

    def __reduce__(self) -> Any:
        """Refuse to be copied: its constants are addresses.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{type(self).__qualname__} cannot be copied, nor sent elsewhere")

    def require(self, **sizes: int) -> None:
        """Refuse a model of other sizes, such as nq: all that follows counts on them.

        Raises:
            UsageError: it has others.
        """
        for name, size in sizes.items():
            found = getattr(self.model, name)
            if found != size:
                raise UsageError(f"a model of {name} {found}, not {size}, runs step by step")

    def require_at_least(self, **sizes: int) -> None:
        """Refuse a model of smaller sizes.

        Raises:
            UsageError: one is smaller.
        """
        for name, size in sizes.items():
            found = getattr(self.model, name)
            if found < size:
                raise UsageError(f"a model of {name} {found}, below {size}, runs step by step")

    def pack(
        self,
        arrays: Sequence[FloatArray] = (),
        numbers: Sequence[float] = (),
        noise: float = 0.0,
    ) -> FloatArray:
        """Write constants: what all kernels need, and own arrays and numbers from `OWN` on.

        Args:
            arrays: parts of model and data, each in one piece; kept by address.
            numbers: of the environment's arguments.
            noise: scale of a start's.

        Raises:
            TypeError: a number is not a plain one: others change the precision of products.
            ValueError: a number is NaN, the noise negative or not finite, or an address larger
                than a float holds exactly.
        """
        for number in (*numbers, noise):
            if type(number) not in (int, float):
                raise TypeError(f"{number!r} is not a number of Python's")
            if math.isnan(number):
                raise ValueError("a number is NaN")
        if not 0 <= noise < math.inf:
            raise ValueError(f"a scale of noise of {noise} is below 0, or not finite")
        self._start = self.data.qpos.copy()  # as long as the kernel lives
        data = self.data
        shared = [data.qpos, data.qvel, data.ctrl, self._start]
        places = [(each.ctypes.data, each.size) for each in (*shared, *arrays)]
        head = (self.model._address, data._address, self.frame_skip)
        if max(*head, *(place for place, _ in places)) >= 2**53:
            raise ValueError("an address is larger than a float holds exactly")
        step_s = self.model.opt.timestep * self.frame_skip
        choices = (self.has_contact_forces, self.looks_before, noise, self.starts_normally)
        return np.array([*head, step_s, *choices, *np.ravel(places), *numbers], np.float64)

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        """Begin an episode near where the model's file begins."""
        draw_positions(state, generator, constants, constants[NOISE])
        if constants[NORMAL] != 0.0:
            draw_normal_velocities(state, generator, constants, constants[NOISE])
        else:
            draw_velocities(state, generator, constants, constants[NOISE])
        set_state(state, constants)


def pair(values: Sequence[float]) -> tuple[float, float]:
    """Make a range of two numbers.

    Raises:
        TypeError: it has another length.
    """
    if len(values) != 2:
        raise TypeError(f"{values!r} is not a range of two numbers")
    return values[0], values[1]


def weight(value: float) -> float:
    """Take a finite number.

    Raises:
        ValueError: it is not finite.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} is not finite")
    return value


def flags(*values: bool) -> list[float]:
    """Numbers of flags.

    Raises:
        TypeError: one is something else.
    """
    for value in values:
        if type(value) is not bool:
            raise TypeError(f"{value!r} is neither True nor False")
    return [float(value) for value in values]


@jit
def read(constants: Array, place: int) -> Array:
    """An array of model or data, (k,)."""
    return numbers_at(constants[place], constants[place + 1])


@jit
def reset_all(constants: Array) -> None:
    """Make the data what a model begins with."""
    reset_data(int(constants[MODEL]), int(constants[DATA]))


@jit
def add_noise(values: Array, generator: Array, scale: float) -> None:
    """Add a draw to each number, ±scale."""
    for i in range(len(values)):
        values[i] += uniform(generator, -scale, scale)


@jit
def note_start(state: Array, constants: Array) -> None:
    """Note positions and velocities of the data as the start's."""
    qpos, qvel = read(constants, QPOS), read(constants, QVEL)
    state[START : START + len(qpos)] = qpos
    state[START + len(qpos) : START + len(qpos) + len(qvel)] = qvel


@jit
def draw_positions(state: Array, generator: Array, constants: Array, scale: float) -> None:
    """Draw positions of the start about the model's, ±scale."""
    start = read(constants, QPOS0)
    for i in range(len(start)):
        state[START + i] = start[i] + uniform(generator, -scale, scale)


@jit
def draw_velocities(state: Array, generator: Array, constants: Array, scale: float) -> None:
    """Draw velocities of the start, ±scale."""
    first = START + int(constants[QPOS0 + 1])
    for i in range(int(constants[QVEL + 1])):
        state[first + i] = uniform(generator, -scale, scale)


@jit
def draw_normal_velocities(state: Array, generator: Array, constants: Array, scale: float) -> None:
    """Draw velocities of the start from a normal distribution of standard deviation scale."""
    first = START + int(constants[QPOS0 + 1])
    for i in range(int(constants[QVEL + 1])):
        state[first + i] = scale * normal(generator)


@jit
def set_state(state: Array, constants: Array) -> None:
    """Begin the episode: what Gymnasium's reset does, but for the draws."""
    restore(state, constants)
    forward(int(constants[MODEL]), int(constants[DATA]))


@jit
def restore(state: Array, constants: Array) -> None:
    """Reset the data, and write positions and velocities of the start."""
    reset_data(int(constants[MODEL]), int(constants[DATA]))
    qpos, qvel = read(constants, QPOS), read(constants, QVEL)
    qpos[:] = state[START : START + len(qpos)]
    qvel[:] = state[START + len(qpos) : START + len(qpos) + len(qvel)]


@jit
def ensure_begun(state: Array, constants: Array) -> None:
    """Begin the episode before its first step: another one's reset may have been the last.

    A step of MuJoCo's begins with what `forward` does, and solvers start from the last step's end,
    not from what `forward` found: it is left out where nobody looks at what it gives.
    """
    if state[BEGUN] == 0.0:
        restore(state, constants)
        if constants[PLACES] != 0.0:
            forward(int(constants[MODEL]), int(constants[DATA]))
        state[BEGUN] = 1.0


@jit
def simulate(action: Array, constants: Array) -> None:
    """Take a step."""
    model, data = int(constants[MODEL]), int(constants[DATA])
    read(constants, CTRL)[:] = action
    for _ in range(int(constants[FRAME_SKIP])):
        advance(model, data)
    if constants[RNE] != 0.0:
        find_contact_forces(model, data)


@jit
def keep(state: Array, values: tuple[float, ...]) -> None:
    """Note numbers of the step, which `Kernel.inform` may show."""
    for i in range(len(values)):
        state[KEPT + i] = values[i]


@jit
def write_from(values: Array, start: int, target: Array, at: int) -> int:
    """Copy values[start:] to a place of a target; returns the place behind."""
    for i in range(start, len(values)):
        target[at] = values[i]
        at += 1
    return at


@jit
def clip(value: float, low: float, high: float) -> float:
    """``np.clip`` of a number."""
    return min(max(value, low), high)


@jit
def is_within(value: float, low: float, high: float) -> bool:
    """Whether a number is between two, and neither of them."""
    return low < value < high
