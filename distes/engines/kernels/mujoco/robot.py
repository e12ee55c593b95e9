"""Robots of one's own: an MJCF file and a few functions are an environment and its kernel.

docs/robots.md is the guide.
"""

from __future__ import annotations

from collections.abc import Mapping
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


class Robot(MujocoEnv):
    """An environment of one's own, and its kernel, from one description.

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
        exact: see `distes.engines.kernels.kernel.Kernel`.
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
        """Make its kernel."""
        super().__init_subclass__(**settings)
        cls.kernel = _make_kernel(cls)

    def __init__(self, render_mode: str | None = None, **numbers: float) -> None:
        kernel = self.kernel(**numbers)
        self._simulation = kernel
        shape = (self.num_observations,)
        super().__init__(
            str(self.xml_file),
            self.frame_skip,
            Box(-np.inf, np.inf, shape, np.float64),
            render_mode=render_mode,
        )
        fps = round(1 / self.dt)
        self.metadata = {**self.metadata, "render_fps": fps}  # type: ignore[misc]

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
        """Take a step."""
        reward, over = self._simulation.step_in_python(np.asarray(action, np.float64))
        if self.render_mode == "human":
            self.render()  # type: ignore[no-untyped-call]
        return self._simulation.see(), reward, over, False, self._simulation.show_info()


class RobotKernel(sim.MujocoKernel):
    """The kernel of a robot, and the same in Python for its environment.

    Attributes:
        robot: the class.
    """

    robot: ClassVar[type[Robot]]

    def __init__(self, **numbers: float) -> None:
        robot = self.robot
        for name in numbers:
            if name not in robot.numbers:
                raise unknown("number", name, robot.numbers)
        self.open(str(Path(robot.xml_file).absolute()), robot.frame_skip, {})
        self.has_contact_forces = robot.has_contact_forces  # type: ignore[misc]
        self.num_states += robot.num_contexts  # type: ignore[misc]
        own = {
            "time": np.zeros(1),
            "previous_qpos": self.data.qpos.copy(),
            "numbers": np.array([*{**robot.numbers, **numbers}.values()], np.float64),
        }
        data, model = self.data, self.model
        seen: list[Any] = [own.get(n, getattr(data, n, None)) for n in Simulation._fields]
        self.now = Simulation(*seen)
        parts = {name: getattr(model, name, None) for name in Model._fields}
        self.parts = Model(**{**parts, "gravity": model.opt.gravity})
        self.filed = Model(*(part.copy() for part in self.parts))
        self.context = np.zeros(robot.num_contexts)
        self.constants = self.pack(
            [*self.now, *self.parts, *self.filed], (float(robot.reset_noise),)
        )
        self._try()

    def _try(self) -> None:
        """Call each function once: what is misspelt or too long is said at once.

        Raises:
            UsageError: one of them fails.
        """
        generator = np.random.Generator(np.random.PCG64(0))
        self.reset_in_python(generator, None)
        self.see()
        self.step_in_python(np.zeros(self.model.nu))
        self.show_info()

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a robot's function in Python.

        Raises:
            UsageError: it reads an array that there is not, or a place that an array has not.
        """
        function = getattr(self.robot, name)
        try:
            return getattr(function, "py_func", function)(*arguments)
        except (AttributeError, IndexError, ValueError, TypeError, NotImplementedError) as error:
            where = f"{self.robot.__qualname__}.{name}"
            if isinstance(error, NotImplementedError):
                raise UsageError(
                    f"{where} is missing: write {name}({', '.join(FUNCTIONS[name])})"
                ) from None
            fields = type(getattr(error, "obj", None))
            if isinstance(error, AttributeError) and fields in (Simulation, Model):
                known = fields._fields
                raise unknown(f"array of {where}", str(error.name), known) from None
            raise UsageError(f"{where} fails in plain Python: {error}") from error

    def reset_in_python(self, source: np.random.Generator, asked: Any) -> dict[str, Any]:
        """Begin an episode as `reset` does, with Gymnasium's generator; returns the info."""
        import mujoco

        robot, now, model, data = self.robot, self.now, self.model, self.data
        words = None
        if robot.num_contexts:
            if asked is None:
                words = _to_words(source)
                self.call("draw_context", words, self.context)
            else:
                self.context[:] = asked
            for part, filed in zip(self.parts, self.filed, strict=True):
                part[:] = filed
            self.call("apply_context", self.parts, self.context)
            mujoco.mj_setConst(model, data)
        mujoco.mj_resetData(model, data)
        words = _to_words(source) if words is None else words
        noise = robot.reset_noise
        sim.add_noise(now.qpos, words, noise)
        sim.add_noise(now.qvel, words, noise)
        self.call("start", now, words)
        now.time[0] = 0.0
        now.previous_qpos[:] = now.qpos
        mujoco.mj_forward(model, data)
        return {"context": self.context.copy()} if robot.num_contexts else {}

    def see(self) -> FloatArray:
        """Make the observation."""
        observation = np.zeros(self.robot.num_observations)
        self.call("observe", self.now, observation)
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
        reward = float(self.call("reward", now, action))
        return reward, bool(self.call("is_over", now))

    def show_info(self) -> dict[str, float]:
        """Make the info of a step."""
        info = np.full(len(self.robot.info_names), np.nan)
        self.call("inform", self.now, info)
        return dict(zip(self.robot.info_names, info.tolist(), strict=True))


def _to_words(source: np.random.Generator) -> Array:
    """Make a kernel's generator go on where Gymnasium's is, PCG64."""
    state: Any = source.bit_generator.state["state"]
    halves = [divmod(state[name], 2**64) for name in ("state", "inc")]
    return np.array(halves, np.uint64).ravel()


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
        "exact": robot.exact,
        "info_names": robot.info_names,
        "num_contexts": robot.num_contexts,
        "__module__": robot.__module__,
        "__qualname__": f"{robot.__qualname__}.kernel",  # where `pickle` finds it
    }
    return type(f"{robot.__name__}Kernel", (RobotKernel,), members)
