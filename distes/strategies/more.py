"""Model-based relative entropy stochastic search (Abdolmaleki et al. 2015, "MORE").

Contextual: Tangkaratt et al. 2017, "Policy search with high-dimensional context variables".

| name | paper |
|---|---|
| epsilon | ε, bound on KL(new ‖ old) |
| entropy_rate, min_entropy | γ, H0: the entropy is kept above β = γ(H − H0) + H0 |
| features, policy_features | φ(s) of the policy's mean, and of the model's terms linear in θ |
| value_features, baseline_features | of the model's function of the context |
| weights, covariance | of the mean φ(s) W; Q |
| whitened | z = A⁻¹(θ − φ(s) W) with A Aᵀ = Q, in which the old policy is N(0, I) |
| eta, omega | η, ω, multipliers of the bounds on KL and entropy |
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from distes.errors import UsageError
from distes.population.features import FeatureChoice
from distes.strategies.base import Problem
from distes.strategies.numerics import gaussians
from distes.strategies.numerics.more import maximise_model
from distes.strategies.numerics.surrogate import fit_surrogate
from distes.strategies.parts import upper_level
from distes.strategies.parts.importance import ReusingState, importance_weights, pool_samples
from distes.strategies.parts.upper_level import OneGaussian, Samples, UpdateMetrics
from distes.types import NonNegativeInt, PositiveFloat, Share

OWN_DEPTH = math.log(1e6)
"""Nats for each parameter from the entropy at the start to a min_entropy of our own."""


@dataclass(frozen=True, kw_only=True)
class SurrogateMetrics(UpdateMetrics):
    """Diagnostics of the last update; NaN before the first.

    Attributes:
        eta: multiplier of the KL bound, in units of the return.
        omega: multiplier of the entropy bound, likewise.
        kl_gaussian: mean over the contexts of KL(new ‖ old).
        surrogate_r2: share of the returns' variance, beyond what contexts explain, that the
            model predicts for samples left out; not above 0 where it has learnt nothing,
            and then the policy stays.
        penalty: of the model's regression, per sample.
    """

    eta: float = math.nan
    omega: float = math.nan
    kl_gaussian: float = math.nan
    surrogate_r2: float = math.nan
    penalty: float = math.nan


@dataclass(frozen=True, eq=False, kw_only=True)
class MOREState(ReusingState):
    """The upper-level policy, and what was learnt last.

    Attributes:
        min_entropy: H0.
    """

    min_entropy: float
    metrics: SurrogateMetrics = field(default_factory=SurrogateMetrics)


@dataclass(frozen=True)
class MORE(OneGaussian[MOREState]):
    """Fits a quadratic model of the return, and maximises it within a KL bound.

    Abdolmaleki et al. 2015, and with contexts Tangkaratt et al. 2017. A model that predicts
    nothing of samples left out is not followed. Settings besides those of
    `strategies.parts.upper_level.UpperLevel`:

    Attributes:
        epsilon: bound on the KL divergence of an update, in nats, > 0.
        entropy_rate: share of the entropy above its least that an update keeps, in [0, 1];
            the nearer to 1, the slower the search narrows.
        min_entropy: least entropy of the policy, in nats; none is where standard deviations
            are a millionth of those at the start.
        policy_features: of the policy's mean: constant, linear, affine, quadratic, cubic,
            rbf:COUNT, or a function contexts (m, k) -> (m, p).
        baseline_features: of the returns that a context alone explains, likewise.
        reuse: earlier generations whose samples are used again, with importance weights.
    """

    epsilon: PositiveFloat = 0.5
    entropy_rate: Share = 0.99
    min_entropy: float | None = None
    policy_features: FeatureChoice = "affine"
    baseline_features: FeatureChoice = "quadratic"
    reuse: NonNegativeInt = 4

    def default_population(self, problem: Problem) -> int:
        """Twice the terms that are linear in the parameters."""
        return max(50, 2 * problem.num_parameters * self._columns(problem, "policy_features"))

    def check(self, problem: Problem) -> None:
        """Refuse a start that does not fit, and populations too small to learn from."""
        super().check(problem)
        size, columns = self.population_size(problem), self._columns(problem, "policy_features")
        needed = self._columns(problem, "baseline_features") + columns + 1
        if size < needed:
            raise UsageError(
                f"a population of {size} is too small for the model: give at least {needed}, or "
                "fewer policy_features or baseline_features"
            )

    def init(self, problem: Problem) -> MOREState:
        """Start with a mean that is the same for all contexts."""
        features, weights, std = self.start(problem)
        least = self.min_entropy
        if least is None:
            free = std[std > 0]
            least = gaussians.entropy(np.diag(free**2)) - OWN_DEPTH * len(free)
        return MOREState(
            weights=weights,
            covariance=np.diag(std**2),
            min_entropy=least,
            features=features,
            value_features=self.basis(problem, "baseline_features"),
        )

    def learn(self, state: MOREState, samples: Samples) -> MOREState:
        """Fit the model to these samples and earlier ones, move to where it is high."""
        state = replace(state, generation=state.generation + 1)
        if len(samples) < 2:
            return state
        state = upper_level.fit_features(state, samples.contexts)
        used = state.recall(samples)
        pooled, weights = pool_samples(used), importance_weights(used)
        state = replace(
            state,
            memory=used[: self.reuse],
            metrics=SurrogateMetrics(
                kl_gaussian=0.0,
                ess=float(weights.sum() ** 2 / (weights @ weights)),
                samples=len(pooled),
            ),
        )
        # z = A⁻¹(θ − φ(s) W): in these coordinates the old policy is N(0, I).
        free, old_covariance = upper_level.take_free(state.covariance)
        factor = upper_level.factor_covariance(state.covariance)[np.ix_(free, free)]
        rows = state.features(pooled.contexts)
        apart = pooled.parameters[:, free] - rows @ state.weights[:, free]
        # R(s, z) = zᵀRz + z · (φ(s) B) + a function of s (numerics.surrogate)
        model = fit_surrogate(
            np.asarray(np.linalg.solve(factor, apart.T).T, dtype=np.float64),
            rows,
            np.column_stack([np.ones(len(rows)), state.value_features(pooled.contexts)]),
            pooled.returns,
            weights,
        )
        if model is None:
            return state
        metrics = replace(state.metrics, surrogate_r2=model.r2, penalty=model.penalty)
        state = replace(state, metrics=metrics)
        if model.r2 <= 0:
            # Noise: a bound of ε would be spent on it all the same, in a random direction.
            return state
        now = state.features(samples.contexts)
        # β − H = γ(H − H0) + H0 − H = (γ − 1)(H − H0)
        above = gaussians.entropy(old_covariance) - state.min_entropy
        # numerics.more, eqs. (1) to (3)
        new = maximise_model(
            model.quadratic,
            model.linear,
            now,
            epsilon=self.epsilon,
            entropy_change=(self.entropy_rate - 1) * above,
        )
        # Back from z to θ: W' = W + ΔW Aᵀ, Q' = A Q_z Aᵀ
        covariance = factor @ new.covariance @ factor.T
        coefficients = state.weights.copy()
        coefficients[:, free] += new.shift @ factor.T
        if not upper_level.is_usable(coefficients, covariance):
            return state
        covariance = upper_level.embed_free((covariance + covariance.T) / 2, free)
        covariance = upper_level.floor_covariance(covariance, self.min_std)
        divergence = gaussians.kl(
            now @ coefficients[:, free],
            covariance[np.ix_(free, free)],
            now @ state.weights[:, free],
            old_covariance,
        )
        return replace(
            state,
            weights=coefficients,
            covariance=covariance,
            metrics=replace(metrics, eta=new.eta, omega=new.omega, kl_gaussian=divergence),
        )

    def _columns(self, problem: Problem, name: str) -> int:
        """Columns of the features that the setting ``name`` chooses."""
        return upper_level.count_features(self.basis(problem, name))
