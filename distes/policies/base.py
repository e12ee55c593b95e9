"""What a policy is: a specification, built for an environment's spaces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from numpy.random import Generator

from distes.registry import check_fields
from distes.types import FloatArray

Act = Callable[[FloatArray, Generator | None], Any]
"""(encoded observation (k,), the episode's generator) -> action for ``env.step``."""


class Policy(Protocol):
    """A policy built for given spaces; its parameters are what is searched for."""

    @property
    def num_parameters(self) -> int:
        """Length d of a parameter vector."""

    @property
    def observation_size(self) -> int:
        """Length k of an encoded observation."""

    @property
    def encode(self) -> Callable[[Any], FloatArray]:
        """Environment observation -> (k,) float64 array."""

    @property
    def stochastic(self) -> bool:
        """Whether actions are sampled from the episode's generator."""

    def initial(self, generator: Generator) -> FloatArray:
        """Parameters to start a search from, (d,)."""

    def bind(self, parameters: FloatArray) -> Act:
        """Make the acting function of one episode for parameters (d,), of which it keeps a copy.

        It may keep state within the episode.
        """


Choose = Callable[[FloatArray, Generator], Any]
"""(encoded observation (k,), the episode's generator) -> what was sampled."""


@runtime_checkable
class Sampler(Policy, Protocol):
    """A stochastic policy that tells what it samples before that is made an action.

    A trajectory holds the choices: the log-probability of a clipped number would be that of
    another one.
    """

    def choose(self, parameters: FloatArray) -> Choose:
        """Make the sampling function of one episode for parameters (d,)."""

    def decode(self, choice: Any) -> Any:
        """Make an action for ``env.step`` of a choice."""


class Encoder(Protocol):
    """Turns an environment's observations into vectors of one length."""

    @property
    def size(self) -> int:
        """Length k of an encoded observation."""

    @property
    def encode(self) -> Callable[[Any], FloatArray]:
        """Environment observation -> (k,) float64 array."""


class BuiltPolicy(Policy):
    """What policies share that see observations through an encoder.

    They start at zero and are deterministic, unless a subclass says otherwise.

    Attributes:
        encoder: environment observation -> (k,).
        stochastic: whether actions are sampled from the episode's generator.
    """

    encoder: Encoder
    stochastic: ClassVar[bool] = False

    @property
    def observation_size(self) -> int:
        return self.encoder.size

    @property
    def encode(self) -> Callable[[Any], FloatArray]:
        return self.encoder.encode

    def initial(self, generator: Generator) -> FloatArray:
        """Zeros to start a search from, (d,)."""
        return np.zeros(self.num_parameters)

    def name_parameters(self, observations: Sequence[str] | None) -> list[str] | None:
        """Give the parameters names, (d,), for tables and plots; None for none.

        Args:
            observations: names of an observation's numbers, as it is flattened; None if
                they have none.
        """
        return None


@dataclass(frozen=True)
class PolicySpec(ABC):
    """A policy's settings. A subclass's fields are its flags and its configuration."""

    def __post_init__(self) -> None:
        """Refuse fields outside their annotations."""
        check_fields(self)

    @abstractmethod
    def build(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> Policy:
        """Build the policy for an environment.

        Raises:
            UsageError: a space is not supported; the sentence names it.
        """


def number_names(names: Sequence[str] | None, size: int) -> list[str]:
    """Give names, or where there are none the numbers from 0."""
    return [str(number) for number in range(size)] if names is None else list(names)
