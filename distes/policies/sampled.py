"""Stochastic policies for whatever actions there are: softmax, or normal noise."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import gymnasium as gym
from gymnasium.spaces import Box, Discrete

from distes.errors import UsageError
from distes.policies.gaussian import GaussianNoise
from distes.policies.softmax import Softmax
from distes.policies.spaces import describe
from distes.policies.stochastic import CategoricalPolicy, GaussianPolicy, StochasticSpec
from distes.types import PositiveFloat


@dataclass(frozen=True)
class Sampled(StochasticSpec):
    """A softmax over Discrete actions; for Box, normal noise about a mean.

    Parameters lie layer by layer, as those of softmax and gaussian.

    Attributes:
        rescale_actions: let outputs -1 and 1 mean the bounds of a Box.
        std: of the noise for Box, in units of the outputs, > 0.
    """

    hidden: tuple[int, ...] = (20, 20)
    rescale_actions: bool = False
    std: PositiveFloat = 0.5

    def build(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any]
    ) -> CategoricalPolicy | GaussianPolicy:
        if isinstance(action_space, Box):
            return GaussianNoise(**vars(self)).build(observation_space, action_space)
        if not isinstance(action_space, Discrete):
            raise UsageError(
                f"sampled needs a Discrete or Box action space, not {describe(action_space)}: no "
                "policy here samples such actions"
            )
        shared = {each.name: getattr(self, each.name) for each in fields(StochasticSpec)}
        return Softmax(**shared).build(observation_space, action_space)
