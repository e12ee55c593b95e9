"""CartPole whose pole's mass and length are the context, which observations do not show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from distes.tasks.envs.contexts import Component, Contexts
from distes.types import Array

ENVIRONMENTS: Mapping[str, Mapping[str, Any]] = {
    "distes/PhysicalCartPole-v0": {
        "entry_point": "distes.tasks.envs.physical_cartpole:PhysicalCartPole",
        "max_episode_steps": 500,
        "reward_threshold": 475.0,
    }
}

CONTEXTS = Contexts(
    "distes/PhysicalCartPole-v0",
    (
        Component("mass of the pole in kg", 0.05, 1.0, 0.001, 20.0),
        Component("length of the pole in m", 0.5, 4.0, 0.05, 40.0),
    ),
)


class PhysicalCartPole(CartPoleEnv):
    """Gymnasium's CartPole with a pole of 0.05 to 1 kg and 0.5 to 4 m.

    Gymnasium's own has 0.1 kg and 1 m. Both numbers are drawn at reset or imposed by
    ``reset(options={"context": ...})``, and shown in ``info["context"]`` alone.
    """

    context_names = CONTEXTS.names

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin an episode; a UsageError refuses contexts out of range or no vector of two."""
        imposed = CONTEXTS.read_imposed(options)
        observation, info = super().reset(seed=seed, options=options)
        context = CONTEXTS.draw(self.np_random) if imposed is None else imposed
        mass, length = context.tolist()
        self.masspole = mass
        self.length = length / 2  # Gymnasium counts up to the centre of mass
        self.total_mass = self.masspole + self.masscart
        self.polemass_length = self.masspole * self.length
        return observation, {**info, "context": context.copy()}
