"""Environments that show what happens in them, for the engine that runs every episode."""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import HumanRendering

from distes.errors import UsageError
from distes.tasks.base import AnyTask
from distes.tasks.environment import Task
from distes.types import Array

_DRIVERS = {"WAYLAND_DISPLAY": "wayland", "DISPLAY": "x11"}
"""Variables that say where a display is -> what SDL calls its driver."""

DEFAULT_FPS = 30.0
"""Frames a second of environments that do not say."""

REST_S = 0.7
"""Seconds for which an episode's last frame stands."""


AddFrame = Callable[[Array, str, int], bool]
"""Takes a frame, (height, width, 3) uint8, its caption, and how often it is shown; says
whether there is room for more. `distes.views.replay.video.Video.add` is one."""


class Camera:
    """Takes the frames of episodes in turn, every one or every n-th.

    Args:
        add: where they go.
        fps: frames a second of the film.
        every: steps from one frame to the next.
        episodes: how many there will be.

    Attributes:
        full: whether the film ended before the episodes did.
    """

    def __init__(self, add: AddFrame, fps: float, every: int, episodes: int) -> None:
        self.full = False
        self._add = add
        self._rest = max(1, round(REST_S * fps))
        self._every = every
        self._episodes = episodes
        self._episode = 0
        self._open = False

    def begin(self, look: Callable[[], Array]) -> None:
        """An episode was reset."""
        self._episode += 1
        self._open = True
        self._steps, self._total, self._whole = 0, 0.0, True
        self._take(look)

    def step(self, reward: float, look: Callable[[], Array]) -> None:
        """A step was made."""
        self._steps += 1
        self._total += reward
        self._whole = self._whole and reward.is_integer()
        if self._steps % self._every == 0:
            self._take(look)

    def end(self, look: Callable[[], Array]) -> None:
        """The episode is over, if one was under way; its last frame stands for a while."""
        if self._open:
            self._open = False
            self._take(look, self._rest)

    def _take(self, look: Callable[[], Array], times: int = 1) -> None:
        if self.full:
            return
        total = f"{self._total:.0f}" if self._whole else f"{self._total:.2f}"
        number = f"episode {self._episode} of {self._episodes}   " if self._episodes > 1 else ""
        self.full = not self._add(look(), f"{number}return {total}", times)


class Recorder(gym.Wrapper[Any, Any, Any, Any]):
    """Shows a camera each step of an environment, and changes nothing."""

    def __init__(self, env: gym.Env[Any, Any], camera: Camera, name: str) -> None:
        super().__init__(env)
        self._camera = camera
        self._name = name

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset, once the last episode's end is seen."""
        self._camera.end(self._look)
        first = self.env.reset(seed=seed, options=options)
        self._camera.begin(self._look)
        return first

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Make a step."""
        seen = self.env.step(action)
        self._camera.step(float(seen[1]), self._look)
        return seen

    def close(self) -> None:
        """Close, once the last episode's end is seen."""
        try:
            self._camera.end(self._look)
        finally:
            super().close()

    def _look(self) -> Array:
        try:
            frame: Any = self.env.render()
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UsageError(f"{self._name} can't be rendered: {reason}") from error
        coloured = isinstance(frame, np.ndarray) and frame.ndim == 3 and frame.shape[2] in (3, 4)
        if not (coloured and frame.dtype == np.uint8 and frame.size):
            what = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else repr(frame)
            raise UsageError(
                f"{self._name}'s render gives {' '.join(what.split())[:60]}, and a frame is a "
                "uint8 array of shape (height, width, 3)"
            )
        image: Array = frame[:, :, :3]
        return image


@dataclass(frozen=True)
class RenderedTask(Task):
    """A task like another one, whose environments are seen.

    Attributes:
        how: they are seen.
        camera: what sees them; None where they open a window.
    """

    how: Rendering = field(kw_only=True)
    camera: Camera | None = field(default=None, kw_only=True)

    def make_env(self) -> gym.Env[Any, Any]:
        """Make an instance that is seen."""
        env = self.how.task.make_env()
        if self.how.in_window:
            env = HumanRendering(env)
        return env if self.camera is None else Recorder(env, self.camera, self.name)


@dataclass(frozen=True)
class Rendering:
    """How a task's environments can be seen.

    Attributes:
        task: makes environments that render.
        fps: frames a second, one a step, at the environment's own pace.
        in_window: whether their frames have to be brought into a window.
    """

    task: Task
    fps: float
    in_window: bool = False

    def count_steps_per_frame(self, max_fps: float) -> int:
        """Count steps from one frame to the next, for at most so many frames a second."""
        return max(1, math.ceil(self.fps / max_fps))


def find_rendering(task: AnyTask, mode: Literal["rgb_array", "human"]) -> Rendering:
    """Find out how a task can be seen.

    Args:
        task: of a run.
        mode: ``rgb_array`` for frames, ``human`` for a window.

    Raises:
        UsageError: it is a function, can't be rendered that way, or there is no display.
    """
    if not isinstance(task, Task):
        raise UsageError(f"{task.name} is a function of the parameters: there is nothing to see")
    if mode == "human" and not (_has_display() and _opens_windows()):
        raise UsageError(
            "there is no display to open a window on: write a video, with out (--out FILE.mp4)"
        )
    env = task.make_env()
    try:
        modes = list(env.metadata.get("render_modes") or ())
        fps = env.metadata.get("render_fps")
        fixed = env.render_mode
    finally:
        env.close()
    native = "rgb_array" if "human" not in modes else mode
    if native not in modes:
        known = f"its render_modes are {', '.join(map(str, modes))}" if modes else "it has none"
        raise UsageError(f"{task.name} does not render as {native}: {known}")
    if _takes_render_mode(task):
        task = replace(task, env_kwargs={**task.env_kwargs, "render_mode": native})
    elif fixed != native:
        raise UsageError(
            f"{task.name} takes no render_mode: give the function an argument render_mode "
            "and pass it to the environment"
        )
    if not (isinstance(fps, int | float) and math.isfinite(fps) and fps > 0):
        fps = DEFAULT_FPS
    return Rendering(task, float(fps), in_window=native != mode)


def can_be_filmed(task: Any) -> bool:
    """Whether a task's environments say that they can be filmed; never raises."""
    try:
        find_rendering(task, "rgb_array")
    except Exception:  # noqa: BLE001 - a question at the end of a run must not fail it
        return False
    return True


def without_display() -> contextlib.AbstractContextManager[None]:
    """Let libraries draw where there is no display: they would look for one, or complain."""
    chosen = {} if _has_display() else {"MUJOCO_GL": "egl", "SDL_VIDEODRIVER": "dummy"}
    return _set_variables({k: value for k, value in chosen.items() if k not in os.environ})


@contextlib.contextmanager
def _set_variables(added: dict[str, str]) -> Iterator[None]:
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _takes_render_mode(task: Task) -> bool:
    if isinstance(task.env, str):
        return True
    try:
        inspect.signature(task.env).bind(**{**task.env_kwargs, "render_mode": "rgb_array"})
    except TypeError:
        return False
    except ValueError:  # it does not say what it accepts
        pass
    return True


def _has_display() -> bool:
    return sys.platform != "linux" or any(
        os.environ.get(name) for name in (*_DRIVERS, "SDL_VIDEODRIVER")
    )


def _opens_windows() -> bool:
    """Whether a display answers: where none does, SDL draws into memory without a word."""
    try:
        import pygame
    except ModuleNotFoundError:  # the environment has windows of its own
        return True
    # SDL is to try what the surroundings name, and nothing else.
    named = ",".join(driver for name, driver in _DRIVERS.items() if os.environ.get(name))
    chosen = sys.platform != "linux" or os.environ.get("SDL_VIDEODRIVER")
    with _set_variables({} if chosen else {"SDL_VIDEODRIVER": named}):
        try:
            pygame.display.init()
        except pygame.error:
            return False
        finally:
            pygame.display.quit()
    return True
