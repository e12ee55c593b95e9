"""Stochastic policies for two actions: a logistic law with one output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.spaces import Discrete

from distes.errors import UsageError
from distes.policies.base import PolicySpec
from distes.policies.network import Activation, NetworkPolicy, refuse_layers
from distes.policies.scored import BernoulliPolicy, Outputs
from distes.policies.spaces import describe, encoder


@dataclass(frozen=True)
class Sigmoid(PolicySpec):
    """Takes the second of two actions with probability σ(o·w + b), or of a network's output.

    Parameters lie layer by layer, [W (in, out) row by row; b (out)]. Without hidden layers
    they start at zero, else Glorot-uniform.

    Attributes:
        hidden: sizes of the hidden layers; none makes it linear.
        activation: after each hidden layer.
        bias: add b in each layer.
        scale_observations: map finite bounds of observations to -1 and 1.
    """

    hidden: tuple[int, ...] = ()
    activation: Activation = "tanh"
    bias: bool = True
    scale_observations: bool = False

    def __post_init__(self) -> None:
        """Refuse layers without units and unknown activations."""
        refuse_layers(self.hidden, self.activation)

    def build(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any]
    ) -> BernoulliPolicy:
        """Build the policy for an environment.

        Raises:
            UsageError: there are not just two actions, or observations are not supported.
        """
        if not isinstance(action_space, Discrete) or action_space.n != 2:
            raise UsageError(
                f"sigmoid needs a Discrete action space of 2, not {describe(action_space)}: "
                "softmax takes any Discrete, gaussian takes Box"
            )
        network = NetworkPolicy(
            encoder(observation_space, self.scale_observations),
            Outputs(1),
            hidden=tuple(self.hidden),
            activation=self.activation,
            bias=self.bias,
        )
        return BernoulliPolicy(network, int(action_space.start))
