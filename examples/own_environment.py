"""An environment of one's own: written, checked for purity, solved.

A thermostat: keep a room at 21 degrees while the weather changes, with a heater that
wastes what it overshoots. `distes check own_environment:Thermostat` from this folder does
the check from the command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np

import distes
from distes.testing import assert_pure


class Thermostat(gym.Env[Any, Any]):
    """One room, one heater, steps of ten minutes over a day.

    The observation is (room - 21, outside - 21) in units of ten degrees, the action the
    heater's power in [0, 1]. All randomness comes from ``self.np_random``: that is what
    makes an episode repeatable.
    """

    def __init__(self, insulation: float = 0.95) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))
        self.action_space = gym.spaces.Box(0.0, 1.0, (1,))
        self.insulation = insulation

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.room = self.np_random.uniform(10.0, 25.0)
        self.outside = self.np_random.uniform(-5.0, 15.0)
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self.outside += self.np_random.normal(0.0, 0.5)
        leak = (1.0 - self.insulation) * (self.outside - self.room)
        self.room += leak + 3.0 * float(action[0])
        reward = -abs(self.room - 21.0) - 0.5 * float(action[0])
        return self._observation(), reward, False, False, {"room": self.room}

    def _observation(self) -> Any:
        return np.array([self.room - 21.0, self.outside - 21.0], dtype=np.float32) / 10


def main(
    generations: int = 40, workers: int | Literal["auto"] = "auto", out: Path | None = None
) -> Any:
    # Nothing carries over from one episode to the next, so an instance may be kept.
    task = distes.Task(
        Thermostat, max_episode_steps=144, reuse_env=True, fitness="cvar:0.5", log_info=("room",)
    )
    assert_pure(task, histories=20)
    result = distes.Search(
        task, episodes=4, generations=generations, workers=workers, out=out
    ).run()
    print(result.stopped, result.score)
    return result


if __name__ == "__main__":
    main()
