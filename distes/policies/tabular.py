"""Stochastic policies as tables of probabilities, for Discrete observations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete
from numpy.random import Generator

from distes.errors import UsageError
from distes.policies.base import Act, BuiltPolicy, Choose, PolicySpec, number_names
from distes.policies.spaces import describe, number_row
from distes.types import FloatArray

LARGEST = 1_000_000
"""Entries of a table that fits into what is sent with every generation."""


@dataclass(frozen=True)
class Tabular(PolicySpec):
    """Samples an action with the probabilities of the observation's row.

    Parameters are the table (observations, actions) row by row, which starts uniform. Rows
    are normalised as they are used; what is negative counts as 0, and a row without anything
    positive as uniform.
    """

    def build(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any]
    ) -> TabularPolicy:
        for what, space in (("observation", observation_space), ("action", action_space)):
            if not isinstance(space, Discrete):
                raise UsageError(
                    f"tabular needs a Discrete {what} space, not {describe(space)}: softmax takes "
                    "other observations"
                )
        assert isinstance(observation_space, Discrete)  # noqa: S101 - as the loop has seen
        assert isinstance(action_space, Discrete)  # noqa: S101
        states, actions = int(observation_space.n), int(action_space.n)
        if states * actions > LARGEST:
            raise UsageError(
                f"a table of {states} observations and {actions} actions has "
                f"{states * actions:,} entries, more than {LARGEST:,}"
            )
        rows = RowEncoder(observation_space)
        return TabularPolicy(rows, states, actions, int(action_space.start))


@dataclass(frozen=True)
class RowEncoder:
    """Encodes an observation as its row number alone.

    Attributes:
        space: what the observations come from.
    """

    space: Discrete
    size: ClassVar[int] = 1

    def encode(self, observation: Any) -> FloatArray:
        """Count from the space's own first number, (1,)."""
        return np.array([float(number_row(observation, self.space))])


@dataclass(frozen=True, eq=False)
class TabularPolicy(BuiltPolicy):
    """A table of probabilities.

    Attributes:
        encoder: observation -> its row number.
        num_states: rows.
        num_actions: columns.
        first_action: number of the first action.
    """

    encoder: RowEncoder
    num_states: int
    num_actions: int
    first_action: int
    stochastic: ClassVar[bool] = True

    @property
    def num_parameters(self) -> int:
        """Entries of the table, d."""
        return self.num_states * self.num_actions

    def initial(self, generator: Generator) -> FloatArray:
        """All actions alike, (d,)."""
        return np.full(self.num_parameters, 1.0 / self.num_actions)

    def name_parameters(self, observations: Sequence[str] | None) -> list[str]:
        states = number_names(observations, self.num_states)
        return [f"p[{state}, {action}]" for state in states for action in range(self.num_actions)]

    def bind(self, parameters: FloatArray) -> Act:
        """Make the acting function: the likeliest action where there is no generator."""
        choose, first = self.choose(parameters), self.first_action
        table = self._table(parameters)

        def act(observation: FloatArray, generator: Generator | None) -> int:
            if generator is None:
                return first + int(_clip_row(table[int(observation[0])]).argmax())
            return first + int(choose(observation, generator))

        return act

    def choose(self, parameters: FloatArray) -> Choose:
        """Make the sampling function of one episode, which inverts the distribution function."""
        table = self._table(parameters)

        def sample(observation: FloatArray, generator: Generator) -> int:
            # Row by row as they come: a table may be large, and an episode see little of it.
            ends = _clip_row(table[int(observation[0])]).cumsum()
            return int((generator.random() * ends[-1] >= ends[:-1]).sum())

        return sample

    def _table(self, parameters: FloatArray) -> FloatArray:
        return np.asarray(parameters, np.float64).reshape(self.num_states, self.num_actions)

    def decode(self, choice: int) -> int:
        return self.first_action + int(choice)


def normalise_rows(table: FloatArray) -> FloatArray:
    """Normalise rows, as the policy does when it acts.

    >>> normalise_rows(np.array([[30.0, 10.0], [-1.0, 5.0], [0.0, -2.0]]))
    array([[0.75, 0.25],
           [0.  , 1.  ],
           [0.5 , 0.5 ]])
    """
    rows = np.maximum(table, 0.0)
    rows[~rows.any(axis=1)] = 1.0
    shares: FloatArray = rows / rows.sum(axis=1, keepdims=True)
    return shares


def _clip_row(row: FloatArray) -> FloatArray:
    """What there is of each action, (a,): alike where nothing is positive."""
    positive = np.maximum(row, 0.0)
    return positive if positive.any() else np.ones_like(positive)
