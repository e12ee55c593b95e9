"""Robots of one's own: an MJCF file and a few functions are an environment and its kernel.

docs/robots.md is the guide.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.spaces import Box

from distes.engines.kernels.jit import jit
from distes.engines.kernels.mujoco import simulation as sim
from distes.engines.kernels.mujoco.arrays import Model, Simulation
from distes.engines.kernels.mujoco.robot_steps import TEMPLATES
from distes.errors import UsageError, unknown
from distes.types import Array, FloatArray

__all__ = ["Model", "Robot", "RobotKernel", "Simulation"]

FUNCTIONS = {
    "observe": ("now", "observation"),
    "reward": ("now", "action"),
    "is_over": ("now",),
    "start": ("now", "generator"),
    "inform": ("now", "info"),
    "draw_context": ("generator", "context"),
    "apply_context": ("model", "context"),
}
"""Functions of a robot, and their arguments."""

PYTHON = ("__init__", "reset", "step", "_initialize_simulation", "do_simulation")
"""What machine code does not know of: a class that writes one of these anew has no kernel."""

TRIED_STEPS = 20
"""Steps that are taken in plain Python first: machine code writes beyond an array in silence."""


class Robot(MujocoEnv):
    """An environment of one's own, and its kernel, from one description: attribute ``kernel``.

    A subclass has the attributes and static functions below. The functions are Python that numba
    compiles: they read arrays, and write those that they are given to write.

    Attributes:
        xml_file: path of the MJCF file.
        num_observations: numbers of an observation, k.
        frame_skip: simulation steps of a step.
        reset_noise: positions and velocities of a start differ from the model's by as much as
            this; `start` may do otherwise.
        numbers: of its own, which its arguments of the same names change; functions find them in
            ``now.numbers`` in this order.
        has_contact_forces: whether ``now.cfrc_ext`` is wanted, which takes time.
        info_names: keys of the info.
        num_contexts: numbers of a context.
        exact: see `distes.engines.kernels.kernel.Kernel`; each class says so itself.
    """

    xml_file: ClassVar[str | Path]
    num_observations: ClassVar[int]
    frame_skip: int = 1
    reset_noise: ClassVar[float] = 0.01
    numbers: ClassVar[Mapping[str, float]] = {}
    has_contact_forces: ClassVar[bool] = False
    info_names: ClassVar[tuple[str, ...]] = ()
    num_contexts: ClassVar[int] = 0
    exact: ClassVar[bool] = False
    kernel: ClassVar[type[RobotKernel]]
    _kernel: ClassVar[type[RobotKernel]]
    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"]
    }

    @staticmethod
    def observe(now: Simulation, observation: Array) -> None:
        """Write the observation, (num_observations,)."""
        raise NotImplementedError

    @staticmethod
    def reward(now: Simulation, action: Array) -> float:
        """Say what the last step is worth; action is (nu,) as it was clipped."""
        raise NotImplementedError

    @staticmethod
    def is_over(now: Simulation) -> bool:
        """Say whether the episode is over."""
        raise NotImplementedError

    @staticmethod
    def start(now: Simulation, generator: Array) -> None:
        """Write ``now.qpos`` and ``now.qvel``, which are the model's with the noise so far.

        Draw with `distes.engines.kernels.random`.
        """

    @staticmethod
    def inform(now: Simulation, info: Array) -> None:
        """Write the numbers of the info, as in ``info_names``."""

    @staticmethod
    def draw_context(generator: Array, context: Array) -> None:
        """Draw a context, (num_contexts,), where none is imposed."""

    @staticmethod
    def apply_context(model: Model, context: Array) -> None:
        """Change the model, which is as in its file, for a context."""

    def __init_subclass__(cls, **settings: Any) -> None:
        """Make its kernel; one whose steps are written otherwise runs step by step."""
        super().__init_subclass__(**settings)
        cls._kernel = _make_kernel(cls)
        own = [vars(each) for each in cls.__mro__[: cls.__mro__.index(Robot)]]
        if not any(name in members for members in own for name in PYTHON):
            cls.kernel = cls._kernel

    def __init__(self, render_mode: str | None = None, **arguments: Any) -> None:
        self._arguments = {"render_mode": render_mode, **arguments}
        kernel = self._simulation = self._kernel(**arguments)
        super().__init__(
            str(kernel.path),
            kernel.frame_skip,
            Box(-np.inf, np.inf, (self.num_observations,), np.float64),
            render_mode=render_mode,
            **{name: each for name, each in arguments.items() if name in sim.DRAWING},
        )
        fps = round(1 / self.dt)
        self.metadata = {**self.metadata, "render_fps": fps}  # type: ignore[misc]

    def __reduce__(self) -> Any:
        """Be copied, and sent elsewhere, as Gymnasium's environments are: made anew."""
        return partial(type(self), **self._arguments), ()

    def _initialize_simulation(self) -> tuple[Any, Any]:
        """Give the environment the kernel's model and data, for the renderer."""
        return self._simulation.model, self._simulation.data

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Begin an episode; ``options={"context": ...}`` imposes a context."""
        gym.Env.reset(self, seed=seed)
        asked = (options or {}).get("context")
        info = self._simulation.reset_in_python(self.np_random, asked)
        if self.render_mode == "human":
            self.render()  # type: ignore[no-untyped-call]
        return self._simulation.see(), info

    def step(  # type: ignore[override]
        self, action: Any
    ) -> tuple[FloatArray, float, bool, bool, dict[str, float]]:
        """Take a step.

        Raises:
            ValueError: the action has another shape.
        """
        action = np.asarray(action, np.float64)
        if action.shape != (self.model.nu,):
            raise ValueError(f"an action has shape {action.shape}, not ({self.model.nu},)")
        reward, over = self._simulation.step_in_python(action)
        if self.render_mode == "human":
            self.render()  # type: ignore[no-untyped-call]
        return self._simulation.see(), reward, over, False, self._simulation.show_info()


class RobotKernel(sim.MujocoKernel):
    """The kernel of a robot, and the same in Python for its environment.

    Attributes:
        robot: the class.
    """

    robot: ClassVar[type[Robot]]

    def __init__(self, **arguments: Any) -> None:
        robot = self.robot
        for name in ("xml_file", "num_observations"):
            if not hasattr(robot, name):
                raise UsageError(f"{robot.__qualname__} has no {name}")
        for name in (
            "observe",
            "reward",
            "is_over",
            *(["draw_context"] * (robot.num_contexts > 0)),
        ):
            if getattr(robot, name) is getattr(Robot, name):
                asked = ", ".join(FUNCTIONS[name])
                raise UsageError(f"{robot.__qualname__}.{name} is missing: write {name}({asked})")
        drawing = {name: each for name, each in arguments.items() if name in sim.DRAWING}
        numbers = {**robot.numbers}
        for name in arguments.keys() - drawing.keys():
            if name not in robot.numbers:
                raise unknown("number", name, robot.numbers)
            numbers[name] = arguments[name]
        for name, value in {**numbers, "reset_noise": robot.reset_noise}.items():
            if not isinstance(value, int | float):
                raise UsageError(f"{name} of {robot.__qualname__} is {value!r}, not a number")
        # Workers have other working directories: the path is the class's own, from here on.
        self.path = Path(robot.xml_file).absolute()
        try:
            self.open(str(self.path), robot.frame_skip, drawing)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{robot.__qualname__}: {error}") from None
        self._require_ranges()
        self.has_contact_forces = robot.has_contact_forces  # type: ignore[misc]
        self.num_states += robot.num_contexts  # type: ignore[misc]
        data, model = self.data, self.model
        own = {
            "time": np.zeros(1),
            "dt": np.array([model.opt.timestep * robot.frame_skip]),
            "previous_qpos": data.qpos.copy(),
            "numbers": np.array([float(each) for each in numbers.values()]),
        }
        seen: list[Any] = [own.get(n, getattr(data, n, None)) for n in Simulation._fields]
        self.now = Simulation(*seen)
        self.shown = Simulation(*map(_freeze, seen))
        places = {"qpos": data.qpos, "qvel": data.qvel}
        self.starting = self.shown._replace(**places)
        parts = {name: getattr(model, name, None) for name in Model._fields}
        self.parts = Model(**{**parts, "gravity": model.opt.gravity})
        self.filed = Model(*(part.copy() for part in self.parts))
        self.context = np.zeros(robot.num_contexts)
        arrays = [*self.now, *self.parts, *self.filed]
        try:
            self.constants = self.pack(arrays, noise=robot.reset_noise)
        except ValueError as error:
            raise UsageError(f"{robot.__qualname__}: {error}") from None
        self._try()

    def _require_ranges(self) -> None:
        """Refuse actuators without a range: Gymnasium's action would always be 0.

        Raises:
            UsageError: there is one.
        """
        for number, (low, high) in enumerate(self.model.actuator_ctrlrange.tolist()):
            if not low < high:
                raise UsageError(
                    f"actuator {number} of {self.path} has no ctrlrange, which bounds its action"
                )

    def _try(self) -> None:
        """Run some steps in plain Python: what is misspelt or too long is said at once.

        Raises:
            UsageError: a function fails.
        """
        import mujoco

        generator = np.random.Generator(np.random.PCG64(0))
        self.reset_in_python(generator, None)
        low, high = self.model.actuator_ctrlrange.T
        for _ in range(TRIED_STEPS):
            self.see()
            _, over = self.step_in_python(generator.uniform(low, high))
            self.show_info()
            if over:
                self.reset_in_python(generator, None)
        self._restore_model()
        mujoco.mj_resetData(self.model, self.data)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a robot's function in Python.

        Raises:
            UsageError: it fails; an array that there is not is named with the nearest one.
        """
        function = getattr(self.robot, name)
        try:
            return getattr(function, "py_func", function)(*arguments)
        except Exception as error:
            where = f"{self.robot.__qualname__}.{name}"
            fields = type(getattr(error, "obj", None))
            if isinstance(error, AttributeError) and fields in (Simulation, Model):
                raise unknown(f"array of {where}", str(error.name), fields._fields) from None
            said = f"{type(error).__name__}: {error}"
            raise UsageError(f"{where} fails in plain Python: {said}") from error

    def _restore_model(self) -> None:
        for part, filed in zip(self.parts, self.filed, strict=True):
            part[:] = filed

    def reset_in_python(self, source: np.random.Generator, asked: Any) -> dict[str, Any]:
        """Begin an episode as `reset` does, with Gymnasium's generator; returns the info.

        Raises:
            UsageError: the context that is asked for has another shape, or is not finite.
        """
        import mujoco

        robot, now, model, data = self.robot, self.now, self.model, self.data
        words = _to_words(source)
        if robot.num_contexts:
            self.context[:] = 0.0
            if asked is None:
                self.call("draw_context", words, self.context)
            else:
                given = np.asarray(asked, np.float64)
                if given.shape != self.context.shape or not np.isfinite(given).all():
                    raise UsageError(
                        f"a context of {robot.__qualname__} has {robot.num_contexts} finite "
                        f"numbers, not {asked}"
                    )
                self.context[:] = given
            self._restore_model()
            self.call("apply_context", self.parts, self.context)
            mujoco.mj_setConst(model, data)
        mujoco.mj_resetData(model, data)
        self._note_start()
        sim.add_noise(now.qpos, words, robot.reset_noise)
        sim.add_noise(now.qvel, words, robot.reset_noise)
        self.call("start", self.starting, words)
        _set_words(source, words)
        self._note_start()
        mujoco.mj_forward(model, data)
        return {"context": self.context.copy()} if robot.num_contexts else {}

    def _note_start(self) -> None:
        self.now.time[0] = 0.0
        self.now.previous_qpos[:] = self.now.qpos

    def see(self) -> FloatArray:
        """Make the observation."""
        observation = np.zeros(self.robot.num_observations)
        self.call("observe", self.shown, observation)
        return observation

    def step_in_python(self, action: FloatArray) -> tuple[float, bool]:
        """Take a step as `step` does."""
        import mujoco

        now = self.now
        now.previous_qpos[:] = now.qpos
        now.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, self.robot.frame_skip)
        if self.robot.has_contact_forces:
            mujoco.mj_rnePostConstraint(self.model, self.data)
        now.time[0] += self.constants[sim.STEP_S]
        reward = float(self.call("reward", self.shown, action))
        return reward, bool(self.call("is_over", self.shown))

    def show_info(self) -> dict[str, float]:
        """Make the info of a step."""
        info = np.full(len(self.robot.info_names), np.nan)
        self.call("inform", self.shown, info)
        return dict(zip(self.robot.info_names, info.tolist(), strict=True))


def _freeze(array: FloatArray) -> FloatArray:
    """Make a view that cannot be written."""
    view = array.view()
    view.flags.writeable = False
    return view


def _to_words(source: np.random.Generator) -> Array:
    """Make a kernel's generator go on where Gymnasium's is, PCG64."""
    state: Any = source.bit_generator.state["state"]
    halves = [divmod(state[name], 2**64) for name in ("state", "inc")]
    return np.array(halves, np.uint64).ravel()


def _set_words(source: np.random.Generator, words: Array) -> None:
    """Let Gymnasium's generator go on where a kernel's is."""
    state: Any = source.bit_generator.state
    state["state"]["state"] = (int(words[0]) << 64) | int(words[1])
    source.bit_generator.state = state


def _make_kernel(robot: type[Robot]) -> type[RobotKernel]:
    """Make the kernel of a robot: the functions above, with the robot's own in their places."""
    own: dict[str, Any] = {}
    for name in FUNCTIONS:
        function = getattr(robot, name)
        own[name] = jit(getattr(function, "py_func", function))
    members: dict[str, Any] = {
        name: staticmethod(FunctionType(each.__code__, each.__globals__ | own))
        for name, each in TEMPLATES.items()
    }
    members |= {
        "robot": robot,
        "exact": bool(vars(robot).get("exact")),
        "info_names": robot.info_names,
        "num_contexts": robot.num_contexts,
        "__module__": robot.__module__,
        "__qualname__": f"{robot.__qualname__}._kernel",  # where `pickle` finds it
    }
    return type(f"{robot.__name__}Kernel", (RobotKernel,), members)
