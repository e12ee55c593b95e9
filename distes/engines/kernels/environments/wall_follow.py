"""The wall-following robot; see `distes.tasks.envs.wall_geometry`."""

from __future__ import annotations

import math

import numpy as np

from distes.engines.kernels.jit import jit
from distes.engines.kernels.kernel import Kernel
from distes.engines.kernels.random import uniform
from distes.tasks.envs import wall_follow as env
from distes.tasks.envs import wall_geometry as geometry
from distes.types import Array

LOW = tuple(each.low for each in env.CONTEXTS.components)
HIGH = tuple(each.high for each in env.CONTEXTS.components)
STEP_S, WHEEL_BASE_MM = geometry.STEP_S, geometry.WHEEL_BASE_MM
SENSOR_RAD, MAX_RANGE_MM, NOISE_MM = geometry.SENSOR_RAD, env.MAX_RANGE_MM, env.NOISE_MM
SETBACK_MM, TARGET_MM, TOUCH_MM = geometry.SETBACK_MM, env.TARGET_MM, env.TOUCH_MM
DISTANCE_COST, ANGLE_COST = env.DISTANCE_COST, env.ANGLE_COST
SMALLEST_SIDE, SAME_MM = geometry.SMALLEST_SIDE, geometry.SAME_MM

X, Y, HEADING, RANGE = 0, 1, 2, 3
READING, ANGLE = 4, 5
WALL_X, WALL_Y, WALL_COS, WALL_SIN = 6, 7, 8, 9
SEEN_1, SEEN_2 = 10, 11
STEPS, COLLISIONS, TIME, OVERSHOOT = 12, 13, 14, 15


class WallFollow(Kernel):
    """State: pose, last range, context, wall, what is observed, then what info tells.

    Args:
        noise: of the sensor.
    """

    entry_point = "distes.tasks.envs.wall_follow:WallFollow"
    exact = True
    num_states = 16
    num_contexts = 2
    info_names = ("collisions", "wall_reached", "overshoot", "time_to_target")

    def __init__(self, noise: bool = False) -> None:
        self.constants = np.array([float(noise)])

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        for i in range(2):
            state[READING + i] = context[i] if len(context) else uniform(generator, LOW[i], HIGH[i])
        state[HEADING] = math.pi / 2
        state[RANGE] = state[READING]
        state[WALL_X] = state[READING] * math.cos(SENSOR_RAD)
        state[WALL_Y] = state[READING] * math.sin(SENSOR_RAD)
        state[WALL_COS], state[WALL_SIN] = math.cos(state[ANGLE]), math.sin(state[ANGLE])
        state[SEEN_1], state[SEEN_2] = state[READING], state[ANGLE]
        state[TIME] = math.nan

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        observation[0], observation[1] = state[SEEN_1], state[SEEN_2]

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        earlier_x, earlier_y = _ray_end(state)
        _drive(state, action[0], action[1])
        _read(state, generator, constants[0] != 0.0)
        found, distance, angle = _find_wall(state, earlier_x, earlier_y)
        state[SEEN_1], state[SEEN_2] = distance, angle
        state[STEPS] += 1.0
        if found and distance <= TARGET_MM:
            if math.isnan(state[TIME]):
                state[TIME] = state[STEPS] * STEP_S
            state[OVERSHOOT] = max(state[OVERSHOOT], TARGET_MM - distance)
        if distance <= TOUCH_MM:
            return 0.0, False
        cost = DISTANCE_COST * abs(distance - TARGET_MM) + ANGLE_COST * abs(angle)
        return math.exp(-cost), False

    @staticmethod
    def show(state: Array, constants: Array, context: Array) -> None:
        context[0], context[1] = state[READING], state[ANGLE]

    @staticmethod
    def inform(state: Array, constants: Array, info: Array) -> None:
        info[0], info[2], info[3] = state[COLLISIONS], state[OVERSHOOT], state[TIME]
        info[1] = 0.0 if math.isnan(state[TIME]) else 1.0

    check_contexts = staticmethod(env.CONTEXTS.check)


@jit
def _ray_end(state: Array) -> tuple[float, float]:
    ray = state[HEADING] - math.pi / 2 + SENSOR_RAD
    return state[X] + state[RANGE] * math.cos(ray), state[Y] + state[RANGE] * math.sin(ray)


@jit
def _wall_distance(state: Array, x: float, y: float) -> float:
    apart: float = (state[WALL_X] - x) * state[WALL_COS] + (state[WALL_Y] - y) * state[WALL_SIN]
    return apart


@jit
def _drive(state: Array, left: float, right: float) -> None:
    """Drive for a step, up to the wall if it is in the way."""
    x, y, heading = state[X], state[Y], state[HEADING]
    by_left, by_right = left * STEP_S, right * STEP_S
    turn = (by_right - by_left) / WHEEL_BASE_MM
    if turn == 0.0:
        to_x, to_y = x + by_left * math.cos(heading), y + by_left * math.sin(heading)
    else:
        radius = (by_left + by_right) / (2.0 * turn)
        to_x = x + radius * (math.sin(heading + turn) - math.sin(heading))
        to_y = y + radius * (math.cos(heading) - math.cos(heading + turn))
    start, end = _wall_distance(state, x, y), _wall_distance(state, to_x, to_y)
    if not end > 0.0:
        share = start / (start - end) if start > end else 0.0
        to_x, to_y = x + share * (to_x - x) - SETBACK_MM, y + share * (to_y - y) - SETBACK_MM
        state[COLLISIONS] += 1.0
    state[X], state[Y], state[HEADING] = to_x, to_y, heading + turn


@jit
def _read(state: Array, generator: Array, noise: bool) -> None:
    """Read the sensor."""
    ray = state[HEADING] - math.pi / 2 + SENSOR_RAD
    towards = math.cos(ray) * state[WALL_COS] + math.sin(ray) * state[WALL_SIN]
    length = math.inf
    if towards > 0.0:
        length = _wall_distance(state, state[X], state[Y]) / towards
    if noise and math.isfinite(length):
        length += uniform(generator, -NOISE_MM, NOISE_MM)
    state[RANGE] = min(length, MAX_RANGE_MM)


@jit
def _find_wall(state: Array, earlier_x: float, earlier_y: float) -> tuple[bool, float, float]:
    """Whether the last two readings show a wall, its distance and its angle."""
    latest_x, latest_y = _ray_end(state)
    side_x, side_y = math.sin(state[HEADING]), -math.cos(state[HEADING])
    along_x, along_y = latest_x - earlier_x, latest_y - earlier_y
    length = math.sqrt(along_x * along_x + along_y * along_y)
    if length < SAME_MM:
        return False, 0.0, 0.0
    crossing = (side_x * along_y - side_y * along_x) / length
    if abs(crossing) < SAME_MM:
        return False, 0.0, 0.0
    to_x, to_y = latest_x - state[X], latest_y - state[Y]
    to_cross = (to_x * along_y - to_y * along_x) / (length * crossing)
    to_foot = to_x * side_x + to_y * side_y
    off = side_x * to_y - side_y * to_x
    apart = to_foot - to_cross
    if min(apart * apart, off * off) <= SMALLEST_SIDE:
        return True, abs(to_cross), 0.0
    angle = math.atan2(abs(apart), abs(off))
    return True, abs(to_cross), -angle if apart * side_x > 0.0 else angle
