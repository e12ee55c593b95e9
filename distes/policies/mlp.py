"""Multi-layer perceptrons, in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from distes.policies.base import PolicySpec
from distes.policies.network import Activation, NetworkPolicy, refuse_layers
from distes.policies.spaces import ActionHead, ObservationEncoder


@dataclass(frozen=True)
class MLP(PolicySpec):
    """A network of fully connected layers, its outputs decoded into an action.

    Parameters lie layer by layer, [W (in, out) row by row; b (out)]. Weights start
    Glorot-uniform, biases at zero.

    Attributes:
        hidden: sizes of the hidden layers.
        activation: after each hidden layer.
        bias: add b in each layer.
        scale_observations: map finite bounds of observations to -1 and 1.
        rescale_actions: let outputs -1 and 1 mean the bounds of a Box.
    """

    hidden: tuple[int, ...] = (32, 32)
    activation: Activation = "tanh"
    bias: bool = True
    scale_observations: bool = False
    rescale_actions: bool = False

    def __post_init__(self) -> None:
        """Refuse layers without units."""
        refuse_layers(self.hidden, at_least_one=True)
        super().__post_init__()

    def build(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any]
    ) -> NetworkPolicy:
        return NetworkPolicy(
            ObservationEncoder(observation_space, self.scale_observations),
            ActionHead(action_space, self.rescale_actions),
            hidden=self.hidden,
            activation=self.activation,
            bias=self.bias,
        )
