"""Acrobot whose context is the velocities it starts with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.envs.classic_control.acrobot import AcrobotEnv

from distes.tasks.envs.contexts import Component, Contexts
from distes.types import Array

ENVIRONMENTS: Mapping[str, Mapping[str, Any]] = {
    "distes/ContextualAcrobot-v0": {
        "entry_point": "distes.tasks.envs.contextual_acrobot:ContextualAcrobot",
        "max_episode_steps": 500,
        "reward_threshold": -100.0,
    }
}

CONTEXTS = Contexts(
    "distes/ContextualAcrobot-v0",
    (
        Component("velocity of link 1 in rad/s", -0.1, 0.1, -4 * math.pi, 4 * math.pi),
        Component("velocity of link 2 in rad/s", -0.1, 0.1, -9 * math.pi, 9 * math.pi),
    ),
)


class ContextualAcrobot(AcrobotEnv):
    """Gymnasium's Acrobot; the velocities at its start are the context.

    They are components 4 and 5 of the first observation, too.
    ``reset(options={"context": ...})`` imposes them; the angles are the seed's.
    """

    context_names = CONTEXTS.names
    observation_names = ("cos of angle 1", "sin of angle 1", "cos of angle 2", "sin of angle 2",
                         *CONTEXTS.names)  # fmt: skip

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin an episode; a UsageError refuses contexts out of range or no vector of two."""
        imposed = CONTEXTS.read_imposed(options)
        observation, info = super().reset(seed=seed, options=options)
        state: Any = self.state
        if imposed is not None:
            state[2:] = imposed
            observation[4:] = imposed
        return observation, {**info, "context": np.array(state[2:], dtype=np.float64)}
