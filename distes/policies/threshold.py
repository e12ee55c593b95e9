"""Threshold policies: one output, cut into the actions of a Discrete space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete
from numpy.random import Generator

from distes.errors import UsageError
from distes.policies import products
from distes.policies.base import Act, BuiltPolicy, PolicySpec, number_names
from distes.policies.spaces import ObservationEncoder, describe
from distes.types import FloatArray


@dataclass(frozen=True)
class Threshold(PolicySpec):
    """The number of thresholds that o·w + b reaches is the number of the action.

    Parameters are [w (observation); b]: 4 on CartPole, 6 on Acrobot without b. They start
    at zero.

    Attributes:
        bias: add b.
        thresholds: increasing, one fewer than there are actions; none stands for 0 with two
            actions, -1 and 1 with three, -2, 0 and 2 with four, and so on.
        scale_observations: map finite bounds of observations to -1 and 1.
    """

    bias: bool = False
    thresholds: tuple[float, ...] | None = None
    scale_observations: bool = False

    def __post_init__(self) -> None:
        """Refuse thresholds that do not increase."""
        ends = [-math.inf, *(self.thresholds or ()), math.inf]
        if not all(low < high for low, high in pairwise(ends)):
            raise UsageError(f"thresholds {ends[1:-1]} are not finite and increasing")
        super().__post_init__()

    def build(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any]
    ) -> ThresholdPolicy:
        seen = ObservationEncoder(observation_space, self.scale_observations)
        if not isinstance(action_space, Discrete):
            raise UsageError(
                f"action space {describe(action_space)} is not supported by threshold: "
                "accepted is Discrete"
            )
        needed = int(action_space.n) - 1
        # Two apart, and 0 in their middle.
        thresholds = self.thresholds
        if thresholds is None:
            thresholds = tuple(2.0 * i - (needed - 1) for i in range(needed))
        if len(thresholds) != needed:
            raise UsageError(
                f"{len(thresholds)} thresholds for {describe(action_space)}: {needed} are due"
            )
        return ThresholdPolicy(seen, int(action_space.start), thresholds, self.bias)


@dataclass(frozen=True, eq=False)
class ThresholdPolicy(BuiltPolicy):
    """A threshold policy built for given spaces.

    Attributes:
        encoder: environment observation -> (k,).
        first: action below all thresholds.
        thresholds: increasing.
        bias: whether the last parameter is b.
    """

    encoder: ObservationEncoder
    first: int
    thresholds: tuple[float, ...]
    bias: bool

    @property
    def num_parameters(self) -> int:
        return self.encoder.size + self.bias

    def name_parameters(self, observations: Sequence[str] | None) -> list[str]:
        names = [f"w[{each}]" for each in number_names(observations, self.encoder.size)]
        return [*names, "b"] if self.bias else names

    def bind(self, parameters: FloatArray) -> Act:
        kept = np.array(parameters, np.float64)
        weights = products.lay_out(kept[: self.encoder.size, None])
        offset = float(kept[-1]) if self.bias else 0.0
        first, thresholds, einsum = self.first, self.thresholds, np.einsum

        def act(observation: FloatArray, _generator: Generator | None) -> int:
            output = float(einsum("i,io->o", observation, weights)[0]) + offset
            return first + sum(output >= threshold for threshold in thresholds)

        return act
