"""Linear policies: one weight matrix from observation to action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from distes.policies.base import PolicySpec
from distes.policies.network import NetworkPolicy
from distes.policies.spaces import ActionHead, ObservationEncoder


@dataclass(frozen=True)
class Linear(PolicySpec):
    """Outputs o·W + b, decoded into an action: the largest of Discrete, clipped for Box.

    Parameters are [W (observation, outputs) row by row; b (outputs)]: 10 on CartPole, 4
    on Pendulum. They start at zero.

    Attributes:
        bias: add b.
        scale_observations: map finite bounds of observations to -1 and 1.
        rescale_actions: let outputs -1 and 1 mean the bounds of a Box.
    """

    bias: bool = True
    scale_observations: bool = False
    rescale_actions: bool = False

    def build(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any]
    ) -> NetworkPolicy:
        return NetworkPolicy(
            ObservationEncoder(observation_space, self.scale_observations),
            ActionHead(action_space, self.rescale_actions),
            bias=self.bias,
        )
