"""Stochastic policies for two actions: a logistic law with one output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.spaces import Discrete

from distes.errors import UsageError
from distes.policies.spaces import describe
from distes.policies.stochastic import BernoulliPolicy, StochasticSpec


@dataclass(frozen=True)
class Sigmoid(StochasticSpec):
    """Takes the second of two actions with probability σ(o·w + b), or of a network's output.

    Parameters lie layer by layer, [W (in, out) row by row; b (out)]. Without hidden layers
    they start at zero, else Glorot-uniform.
    """

    def build(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any]
    ) -> BernoulliPolicy:
        if not isinstance(action_space, Discrete) or action_space.n != 2:
            raise UsageError(
                f"sigmoid needs a Discrete action space of 2, not {describe(action_space)}: "
                "softmax takes any Discrete, gaussian takes Box"
            )
        network = self.network(observation_space, 1)
        return BernoulliPolicy(network, int(action_space.start))
