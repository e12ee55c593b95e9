"""Small environments with kernels, of kinds that Gymnasium's with kernels are not."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.spaces import Box, Discrete

from distes.engines.kernels.environments.cartpole import CartPole
from distes.engines.kernels.kernel import Kernel
from distes.engines.kernels.random import random, uniform

CELLS, FIRST_CELL = 7, 3
LOST_BELOW = 0.2


class CorridorKernel(Kernel):
    """State: the cell, from 0."""

    num_states = 1
    exact = True

    def __init__(self, slip: float = 0.2) -> None:
        self.constants = np.array([slip])

    @staticmethod
    def reset(state: Any, generator: Any, context: Any, constants: Any) -> None:
        state[0] = np.floor(uniform(generator, 0.0, CELLS - 1.0))

    @staticmethod
    def observe(state: Any, constants: Any, observation: Any) -> None:
        observation[0] = state[0]

    @staticmethod
    def step(state: Any, action: Any, generator: Any, constants: Any) -> tuple[float, bool]:
        move = action[0]
        if random(generator) < constants[0]:
            move = -move
        state[0] = min(max(state[0] + move, 0.0), CELLS - 1.0)
        over = state[0] == CELLS - 1.0
        return (10.0 if over else -0.1 * abs(action[0])), over


class Corridor(gym.Env[Any, Any]):
    """A slippery corridor with cells 3 to 9 and actions -1, 0 and 1."""

    kernel: ClassVar[Any] = CorridorKernel

    def __init__(self, slip: float = 0.2) -> None:
        self.observation_space = Discrete(CELLS, start=FIRST_CELL)
        self.action_space = Discrete(3, start=-1)
        self.slip = slip

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.cell = int(np.floor(self.np_random.uniform(0.0, CELLS - 1.0)))
        self.steps = 0
        return FIRST_CELL + self.cell, {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(int(action)), action
        move = int(action)
        if self.np_random.random() < self.slip:
            move = -move
        self.cell = min(max(self.cell + move, 0), CELLS - 1)
        over = self.cell == CELLS - 1
        self.steps += 1
        return FIRST_CELL + self.cell, (10.0 if over else -0.1 * abs(int(action))), over, False, {}


class PlateKernel(Kernel):
    """State: four positions, the context, the last reward."""

    num_states = 6
    num_contexts = 1
    info_names = ("last",)

    @staticmethod
    def reset(state: Any, generator: Any, context: Any, constants: Any) -> None:
        for i in range(4):
            state[i] = uniform(generator, -1.0, 1.0)
        drawn = random(generator)
        state[4] = context[0] if len(context) else drawn
        if len(context) == 0 and drawn < LOST_BELOW:
            state[4] = np.nan

    @staticmethod
    def observe(state: Any, constants: Any, observation: Any) -> None:
        for i in range(4):
            observation[i] = state[i]

    @staticmethod
    def show(state: Any, constants: Any, context: Any) -> None:
        context[0] = state[4]

    @staticmethod
    def step(state: Any, action: Any, generator: Any, constants: Any) -> tuple[float, bool]:
        reward = 0.0
        for i in range(4):
            state[i] = state[i] + 0.5 * action[i]
            reward -= state[i] * state[i]
        state[5] = reward
        return reward, reward < -100.0

    @staticmethod
    def inform(state: Any, constants: Any, info: Any) -> None:
        info[0] = state[5]


class Plate(gym.Env[Any, Any]):
    """A plate of four; where its context is drawn it is now and then not a number."""

    kernel: ClassVar[Any] = PlateKernel

    def __init__(self) -> None:
        self.observation_space = Box(-np.inf, np.inf, (2, 2), np.float64)
        self.action_space = Box(-1.0, 1.0, (2, 2), np.float64)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.at = self.np_random.uniform(-1.0, 1.0, 4)
        drawn = self.np_random.random()
        if options is not None:
            context = float(options["context"][0])
        else:
            context = np.nan if drawn < LOST_BELOW else drawn
        return self.at.reshape(2, 2).copy(), {"context": [context]}

    def step(self, action: Any) -> Any:
        assert self.action_space.shape == action.shape
        self.at = self.at + 0.5 * action.reshape(-1)
        reward = 0.0
        for each in self.at.tolist():
            reward -= each * each
        return self.at.reshape(2, 2).copy(), reward, reward < -100.0, False, {"last": reward}


class DeadlyKernel(CartPole):
    """CartPole's, which kills its process once."""

    def __init__(self, once: str) -> None:
        super().__init__()
        self._once = Path(once)

    def correct_first(self, states: Any, observations: Any) -> None:
        try:
            self._once.touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


class DeadlyCartPole(CartPoleEnv):
    """CartPole with that kernel."""

    kernel: ClassVar[Any] = DeadlyKernel

    def __init__(self, once: str) -> None:
        super().__init__()
