"""Episodic relative entropy policy search (Peters et al. 2010): without contexts."""

from __future__ import annotations

from dataclasses import dataclass

from distes.population.features import Features, make
from distes.strategies.base import Problem
from distes.strategies.parts.relative_entropy import RelativeEntropy


@dataclass(frozen=True)
class REPS(RelativeEntropy):
    """Relative entropy policy search (Peters et al. 2010; Deisenroth et al. 2013, 2.4.3).

    Contexts of the task are not looked at. Settings: see
    `strategies.relative_entropy.RelativeEntropy`.
    """

    def contextual(self, problem: Problem) -> bool:
        """Never."""
        return False

    def policy_basis(self, problem: Problem) -> Features:
        """One mean for all."""
        return make("constant", 0)

    def dual_basis(self, problem: Problem) -> Features:
        """No value function."""
        return make("constant", 0)
