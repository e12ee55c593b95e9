"""A quadrotor in the wind, written twice: for Gymnasium, and as a kernel for machine code.

`distes run quadrotor:Quadrotor-v0` from this folder searches from the command line. The
guide to kernels is docs/kernels.md.

A controller with gains set by hand (place to angle to torque), which never crashes, gets 446
of 500; rotors that always give the thrust of hovering are blown away.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np

import distes
from distes.engines.kernels.kernel import Array, Kernel, jit, rounded, uniform
from distes.testing import assert_kernel_matches

STEP_S = 0.02
GRAVITY = 9.81
ARM_M = 0.2
INERTIA_PER_KG = 0.02  # m²
DRAG = 0.5  # of the air's velocity relative to the quadrotor, 1/s
GUST_STEPS = 50
ROOM_M = 4.0
CRASH = 100.0
EFFORT = 0.2

X, Y, ANGLE, VX, VY, TURN, WIND_X, WIND_Y, STEPS = range(9)
"""Places in the state of the kernel."""


class Flight(Kernel):
    """The quadrotor's episodes as functions of small arrays.

    Args:
        wind: as the environment's.
    """

    num_states = 9
    info_names = ("distance",)

    def __init__(self, wind: float = 6.0) -> None:
        self.constants = np.array([float(wind)])

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        state[X], state[Y] = uniform(generator, -1.0, 1.0), uniform(generator, -1.0, 1.0)
        state[ANGLE] = uniform(generator, -0.5, 0.5)
        blow(state, generator, constants[0])

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        for i in range(6):
            observation[i] = rounded(state[i])

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        fly(state, action[0], action[1])
        state[STEPS] += 1.0
        if state[STEPS] % GUST_STEPS == 0.0:
            blow(state, generator, constants[0])
        over = max(abs(state[X]), abs(state[Y])) > ROOM_M or abs(state[ANGLE]) > math.pi / 2
        effort = EFFORT * (action[0] * action[0] + action[1] * action[1])
        return -CRASH if over else 1.0 / (1.0 + square_distance(state)) - effort, over

    @staticmethod
    def inform(state: Array, constants: Array, info: Array) -> None:
        info[0] = math.sqrt(square_distance(state))


@jit
def blow(state: Array, generator: Array, wind: float) -> None:
    """Draw a gust."""
    state[WIND_X] = uniform(generator, -wind, wind)
    state[WIND_Y] = uniform(generator, -wind / 4.0, wind / 4.0)


@jit
def fly(state: Array, left: float, right: float) -> None:
    """Take a step of the equations of motion."""
    lift = GRAVITY * (1.0 + 0.5 * (left + right))
    torque = 0.5 * GRAVITY * ARM_M * (right - left)
    ax = -lift * math.sin(state[ANGLE]) + DRAG * (state[WIND_X] - state[VX])
    ay = lift * math.cos(state[ANGLE]) - GRAVITY + DRAG * (state[WIND_Y] - state[VY])
    state[VX] += STEP_S * ax
    state[VY] += STEP_S * ay
    state[TURN] += STEP_S * torque / INERTIA_PER_KG
    state[X] += STEP_S * state[VX]
    state[Y] += STEP_S * state[VY]
    state[ANGLE] += STEP_S * state[TURN]


@jit
def square_distance(state: Array) -> float:
    """Of the goal, m²."""
    squared: float = state[X] * state[X] + state[Y] * state[Y]
    return squared


class Quadrotor(gym.Env[Any, Any]):
    """A planar quadrotor that is to hover at a goal, in gusts that change every second.

    The observation is the place relative to the goal (m), the angle (rad), and their
    velocities; the wind is felt, not seen. An action is what each rotor adds to the thrust
    that hovering takes, from -1 (off) to 1 (double). A step is worth 1/(1 + d²) at distance
    d, less what the actions cost; leaving the room or tipping over ends the flight and
    costs 100.

    Args:
        wind: greatest horizontal velocity of a gust, m/s; a quarter of it vertically.
        render_mode: None or ``rgb_array``.
    """

    kernel = Flight
    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012

    def __init__(self, wind: float = 6.0, render_mode: str | None = None) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (6,))
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,))
        self.wind = float(wind)
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.y = self.np_random.uniform(-1.0, 1.0), self.np_random.uniform(-1.0, 1.0)
        self.angle = self.np_random.uniform(-0.5, 0.5)
        self.vx = self.vy = self.turn = 0.0
        self.steps = 0
        self._blow()
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        left, right = float(action[0]), float(action[1])
        lift = GRAVITY * (1.0 + 0.5 * (left + right))
        torque = 0.5 * GRAVITY * ARM_M * (right - left)
        ax = -lift * math.sin(self.angle) + DRAG * (self.wind_x - self.vx)
        ay = lift * math.cos(self.angle) - GRAVITY + DRAG * (self.wind_y - self.vy)
        self.vx += STEP_S * ax
        self.vy += STEP_S * ay
        self.turn += STEP_S * torque / INERTIA_PER_KG
        self.x += STEP_S * self.vx
        self.y += STEP_S * self.vy
        self.angle += STEP_S * self.turn
        self.steps += 1
        if self.steps % GUST_STEPS == 0:
            self._blow()
        over = max(abs(self.x), abs(self.y)) > ROOM_M or abs(self.angle) > math.pi / 2
        squared = self.x * self.x + self.y * self.y
        effort = EFFORT * (left * left + right * right)
        reward = -CRASH if over else 1.0 / (1.0 + squared) - effort
        return self._observation(), reward, over, False, {"distance": math.sqrt(squared)}

    def render(self) -> Any:
        """A picture of the room: the goal in green, the quadrotor a line."""
        if self.render_mode != "rgb_array":
            return None
        frame = np.full((200, 200, 3), 255, np.uint8)
        frame[97:104, 97:104] = (0, 160, 0)
        along = np.linspace(-2.0 * ARM_M, 2.0 * ARM_M, 41)  # twice its size, to be seen
        columns = 100.0 + 25.0 * (self.x + along * math.cos(self.angle))
        rows = 100.0 - 25.0 * (self.y + along * math.sin(self.angle))
        places = np.clip(np.array([rows, columns]).astype(int), 1, 198)
        for shift in (-1, 0, 1):
            frame[places[0] + shift, places[1]] = 0
        return frame

    def _blow(self) -> None:
        self.wind_x = self.np_random.uniform(-self.wind, self.wind)
        self.wind_y = self.np_random.uniform(-self.wind / 4.0, self.wind / 4.0)

    def _observation(self) -> Any:
        seen = [self.x, self.y, self.angle, self.vx, self.vy, self.turn]
        return np.array(seen, dtype=np.float32)


if __name__ != "__main__" and "Quadrotor-v0" not in gym.registry:
    gym.register(
        "Quadrotor-v0",
        entry_point=f"{__name__}:Quadrotor",
        max_episode_steps=500,
        reward_threshold=450,
    )


def main(
    generations: int = 100, workers: int | Literal["auto"] = 0, out: Path | None = None
) -> Any:
    # By its name, under which other processes and the cache of machine code find it.
    env = "quadrotor:Quadrotor-v0"
    print(assert_kernel_matches(Flight, env, distes.policies.Linear(), episodes=200))
    result = distes.Search(
        distes.Task(env, fitness="cvar:0.25", log_info=("distance",)),
        strategy=distes.strategies.CEM(),
        population=200,
        episodes=20,
        generations=generations,
        workers=workers,
        out=out,
    ).run()
    score = result.score
    print(f"{result.stopped}: {score.mean:.1f} of 500 over {score.episodes} unseen flights")
    return result


if __name__ == "__main__":
    main()
