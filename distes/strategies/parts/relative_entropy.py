"""What REPS and CREPS share: a linear-Gaussian upper policy, reweighted samples, a refit.

| name | Deisenroth, Neumann & Peters 2013, "A survey on policy search for robotics", 2.4.3 |
|---|---|
| epsilon | ε |
| value_features, dual_features | φ, of the value function V(s) = φ(s)ᵀθ |
| features, policy_features | ψ, of the mean of π(θ | s) |
| weights, covariance | W and Σ of π(θ | s) = N(θ | ψ(s) W, Σ) |
| weighting | how much each sample counts, w_i ∝ q_i exp((R_i − V(s_i))/η) |
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from distes.strategies.base import Problem
from distes.strategies.numerics.regression import Fit
from distes.strategies.numerics.reps import weigh_samples
from distes.strategies.parts.gaussian_refit import Refitting
from distes.strategies.parts.importance import ReusingState, importance_weights, pool_samples
from distes.strategies.parts.upper_level import OneGaussian, Samples, UpdateMetrics, fit_features
from distes.types import NonNegativeInt


@dataclass(frozen=True, kw_only=True)
class RelativeEntropyMetrics(UpdateMetrics):
    """Diagnostics of the last update; NaN before the first.

    Attributes:
        eta: temperature of the weights, in units of the return.
        kl_weights: KL(w ‖ q) of the weights.
        kl_gaussian: mean over the contexts of KL(old ‖ new) of the policies.
        feature_error: how far the weighted features are from their mean.
    """

    eta: float = math.nan
    kl_weights: float = math.nan
    kl_gaussian: float = math.nan
    feature_error: float = math.nan


@dataclass(frozen=True, eq=False, kw_only=True)
class RelativeEntropyState(ReusingState):
    """The upper-level policy, and what was learnt last."""

    metrics: RelativeEntropyMetrics = field(default_factory=RelativeEntropyMetrics)


@dataclass(frozen=True)
class RelativeEntropy(Refitting[RelativeEntropyState], OneGaussian[RelativeEntropyState]):
    """Reweights a generation's samples within a KL bound, and refits a linear Gaussian.

    Settings besides those of `strategies.parts.gaussian_refit.Refitting`:

    Attributes:
        reuse: earlier generations whose samples are used again, with importance weights.
    """

    reuse: NonNegativeInt = 0

    def check(self, problem: Problem) -> None:
        """Refuse a start that does not fit, and populations too small to learn from."""
        super().check(problem)
        self.refuse_few(
            problem,
            self.population_size(problem),
            fewer="policy_features (or reuse samples)",
            generations=1 + self.reuse,
        )

    def init(self, problem: Problem) -> RelativeEntropyState:
        """Start with a mean that is the same for all contexts."""
        features, weights, std = self.start(problem)
        return RelativeEntropyState(
            weights=weights,
            covariance=np.diag(std**2),
            features=features,
            value_features=self.basis(problem, "dual_features"),
        )

    def learn(self, state: RelativeEntropyState, samples: Samples) -> RelativeEntropyState:
        """Reweight samples of the state's policy, and of earlier ones; refit the policy."""
        state = replace(state, generation=state.generation + 1)
        if len(samples) < 2:
            return state
        state = fit_features(state, samples.contexts)
        used = state.recall(samples)
        pooled = pool_samples(used)
        # w maximises the mean return within KL(w ‖ q) ≤ ε (numerics.reps, eqs. 1 and 2).
        weighting = weigh_samples(
            pooled.returns,
            self.epsilon,
            state.value_features(pooled.contexts),
            importance_weights(used),
        )
        # π is the likeliest linear Gaussian for the reweighted samples (numerics.regression).
        fit, divergence = self.refit(
            state.features(pooled.contexts),
            pooled.parameters,
            weighting.weights,
            Fit(state.weights, state.covariance),
        )
        return replace(
            state,
            weights=fit.coefficients,
            covariance=fit.covariance,
            memory=used[: self.reuse],
            metrics=RelativeEntropyMetrics(
                eta=weighting.eta,
                kl_weights=weighting.kl,
                kl_gaussian=divergence,
                ess=weighting.ess,
                feature_error=weighting.feature_error,
                samples=len(pooled),
            ),
        )
