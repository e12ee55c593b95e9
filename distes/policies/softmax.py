"""Stochastic policies for Discrete actions: a softmax over one output for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.spaces import Discrete

from distes.errors import UsageError
from distes.policies.base import PolicySpec
from distes.policies.network import Activation, NetworkPolicy, refuse_layers
from distes.policies.scored import CategoricalPolicy, Outputs
from distes.policies.spaces import describe, encoder


@dataclass(frozen=True)
class Softmax(PolicySpec):
    """Samples actions with probabilities softmax(o·W + b), or of a network's outputs.

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
    ) -> CategoricalPolicy:
        """Build the policy for an environment.

        Raises:
            UsageError: actions are not Discrete, or observations are not supported.
        """
        if not isinstance(action_space, Discrete):
            raise UsageError(
                f"softmax needs a Discrete action space, not {describe(action_space)}: "
                "gaussian takes Box"
            )
        network = NetworkPolicy(
            encoder(observation_space, self.scale_observations),
            Outputs(int(action_space.n)),
            hidden=tuple(self.hidden),
            activation=self.activation,
            bias=self.bias,
        )
        return CategoricalPolicy(network, int(action_space.start))
