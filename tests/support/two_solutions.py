"""A problem with two separate solutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from distes.testing.problems import FunctionProblem, Objective, sphere
from distes.types import FloatArray, IntArray


@dataclass(eq=False)
class TwoSolutions(FunctionProblem):
    """Two separate solutions, θ = m(s) and θ = −m(s): their average, 0, is worth nothing.

    The value is the higher of two bumps, 1 at a solution; m(s) = 2 + s.

    Attributes:
        limit: in which contexts a solution counts: m(s) where s ≥ −limit, −m(s) where
            s ≤ limit; from 1 on both count everywhere.
    """

    objective: Objective = sphere
    start: FloatArray = field(default_factory=lambda: np.zeros(2))
    moved: FloatArray | None = field(default_factory=lambda: np.ones((1, 2)))
    limit: float = 1.0

    def values(self, parameters: FloatArray, contexts: FloatArray) -> FloatArray:
        """What parameters (m, d) are worth as each of the solutions, (m, 2)."""
        signs = np.array([1.0, -1.0])
        solutions = signs[:, None] * (2.0 + contexts)[:, None]
        squared = ((parameters[:, None] - solutions) ** 2).sum(axis=2)
        counts = signs * contexts >= -self.limit
        values: FloatArray = np.exp(-squared) * counts
        return values

    def count_solutions(
        self, options: Sequence[FloatArray], contexts: FloatArray
    ) -> tuple[int, int]:
        """Count solutions that some option is near, and options near a solution.

        Near is a value above 0.8 on average over the contexts where the solution counts.

        Args:
            options: parameters (m, d) that each takes in the contexts.
            contexts: (m, 1).
        """
        counts = np.array([1.0, -1.0]) * contexts >= -self.limit
        values = [self.values(option, contexts).sum(axis=0) for option in options]
        near = np.array(values) / counts.sum(axis=0) > 0.8
        return int(near.any(axis=0).sum()), int(near.any(axis=1).sum())

    def returns(
        self, parameters: FloatArray, contexts: FloatArray | None, seeds: IntArray
    ) -> FloatArray:
        """Give the higher of the bumps."""
        assert contexts is not None
        best: FloatArray = self.values(parameters, contexts).max(axis=1)
        return best
