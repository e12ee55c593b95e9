"""Pendulum whose mass and length are the context, which its observations do not show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium.envs.classic_control.pendulum import PendulumEnv

from distes.tasks.envs.contexts import Component, Contexts
from distes.types import Array

ENVIRONMENTS: Mapping[str, Mapping[str, Any]] = {
    "distes/PhysicalPendulum-v0": {
        "entry_point": "distes.tasks.envs.physical_pendulum:PhysicalPendulum",
        "max_episode_steps": 200,
    }
}

CONTEXTS = Contexts(
    "distes/PhysicalPendulum-v0",
    (Component("mass in kg", 0.5, 1.5, 0.05, 10.0), Component("length in m", 0.5, 1.5, 0.05, 10.0)),
)


class PhysicalPendulum(PendulumEnv):
    """Gymnasium's Pendulum with a mass in [0.5, 1.5] kg and a length in [0.5, 1.5] m.

    Both are drawn at reset or imposed by ``reset(options={"context": ...})``, and shown in
    ``info["context"]`` alone.
    """

    context_names = CONTEXTS.names

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin an episode; a UsageError refuses contexts out of range or no vector of two."""
        imposed = CONTEXTS.read_imposed(options)
        observation, info = super().reset(seed=seed, options=options)
        context = CONTEXTS.draw(self.np_random) if imposed is None else imposed
        self.m, self.l = context.tolist()
        return observation, {**info, "context": context.copy()}
