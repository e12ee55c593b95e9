"""Contextual relative entropy policy search (Kupcsik et al. 2013).

| name | Deisenroth, Neumann & Peters 2013, "A survey on policy search for robotics", 2.4.3 |
|---|---|
| epsilon | ε, bound on the KL divergence of the reweighted samples |
| dual_features | φ(s), of the value function V(s) = φ(s)ᵀθ |
| policy_features | ψ(s), of the policy π(θ | s) = N(θ | ψ(s) W, Σ) |

Samples count by w_i ∝ exp((R_i − V(s_i))/η), and the policy is refitted to them: see
`strategies.parts.relative_entropy`, which REPS shares.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from distes.errors import Notice, UsageError
from distes.population.features import FeatureChoice
from distes.strategies.base import Problem
from distes.strategies.numerics.regression import Fit
from distes.strategies.parts.relative_entropy import RelativeEntropy
from distes.types import FloatArray

PYCREPS = {
    "update": "ml",
    "dual_features": "linear",
    "policy_features": "affine",
    "covariance": "full",
    "normaliser": "standard",
}
"""Settings with which the update is that of PyCREPS."""


@dataclass(frozen=True)
class CREPS(RelativeEntropy):
    """Contextual REPS (Kupcsik et al. 2013; Deisenroth et al. 2013, section 2.4.3).

    Settings besides those of `strategies.parts.relative_entropy.RelativeEntropy`:

    Attributes:
        dual_features: of the value function, which tells a good sample from a lucky
            context: constant, linear, affine, quadratic, cubic, rbf:COUNT, or a function
            contexts (m, k) -> (m, p).
        policy_features: of the policy's mean, likewise.
        pycreps_compat: the update of PyCREPS for comparison: linear dual features, an
            affine policy, weighted maximum likelihood, and a covariance about the intercept
            instead of the mean, which is wide where the mean depends on the context.
    """

    dual_features: FeatureChoice = "quadratic"
    policy_features: FeatureChoice = "affine"
    pycreps_compat: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that cannot be together."""
        super().__post_init__()
        for name, due in PYCREPS.items():
            value = getattr(self, name)
            if self.pycreps_compat and value != due:
                raise UsageError(f"pycreps_compat needs {name} '{due}', not '{value}'")

    def check(self, problem: Problem) -> None:
        """Refuse what cannot work, and say so if there is no context to learn from."""
        super().check(problem)
        if not problem.num_contexts:
            warnings.warn(
                "the task has no context, so that this is episodic REPS: say where contexts come "
                "from, for example context = observation",
                Notice,
                stacklevel=2,
            )

    def scatter(self, fit: Fit, targets: FloatArray, weights: FloatArray) -> FloatArray:
        """About the mean; with pycreps_compat Σ w (θ − a)(θ − a)ᵀ, about the intercept a."""
        if not self.pycreps_compat:
            return fit.covariance
        apart = targets - fit.coefficients[0]
        return np.asarray((apart.T * weights) @ apart)
