"""The parameters themselves, for tasks that are functions of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.random import Generator

from distes.policies.base import Act
from distes.types import FloatArray


@dataclass(frozen=True, eq=False)
class DirectPolicy:
    """No policy: a function task reads the parameters as they are.

    Attributes:
        start: (d,) initial parameters.
    """

    start: FloatArray
    observation_size: int = 0
    stochastic: ClassVar[bool] = False

    @property
    def num_parameters(self) -> int:
        return len(self.start)

    @property
    def encode(self) -> Callable[[Any], FloatArray]:
        """There is no observation."""
        raise TypeError("a function task has no observations")

    def initial(self, generator: Generator) -> FloatArray:
        """Give the task's start."""
        return self.start.copy()

    def bind(self, parameters: FloatArray) -> Act:
        """Return the parameters as the action."""
        return lambda _observation, _generator: parameters
