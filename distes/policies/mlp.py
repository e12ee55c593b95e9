"""Multi-layer perceptrons, in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import gymnasium as gym

from distes.errors import UsageError, unknown
from distes.policies.base import PolicySpec
from distes.policies.network import Activation, NetworkPolicy
from distes.policies.spaces import action_head, encoder


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
        """Refuse layers without units and unknown activations."""
        sizes = self.hidden if isinstance(self.hidden, tuple | list) else ()
        if not sizes or any(type(size) is not int or size < 1 for size in sizes):
            raise UsageError(
                f"hidden {self.hidden} is not one or more whole numbers of at least 1, "
                "for example (32, 32)"
            )
        if self.activation not in get_args(Activation):
            raise unknown("activation", str(self.activation), get_args(Activation))

    def build(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any]
    ) -> NetworkPolicy:
        """Build the policy for an environment.

        Raises:
            UsageError: a space is not supported; the sentence names it.
        """
        return NetworkPolicy(
            encoder(observation_space, self.scale_observations),
            action_head(action_space, self.rescale_actions),
            hidden=tuple(self.hidden),
            activation=self.activation,
            bias=self.bias,
        )
