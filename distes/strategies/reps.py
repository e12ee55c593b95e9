"""Episodic relative entropy policy search (Peters et al. 2010): without contexts.

Samples count by w_i ∝ exp(R_i/η), where the temperature η uses up the bound ε on KL(w ‖ 1/N),
and the policy N(θ | μ, Σ) is refitted to them: see `strategies.parts.relative_entropy`, which
CREPS shares.
"""

from __future__ import annotations

from dataclasses import dataclass

from distes.population.features import Features, build_features
from distes.strategies.base import Problem
from distes.strategies.parts.relative_entropy import RelativeEntropy


@dataclass(frozen=True)
class REPS(RelativeEntropy):
    """Relative entropy policy search (Peters et al. 2010; Deisenroth et al. 2013, 2.4.3).

    Contexts of the task are not looked at: one mean for all, and no value function.
    """

    def contextual(self, problem: Problem) -> bool:
        """Never."""
        return False

    def basis(self, problem: Problem, name: str) -> Features:
        """A constant, whatever the features are for."""
        return build_features("constant", 0)
