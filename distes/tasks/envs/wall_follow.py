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
from typing import Any, NamedTuple, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from distes.errors import UsageError
from distes.tasks.envs.contexts import Component, Contexts
from distes.types import FloatArray

ENVIRONMENTS: Mapping[str, Mapping[str, Any]] = {
    "distes/WallFollow-v0": {
        "entry_point": "distes.tasks.envs.wall_follow:WallFollow",
        "max_episode_steps": 300,
    }
}

STEP_S = 0.1
WHEEL_BASE_MM = 280.0
MAX_SPEED_MM_S = 324.0
SENSOR_RAD = math.radians(18.0)
"""Between the sensor's ray and the direction to the robot's right."""
MAX_RANGE_MM = 255.0
"""What the sensor reads when it sees no wall."""
NOISE_MM = 2.0
SETBACK_MM = 0.01
"""How far before the wall, in x and in y, a collision leaves the robot."""
TARGET_MM = 10.0
TOUCH_MM = 0.1
"""No reward up to this distance."""
DISTANCE_COST = 0.0025
ANGLE_COST = 50.0
SMALLEST_SIDE = 1e-9
"""Squared sides in mm² up to this make no triangle."""
SAME_MM = 1e-6
"""Two readings nearer to each other than this show no line."""

CONTEXTS = Contexts(
    "distes/WallFollow-v0",
    (
        Component("first range in mm", 150.0, 200.0, 20.0, MAX_RANGE_MM),
        Component("wall angle in rad", math.pi / 6, math.pi / 3, 0.01, math.pi / 2 - 0.01),
    ),
)


class Pose(NamedTuple):
    """Where the robot is.

    Attributes:
        x: mm.
        y: mm.
        heading: rad, counter-clockwise from the x axis.
    """

    x: float
    y: float
    heading: float

    def seen(self, reading: float) -> tuple[float, float]:
        """Where the sensor's ray ends that reads so many mm."""
        ray = self.heading - math.pi / 2 + SENSOR_RAD
        return self.x + reading * math.cos(ray), self.y + reading * math.sin(ray)


class Wall(NamedTuple):
    """A straight line; the robot's side is where `distance` is positive.

    Attributes:
        x: of a point on it, mm.
        y: of that point.
        cos: of its normal, which points away from the robot.
        sin: of its normal.
    """

    x: float
    y: float
    cos: float
    sin: float

    @classmethod
    def at(cls, reading: float, angle: float) -> Wall:
        """The wall of a context: first range in mm, angle to the first heading in rad."""
        # Its direction is π/2 + angle, so that its normal's is the angle itself.
        x, y = reading * math.cos(SENSOR_RAD), reading * math.sin(SENSOR_RAD)
        return cls(x, y, math.cos(angle), math.sin(angle))

    def distance(self, x: float, y: float) -> float:
        """From a point, mm; negative beyond the wall."""
        return (self.x - x) * self.cos + (self.y - y) * self.sin

    def range_from(self, pose: Pose) -> float:
        """Length of the sensor's ray up to the wall, mm; inf where the wall is not ahead."""
        ray = pose.heading - math.pi / 2 + SENSOR_RAD
        towards = math.cos(ray) * self.cos + math.sin(ray) * self.sin
        gap = self.distance(pose.x, pose.y)
        return gap / towards if towards > 0.0 else math.inf


def driven(pose: Pose, left: float, right: float) -> Pose:
    """Where wheel speeds in mm/s take the robot within one step, as if there were no wall."""
    x, y, heading = pose
    by_left, by_right = left * STEP_S, right * STEP_S
    turn = (by_right - by_left) / WHEEL_BASE_MM
    if turn == 0.0:
        return Pose(x + by_left * math.cos(heading), y + by_left * math.sin(heading), heading)
    radius = (by_left + by_right) / (2.0 * turn)
    return Pose(
        x + radius * (math.sin(heading + turn) - math.sin(heading)),
        y + radius * (math.cos(heading) - math.cos(heading + turn)),
        heading + turn,
    )


def stopped(wall: Wall, before: Pose, after: Pose) -> tuple[Pose, bool]:
    """Stop the robot before the wall if its way there meets it; whether it does."""
    start, end = wall.distance(before.x, before.y), wall.distance(after.x, after.y)
    if end > 0.0:
        return after, False
    share = start / (start - end) if start > end else 0.0
    x = before.x + share * (after.x - before.x) - SETBACK_MM
    y = before.y + share * (after.y - before.y) - SETBACK_MM
    return Pose(x, y, after.heading), True


def seen_wall(
    pose: Pose, earlier: tuple[float, float], latest: tuple[float, float]
) -> tuple[float, float] | None:
    """Read distance in mm and angle in rad off the line through two ends of the ray.

    X is where that line crosses the lateral line through the robot, Q the foot of the
    latest end H on the lateral line: the distance is ‖X − robot‖, the angle that at H of
    the triangle X H Q, whose right angle is at Q.

    Returns:
        None where the ends are one point, or their line is parallel to the lateral one.
    """
    side_x, side_y = math.sin(pose.heading), -math.cos(pose.heading)
    along_x, along_y = latest[0] - earlier[0], latest[1] - earlier[1]
    length = math.sqrt(along_x * along_x + along_y * along_y)
    if length < SAME_MM:
        return None
    crossing = (side_x * along_y - side_y * along_x) / length
    if abs(crossing) < SAME_MM:
        return None
    to_x, to_y = latest[0] - pose.x, latest[1] - pose.y
    # Along the lateral line, counted from the robot to its right.
    to_cross = (to_x * along_y - to_y * along_x) / (length * crossing)
    to_foot = to_x * side_x + to_y * side_y
    off = side_x * to_y - side_y * to_x
    apart = to_foot - to_cross
    if min(apart * apart, off * off) <= SMALLEST_SIDE:
        return abs(to_cross), 0.0
    angle = math.atan2(abs(apart), abs(off))
    return abs(to_cross), -angle if apart * side_x > 0.0 else angle


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

    Attributes:
        wall: of this episode.
        pose: of the robot.
        range: what the sensor last read, mm.
        trajectory: where the robot has been, (x, y) in mm, if it is drawn.
        shown: distance, angle and reward of the last step, if it is drawn.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 30}  # noqa: RUF012

    wall: Wall
    pose: Pose
    range: float
    trajectory: list[tuple[float, float]]
    shown: tuple[float, float, float]
    _steps: int
    _collisions: int
    _time_to_target: float | None
    _overshoot: float

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
        self._view: Any = None
        self._begin(np.array([[each.low, each.high] for each in CONTEXTS.components]).mean(1))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Begin an episode.

        Raises:
            UsageError: the context of the options is out of range or no vector of two.
        """
        super().reset(seed=seed)
        imposed = CONTEXTS.imposed(options)
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
        earlier = self.pose.seen(self.range)
        self.pose, met = stopped(self.wall, self.pose, driven(self.pose, left, right))
        self.range = self._reading()
        seen = seen_wall(self.pose, earlier, self.pose.seen(self.range))
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
            from distes.tasks.envs.wall_view import WallView

            self._view = WallView(self.render_mode == "human", self.metadata["render_fps"])
        return self._view.draw(self)

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._view is not None:
            self._view.close()
            self._view = None

    @property
    def steps(self) -> int:
        """Taken in this episode."""
        return self._steps

    def _begin(self, context: FloatArray) -> None:
        """Forget the last episode."""
        reading, angle = float(context[0]), float(context[1])
        self.wall = Wall.at(reading, angle)
        self.pose = Pose(0.0, 0.0, math.pi / 2)
        self.range = reading
        self.trajectory = [(0.0, 0.0)]
        self.shown = reading, angle, 0.0
        self._steps = 0
        self._collisions = 0
        self._time_to_target = None
        self._overshoot = 0.0

    def _reading(self) -> float:
        length = self.wall.range_from(self.pose)
        if self.noise and math.isfinite(length):
            length += self.np_random.uniform(-NOISE_MM, NOISE_MM)
        return min(length, MAX_RANGE_MM)
