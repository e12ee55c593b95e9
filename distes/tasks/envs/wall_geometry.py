"""Where the wall-following robot is, and what its sensor shows of the wall.

A two-wheeled robot turns about a point on the line through its wheels; its sensor is one
time-of-flight ray.
"""

from __future__ import annotations

import math
from typing import NamedTuple

STEP_S = 0.1
WHEEL_BASE_MM = 280.0
SENSOR_RAD = math.radians(18.0)  # between the sensor's ray and the direction to the robot's right
SETBACK_MM = 0.01  # how far before the wall, in x and in y, a collision leaves the robot
SMALLEST_SIDE = 1e-9  # squared sides in mm² up to this make no triangle
SAME_MM = 1e-6  # two readings nearer to each other than this show no line


class Pose(NamedTuple):
    """Where the robot is."""

    x: float  # mm
    y: float  # mm
    heading: float  # rad, counter-clockwise from the x axis

    def ray_end(self, reading: float) -> tuple[float, float]:
        """Where the sensor's ray ends that reads so many mm."""
        ray = self.heading - math.pi / 2 + SENSOR_RAD
        return self.x + reading * math.cos(ray), self.y + reading * math.sin(ray)


class Wall(NamedTuple):
    """A straight line; the robot's side is where `distance` is positive."""

    x: float  # of a point on it, mm
    y: float  # of that point
    cos: float  # of its normal, which points away from the robot
    sin: float  # of its normal

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


def drive(pose: Pose, left: float, right: float) -> Pose:
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


def stop_at_wall(wall: Wall, before: Pose, after: Pose) -> tuple[Pose, bool]:
    """Stop the robot before the wall if its way there meets it; whether it does."""
    start, end = wall.distance(before.x, before.y), wall.distance(after.x, after.y)
    if end > 0.0:
        return after, False
    share = start / (start - end) if start > end else 0.0
    x = before.x + share * (after.x - before.x) - SETBACK_MM
    y = before.y + share * (after.y - before.y) - SETBACK_MM
    return Pose(x, y, after.heading), True


def read_wall(
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
