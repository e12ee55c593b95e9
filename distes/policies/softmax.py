"""Stochastic policies for Discrete actions: a softmax over one output for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.spaces import Box, Discrete

from distes.errors import UsageError
from distes.policies.spaces import describe
from distes.policies.stochastic import CategoricalPolicy, StochasticSpec


@dataclass(frozen=True)
class Softmax(StochasticSpec):
    """Samples actions with probabilities softmax(o·W + b), or of a network's outputs.

    Parameters lie layer by layer, [W (in, out) row by row; b (out)]. Without hidden layers
    they start at zero, else Glorot-uniform.
    """

    def build(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any]
    ) -> CategoricalPolicy:
        if not isinstance(action_space, Discrete):
            other = "gaussian takes Box"
            if not isinstance(action_space, Box):
                other += ", and no policy here samples other actions"
            raise UsageError(
                f"softmax needs a Discrete action space, not {describe(action_space)}: {other}"
            )
        network = self.network(observation_space, int(action_space.n))
        return CategoricalPolicy(network, int(action_space.start))
