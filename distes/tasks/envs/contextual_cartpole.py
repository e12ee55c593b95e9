"""CartPole whose context is where it starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from distes.tasks.envs.contexts import Component, Contexts
from distes.types import Array

ENVIRONMENTS: Mapping[str, Mapping[str, Any]] = {
    "distes/ContextualCartPole-v0": {
        "entry_point": "distes.tasks.envs.contextual_cartpole:ContextualCartPole",
        "max_episode_steps": 200,
        "reward_threshold": 195.0,
    }
}

CONTEXTS = Contexts(
    "distes/ContextualCartPole-v0",
    (
        Component("cart position in m", -0.05, 0.05, -2.4, 2.4),
        Component("cart velocity in m/s", -0.05, 0.05, -10.0, 10.0),
        Component("pole angle in rad", -0.05, 0.05, -math.radians(12), math.radians(12)),
        Component("pole velocity in rad/s", -0.05, 0.05, -10.0, 10.0),
    ),
)


class ContextualCartPole(CartPoleEnv):
    """Gymnasium's CartPole with 200 steps; its first observation is the context.

    ``reset(options={"context": ...})`` starts it there. ``info["context"]`` of reset shows
    the start in full precision.
    """

    observation_names = context_names = CONTEXTS.names

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin an episode; a UsageError refuses contexts out of range or no vector of four."""
        imposed = CONTEXTS.read_imposed(options)
        observation, info = super().reset(seed=seed, options=options)
        if imposed is not None:
            self.state = imposed.copy()
            observation = imposed.astype(np.float32)
        return observation, {**info, "context": np.array(self.state, dtype=np.float64)}
