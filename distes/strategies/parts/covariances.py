"""The covariance of a CMA-ES search distribution: full, or a diagonal.

Candidates are m + σ y with steps y = B D z of standard normals z, and C^(-½) y = B z: both are
known from normals, which can be drawn again. Equation numbers are those of Hansen (2016), "The
CMA evolution strategy: a tutorial".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from distes.population.distributions import Gaussian
from distes.population.records import Population
from distes.seeds import NoiseKey
from distes.strategies.base import Problem
from distes.strategies.numerics.cma_constants import CMAConstants
from distes.types import FloatArray

LENGTHS_VARY = 1000
"""Up to this many parameters a diagonal looks at the lengths of its samples. Beyond, all are √n
within a few percent, and a variance cannot become negative (eq. 52)."""


@dataclass(frozen=True, eq=False)
class StepSums:
    """What the steps y of a generation amount to.

    Attributes:
        step: Σ w y of the positive weights, (d,).
        white: C^(-½) of it, (d,).
        seen: of all samples, for `learn`.
    """

    step: FloatArray
    white: FloatArray
    seen: Any


@dataclass(frozen=True, eq=False)
class DiagonalCovariance:
    """A diagonal.

    Attributes:
        matrix: the diagonal of C, (d,).
        path: p_c, (d,).
    """

    matrix: FloatArray
    path: FloatArray

    @classmethod
    def start(cls, size: int) -> DiagonalCovariance:
        """Start with I."""
        return cls(np.ones(size), np.zeros(size))

    @property
    def deviations(self) -> FloatArray:
        """Root of C's diagonal, (d,)."""
        return np.sqrt(self.matrix)

    @property
    def condition(self) -> float:
        """Ratio of the greatest to the least variance in any direction."""
        return float(self.matrix.max() / max(self.matrix.min(), 1e-300))

    def spread(self, mean: FloatArray, step_size: float, key: NoiseKey) -> Gaussian:
        """Spread candidates about a mean."""
        return Gaussian(mean, step_size * self.deviations, key)

    def sum_steps(self, problem: Problem, population: Population, weights: FloatArray) -> StepSums:
        """Sum steps and their squares, Σ w y² for `learn`; ``weights`` (n,)."""
        bad = np.flatnonzero(weights < 0)
        squares = weights
        if len(bad) and len(self.matrix) <= LENGTHS_VARY:
            squares = weights.copy()
            normals = population.distribution.noise(bad)  # type: ignore[attr-defined]
            squares[bad] = take_at_length(weights[bad], normals)
        white, scatter = problem.weigh_noise(population, np.maximum(weights, 0), squares)
        return StepSums(self.deviations * white, white, self.matrix * scatter)

    def learn(
        self, seen: FloatArray, kept: float, path: FloatArray, constants: CMAConstants
    ) -> DiagonalCovariance:
        """Update by eq. 47.

        Args:
            seen: of `sum_steps`.
            kept: share of C that stays.
            path: p_c, already updated, (d,).
            constants: c_1 and c_μ.
        """
        one, many = constants.rank_one, constants.rank_mu
        return replace(self, matrix=kept * self.matrix + one * path**2 + many * seen, path=path)

    def renew(self, constants: CMAConstants) -> DiagonalCovariance:
        """Nothing is kept of a diagonal that would have to be renewed."""
        return self


@dataclass(frozen=True, eq=False)
class FullCovariance:
    """A full matrix C = B D² Bᵀ.

    B and D are of the last decomposition, which is renewed before C has changed much: after
    1/(10 n (c_1 + c_μ)) updates (tutorial, appendix B.2).

    Attributes:
        matrix: C, (d, d).
        path: p_c, (d,).
        axes: B, (d, d).
        lengths: D, (d,).
        age: updates of C since it was decomposed.
    """

    matrix: FloatArray
    path: FloatArray
    axes: FloatArray
    lengths: FloatArray
    age: int = 0

    @classmethod
    def start(cls, size: int) -> FullCovariance:
        """Start with I."""
        return cls(np.eye(size), np.zeros(size), np.eye(size), np.ones(size))

    @property
    def deviations(self) -> FloatArray:
        """Root of C's diagonal, (d,)."""
        return np.sqrt(np.diagonal(self.matrix))

    @property
    def condition(self) -> float:
        """Ratio of the greatest to the least variance in any direction."""
        return float((self.lengths.max() / max(self.lengths.min(), 1e-150)) ** 2)

    def spread(self, mean: FloatArray, step_size: float, key: NoiseKey) -> Gaussian:
        """Spread candidates about a mean."""
        return Gaussian(mean, self.axes * (step_size * self.lengths), key)

    def sum_steps(self, problem: Problem, population: Population, weights: FloatArray) -> StepSums:
        """Sum steps; `learn` is given their rows and weights. ``weights`` (n,)."""
        everyone = np.arange(len(weights))
        normals = population.distribution.noise(everyone)  # type: ignore[attr-defined]
        positive = np.maximum(weights, 0)
        steps = (normals * self.lengths) @ self.axes.T
        scaled = take_at_length(weights, normals)
        return StepSums(positive @ steps, self.axes @ (positive @ normals), (steps, scaled))

    def learn(
        self,
        seen: tuple[FloatArray, FloatArray],
        kept: float,
        path: FloatArray,
        constants: CMAConstants,
    ) -> FullCovariance:
        """Update C by eq. 47, but not its decomposition.

        Args:
            seen: of `sum_steps`.
            kept: share of C that stays.
            path: p_c, already updated, (d,).
            constants: c_1 and c_μ.
        """
        one, many = constants.rank_one, constants.rank_mu
        steps, weights = seen
        # Rank one and rank μ in one product: passes over a large matrix take the time.
        rows = np.concatenate([steps, path[None]])
        matrix = (rows.T * np.concatenate([many * weights, [one]])) @ rows
        matrix += kept * self.matrix
        return FullCovariance(matrix, path, self.axes, self.lengths, self.age + 1)

    def renew(self, constants: CMAConstants) -> FullCovariance:
        """Decompose C again where it is due."""
        change = constants.rank_one + constants.rank_mu
        if self.age * 10 * len(self.path) * change < 1:
            return self
        return FullCovariance.decompose(self.matrix, self.path)

    @classmethod
    def decompose(cls, matrix: FloatArray, path: FloatArray) -> FullCovariance:
        """Make one of C and p_c, with B and D of its own."""
        values, axes = np.linalg.eigh(matrix)
        lengths = np.sqrt(np.maximum(values, values[-1] * 1e-30))
        return cls(matrix, path, axes, lengths)


def take_at_length(weights: FloatArray, normals: FloatArray) -> FloatArray:
    """Weigh bad samples as if their normals (m, d) had the length √d, eq. 46: C stays positive."""
    square_lengths = np.einsum("ij,ij->i", normals, normals) + 1e-300
    return weights / np.where(weights < 0, square_lengths / normals.shape[1], 1.0)
