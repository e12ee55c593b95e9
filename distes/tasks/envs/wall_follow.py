"""A two-wheeled robot that is to drive along a wall, which it feels by a single ray.

| name | meaning |
|---|---|
| x, y, heading | place in mm and direction in rad of the robot; it starts at (0, 0, π/2) |
| range | m, what the time-of-flight sensor last read, in mm |
| distance, angle | (d, α), the wall beside the robot as its last two readings show it |
| left, right | u, speeds of the wheels in mm/s |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from distes.errors import UsageError
from distes.tasks.envs.contexts import Component, Contexts
from distes.tasks.envs.wall_geometry import STEP_S, Pose, Wall, drive, read_wall, stop_at_wall
from distes.tasks.envs.wall_view import WallView
from distes.types import FloatArray

ENVIRONMENTS: Mapping[str, Mapping[str, Any]] = {
    "distes/WallFollow-v0": {
        "entry_point": "distes.tasks.envs.wall_follow:WallFollow",
        "max_episode_steps": 300,
    }
}

MAX_SPEED_MM_S = 324.0
MAX_RANGE_MM = 255.0  # what the sensor reads when it sees no wall
NOISE_MM = 2.0
TARGET_MM = 10.0
TOUCH_MM = 0.1  # no reward up to this distance
DISTANCE_COST = 0.0025
ANGLE_COST = 50.0

CONTEXTS = Contexts(
    "distes/WallFollow-v0",
    (
        Component("first range in mm", 150.0, 200.0, 20.0, MAX_RANGE_MM),
        Component("wall angle in rad", math.pi / 6, math.pi / 3, 0.01, math.pi / 2 - 0.01),
    ),
)


def reward_for(distance: float, angle: float) -> float:
    """Reward of a step, in [0, 1]: near the target distance, parallel to the wall."""
    if distance <= TOUCH_MM:
        return 0.0
    return math.exp(-(DISTANCE_COST * abs(distance - TARGET_MM) + ANGLE_COST * abs(angle)))


class WallFollow(gym.Env[FloatArray, FloatArray]):
    """Drive along a wall at 10 mm, knowing it by the last two readings of one ray.

    The context (first range in mm, angle of the wall in rad) is uniform in [150, 200] x
    [π/6, π/3], or the one in ``reset(options={"context": ...})``. It is the first
    observation; later ones are (distance in mm, angle in rad). Actions are the speeds of the
    left and the right wheel in mm/s.

    A step is 0.1 s and is worth exp(−(.0025·|d − 10| + 50·|α|)), or 0 up to d = 0.1: an
    episode of 300 steps at most 300. Where two readings show no line, distance and angle
    are 0. ``info`` holds the context at reset; then, for logs, ``collisions`` (steps that
    ended at the wall), ``wall_reached`` (1 once d was 10 mm or less), ``time_to_target`` (s
    until then, absent before) and ``overshoot`` (mm below 10 since then, at most).

    The scenario is that of PyCREPS.

    Args:
        noise: add U(−2, 2) mm to each reading of the wall.
        render_mode: ``human``, ``rgb_array`` or None.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_names = ("distance in mm", "wall angle in rad")
    context_names = CONTEXTS.names

    def __init__(self, noise: bool = False, render_mode: str | None = None) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise UsageError(
                f"render_mode '{render_mode}' is not one of {self.metadata['render_modes']}"
            )
        self.noise = noise
        self.render_mode = render_mode
        self.action_space = Box(-MAX_SPEED_MM_S, MAX_SPEED_MM_S, (2,), np.float64)
        self.observation_space = Box(
            np.array([0.0, -math.pi / 2]), np.array([np.inf, math.pi / 2]), dtype=np.float64
        )
        self._view: WallView | None = None
        self._begin(np.array([[each.low, each.high] for each in CONTEXTS.components]).mean(1))

    def _begin(self, context: FloatArray) -> None:
        """Forget the last episode."""
        reading, angle = float(context[0]), float(context[1])
        self.wall = Wall.at(reading, angle)
        self.pose = Pose(0.0, 0.0, math.pi / 2)
        self.range = reading  # what the sensor last read, mm
        # Where the robot has been, and distance, angle and reward of the last step, if drawn.
        self.trajectory, self.shown = [(0.0, 0.0)], (reading, angle, 0.0)
        self._steps, self._collisions, self._overshoot = 0, 0, 0.0
        self._time_to_target: float | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Begin an episode; a UsageError refuses contexts out of range or no vector of two."""
        super().reset(seed=seed)
        imposed = CONTEXTS.read_imposed(options)
        context = CONTEXTS.draw(self.np_random) if imposed is None else imposed
        self._begin(context)
        if self.render_mode == "human":
            self.render()
        return context.copy(), {"context": context.copy()}

    def step(
        self, action: FloatArray
    ) -> tuple[FloatArray, SupportsFloat, bool, bool, dict[str, Any]]:
        """Drive for 0.1 s, then read the sensor."""
        left, right = (min(max(float(speed), -MAX_SPEED_MM_S), MAX_SPEED_MM_S) for speed in action)
        earlier = self.pose.ray_end(self.range)
        self.pose, met = stop_at_wall(self.wall, self.pose, drive(self.pose, left, right))
        self.range = self._reading()
        seen = read_wall(self.pose, earlier, self.pose.ray_end(self.range))
        distance, angle = (0.0, 0.0) if seen is None else seen
        reward = reward_for(distance, angle)
        self._steps += 1
        self._collisions += met
        if seen is not None and distance <= TARGET_MM:
            if self._time_to_target is None:
                self._time_to_target = self._steps * STEP_S
            self._overshoot = max(self._overshoot, TARGET_MM - distance)
        if self.render_mode is not None:
            self.trajectory.append((self.pose.x, self.pose.y))
            self.shown = distance, angle, reward
            if self.render_mode == "human":
                self.render()
        info: dict[str, Any] = {
            "collisions": self._collisions,
            "wall_reached": int(self._time_to_target is not None),
            "overshoot": self._overshoot,
        }
        if self._time_to_target is not None:
            info["time_to_target"] = self._time_to_target
        return np.array((distance, angle)), reward, False, False, info

    def render(self) -> Any:
        """Draw the robot and the wall: (height, width, 3) with ``rgb_array``."""
        if self.render_mode is None:
            gym.logger.warn(
                'nothing is drawn without a render_mode: gym.make("distes/WallFollow-v0", '
                'render_mode="rgb_array")'
            )
            return None
        if self._view is None:
            self._view = WallView(self.render_mode == "human", self.metadata["render_fps"])
        distance, angle, reward = self.shown
        caption = (
            f"step {self._steps}   distance {distance:.1f} mm   "
            f"angle {math.degrees(angle):.1f}°   reward {reward:.2f}"
        )
        return self._view.draw(self.wall, self.trajectory, self.pose, self.range, caption)

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._view is not None:
            self._view.close()
            self._view = None

    def _reading(self) -> float:
        length = self.wall.range_from(self.pose)
        if self.noise and math.isfinite(length):
            length += self.np_random.uniform(-NOISE_MM, NOISE_MM)
        return min(length, MAX_RANGE_MM)
