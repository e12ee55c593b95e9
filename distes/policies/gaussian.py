"""Stochastic policies for Box actions: normal noise about a mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.spaces import Box, Discrete

from distes.errors import UsageError
from distes.policies.spaces import ActionHead, describe
from distes.policies.stochastic import GaussianPolicy, StochasticSpec
from distes.types import PositiveFloat


@dataclass(frozen=True)
class GaussianNoise(StochasticSpec):
    """Samples o·W + b, or a network's outputs, plus normal noise; clipped to the bounds.

    Parameters lie layer by layer, [W (in, out) row by row; b (out)]. Without hidden layers
    they start at zero, else Glorot-uniform.

    Attributes:
        rescale_actions: let outputs -1 and 1 mean the bounds of a Box.
        std: of the noise, in units of the outputs, > 0.
    """

    rescale_actions: bool = False
    std: PositiveFloat = 0.5

    def build(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any]
    ) -> GaussianPolicy:
        if not isinstance(action_space, Box):
            other = "softmax takes Discrete"
            if not isinstance(action_space, Discrete):
                other += ", and no policy here samples other actions"
            raise UsageError(
                f"gaussian needs a Box action space, not {describe(action_space)}: {other}"
            )
        head = ActionHead(action_space, self.rescale_actions)
        network = self.network(observation_space, head.num_outputs)
        return GaussianPolicy(network, head, self.std)
