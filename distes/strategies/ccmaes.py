"""Contextual CMA-ES (Abdolmaleki, Price, Lau, Reis and Neumann 2017).

"Contextual covariance matrix adaptation evolutionary strategies", IJCAI 2017.

| name | paper |
|---|---|
| weights, policy_features | A, φ(s): the mean of θ is φ(s) A |
| step_size, covariance | σ, C: candidates have the covariance σ²C |
| path_step, path_cov | p_σ, p_c |
| recombination, effective | w, of the ranks of R − V(s), and μ_eff |
| step_rate, step_damping | c_σ, d_σ |
| path_rate, rank_one, rank_mu | c_c, c_1, c_μ |
| baseline_features | of V(s), a ridge regression of returns on contexts |
| size, contexts | n, parameters that are not frozen; n_s, components of the context |

Without contexts it is CMA-ES with positive weights alone. Equation numbers are those of Hansen
2016, "The CMA evolution strategy: a tutorial". In all constants but χ_n, contexts replace n by
n_t = n + n_s, and ln(n_s + 1) is added to the damping; c_μ has μ_eff − 2 + 1/μ_eff where the
tutorial adds 1/4 to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from distes.errors import UsageError
from distes.population.features import FeatureChoice, Features
from distes.strategies.base import Problem
from distes.strategies.numerics.regression import fit_weighted, orthonormalise
from distes.strategies.numerics.surrogate import EXPLAINED, fit_ridge
from distes.strategies.parts import upper_level
from distes.strategies.parts.upper_level import OneGaussian, Samples, UpdateMetrics, UpperState
from distes.types import Array, FloatArray, IntArray

WORST_CONDITION = 1e14
"""Of the covariance: beyond, its small axes are rounding."""


@dataclass(frozen=True, eq=False)
class Constants:
    """Weights and learning rates of an update.

    Attributes:
        recombination: w, (μ,) by rank, sum 1.
        effective: μ_eff, samples that the mean amounts to.
        step_rate: c_σ, at which the path of the step size forgets.
        step_damping: d_σ, of changes of the step size.
        path_rate: c_c, at which the path of the covariance forgets.
        rank_one: c_1, share of the covariance that the path replaces.
        rank_mu: c_μ, share that the best samples replace.
    """

    recombination: FloatArray
    effective: float
    step_rate: float
    step_damping: float
    path_rate: float
    rank_one: float
    rank_mu: float

    @classmethod
    def compute(cls, samples: int, size: int, contexts: int) -> Constants:
        """Compute them for λ >= 2 samples that did not fail, and for n and n_s dimensions."""
        # eqs. (49) and (53): w_i ∝ ln((λ + 1)/2) − ln i, of the better half alone
        raw = math.log((samples + 1) / 2) - np.log(np.arange(1, samples // 2 + 1))
        weights = raw / raw.sum()
        effective = 1.0 / float(weights @ weights)
        total = size + contexts  # n_t
        # eq. (55): c_σ, and d_σ with ln(n_s + 1) more
        step_rate = (effective + 2) / (total + effective + 5)
        excess = math.sqrt((effective - 1) / (total + 1)) - 1
        # eqs. (57) and (58) with α_cov = 2: c_1 and c_μ
        rank_one = 2 / ((total + 1.3) ** 2 + effective)
        rank_mu = 2 * (effective - 2 + 1 / effective) / ((total + 2) ** 2 + effective)
        return cls(
            recombination=weights,
            effective=effective,
            step_rate=step_rate,
            step_damping=1 + 2 * max(0.0, excess) + step_rate + math.log(contexts + 1),
            # eq. (56)
            path_rate=(4 + effective / total) / (4 + total + 2 * effective / total),
            rank_one=rank_one,
            rank_mu=min(rank_mu, 1 - rank_one),
        )


@dataclass(frozen=True, kw_only=True)
class PathMetrics(UpdateMetrics):
    """Diagnostics of the last update; NaN before the first.

    Attributes:
        baseline_r2: share of the returns' variance that contexts predict.
        path_norm: length of the step size's path, 1 where steps are random.
    """

    baseline_r2: float = math.nan
    path_norm: float = math.nan


@dataclass(frozen=True, eq=False, kw_only=True)
class CCMAESState(UpperState):
    """The upper-level policy, whose ``covariance`` is C, and the paths of its mean.

    Attributes:
        step_size: σ.
        path_step: p_σ, (d,).
        path_cov: p_c, (d,).
    """

    step_size: float
    path_step: FloatArray
    path_cov: FloatArray
    metrics: PathMetrics = field(default_factory=PathMetrics)

    @property
    def sampling_covariance(self) -> FloatArray:
        """σ²C, (d, d)."""
        return self.step_size**2 * self.covariance


@dataclass(frozen=True)
class CCMAES(OneGaussian[CCMAESState]):
    """Contextual CMA-ES (Abdolmaleki et al. 2017); CMA-ES where the task has no contexts.

    Settings besides those of `strategies.parts.upper_level.UpperLevel`:

    Attributes:
        policy_features: of the policy's mean: constant, linear, affine, quadratic, cubic,
            rbf:COUNT, or a function contexts (m, k) -> (m, p).
        baseline_features: of the returns that a context alone explains, likewise.
    """

    policy_features: FeatureChoice = "affine"
    baseline_features: FeatureChoice = "quadratic"

    def default_population(self, problem: Problem) -> int:
        """4 + ⌊3 ln n⌋, eq. (48), for each of the policy's features."""
        each = 4 + math.floor(3 * math.log(problem.num_parameters))
        columns = upper_level.count_features(self.basis(problem, "policy_features"))
        return max(each, 10) * columns if columns > 1 else each

    def check(self, problem: Problem) -> None:
        """Refuse a start that does not fit, and populations too small to learn from."""
        super().check(problem)
        size, features = self.population_size(problem), self.basis(problem, "policy_features")
        if size < _least_samples(features):
            raise UsageError(
                f"a population of {size} is too small for a mean with "
                f"{upper_level.count_features(features)} features: give at least "
                f"{_least_samples(features)}, or fewer policy_features"
            )

    def init(self, problem: Problem) -> CCMAESState:
        """Start with a mean that is the same for all contexts."""
        features, weights, std = self.start(problem)
        # σ is the geometric mean of the standard deviations, C what is left of them.
        step_size = math.exp(float(np.log(std[std > 0]).mean()))
        return CCMAESState(
            weights=weights,
            step_size=step_size,
            covariance=np.diag((std / step_size) ** 2),
            path_step=np.zeros(len(std)),
            path_cov=np.zeros(len(std)),
            features=features,
            value_features=self.basis(problem, "baseline_features"),
        )

    def learn(self, state: CCMAESState, samples: Samples) -> CCMAESState:
        """Rank the samples against what their contexts give, and update."""
        state = replace(state, generation=state.generation + 1)
        if len(samples) < _least_samples(state.features):
            return state
        state = upper_level.fit_features(state, samples.contexts)
        order, r2 = _rank_samples(samples, state.value_features)
        updated = None if order is None else _update_distribution(state, samples, order)
        if updated is None:
            return state
        variance = updated.step_size**2
        covariance = upper_level.floor_covariance(variance * updated.covariance, self.min_std)
        return replace(
            updated,
            covariance=covariance / variance,
            metrics=replace(updated.metrics, baseline_r2=r2),
        )

    def metrics(self, state: CCMAESState) -> dict[str, float]:
        """Diagnostics of the update, and the width of the policy."""
        return {
            "step_size": state.step_size,
            "condition": _condition_number(state.covariance),
            **super().metrics(state),
        }

    def stop(self, state: CCMAESState) -> str | None:
        """Stop when the distribution is degenerate."""
        if _condition_number(state.covariance) > WORST_CONDITION:
            return f"the condition of the covariance is beyond {WORST_CONDITION:g}"
        return super().stop(state)


def _least_samples(features: Features) -> int:
    """Fewest samples to learn from: half of them must leave a regression some freedom."""
    return 2 * upper_level.count_features(features) + 2


def _rank_samples(samples: Samples, baseline: Features) -> tuple[IntArray | None, float]:
    """Order samples (N,) by what they return beyond their context, R − V(s), best first.

    None where contexts explain all; and the share of the variance that contexts predict.
    """
    returns = samples.returns
    if not baseline.uses_context or not np.ptp(samples.contexts, axis=0).any():
        order = np.argsort(-returns, kind="stable")
        return (order if np.ptp(returns) > 0 else None), 0.0
    columns = baseline(samples.contexts)
    columns, _ = orthonormalise(columns - columns.mean(axis=0))
    centred = returns - returns.mean()
    beyond = centred - columns @ (columns.T @ centred) / len(returns)
    if len(returns) > columns.shape[1] + 1 and not beyond.std() > EXPLAINED * centred.std():
        return None, 1.0
    fit = fit_ridge(columns, np.ones((len(returns), 1)), returns, np.ones(len(returns)))
    if fit is None:
        return None, 0.0
    return np.argsort(-fit.residuals, kind="stable"), fit.r2


def _update_distribution(
    state: CCMAESState, samples: Samples, order: IntArray
) -> CCMAESState | None:
    """Update from ranked samples; None where the result would not be usable."""
    free, covariance = upper_level.take_free(state.covariance)
    size, sigma = int(free.sum()), state.step_size
    constants = Constants.compute(len(samples), size, samples.contexts.shape[1])
    best = order[: len(constants.recombination)]
    rows = state.features(samples.contexts)
    parameters, old = samples.parameters[:, free], state.weights[:, free]
    # eq. (40): y_i = (θ_i − φ_i A)/σ, of the best. A is the old one: residuals to the new
    # mean would lose the steps' own direction.
    steps = (parameters - rows @ old)[best] / sigma
    # eq. (42) for a mean that depends on the context: A' = (ΦᵀPΦ)⁻¹ΦᵀPΘ with P = diag(w)
    new = fit_weighted(rows[best], parameters[best], constants.recombination, old).coefficients
    # eq. (41): ⟨y⟩_w = φ̄ᵀ(A' − A)/σ, the mean's step at the mean features φ̄
    mean_step = rows.mean(axis=0) @ (new - old) / sigma

    # eq. (43): p_σ ← (1 − c_σ) p_σ + √(c_σ(2 − c_σ) μ_eff) C^(−1/2) ⟨y⟩_w
    values, axes = np.linalg.eigh(covariance)
    white = axes @ ((axes.T @ mean_step) / np.sqrt(values))
    rate, kept = constants.step_rate, 1 - constants.step_rate
    gain = math.sqrt(rate * (1 + kept) * constants.effective)
    path_step = kept * state.path_step[free] + gain * white
    # eq. (44): σ ← σ exp((c_σ/d_σ)(‖p_σ‖/χ_n − 1)), χ_n the mean length of n standard normals
    length = float(np.linalg.norm(path_step))
    expected_length = math.sqrt(2) * math.exp(math.lgamma((size + 1) / 2) - math.lgamma(size / 2))
    log_step = rate / constants.step_damping * (length / expected_length - 1)
    # By e at most: one lucky generation must not scatter the next.
    step_size = sigma * math.exp(min(1.0, log_step))

    # h_σ: 0 while p_σ is long, so that p_c does not grow along with a step size that is too
    # small. By squares, ‖p_σ‖²/n/(1 − (1 − c_σ)^2t) < 2 + 4/(n + 1); about the tutorial's.
    young = 1 - kept ** (2 * state.generation)
    is_short = length**2 / size / young < 2 + 4 / (size + 1)
    # eq. (45): p_c ← (1 − c_c) p_c + h_σ √(c_c(2 − c_c) μ_eff) ⟨y⟩_w
    rate = constants.path_rate
    gain = math.sqrt(rate * (2 - rate) * constants.effective) if is_short else 0.0
    path_cov = (1 - rate) * state.path_cov[free] + gain * mean_step
    # eq. (47): C ← (1 + c_1 δ(h_σ) − c_1 − c_μ) C + c_1 p_c p_cᵀ + c_μ Σ w_i y_i y_iᵀ, where
    # δ(h_σ) = (1 − h_σ) c_c(2 − c_c) makes up for what p_c lacks
    missing = 0.0 if is_short else constants.rank_one * rate * (2 - rate)
    scatter = (steps.T * constants.recombination) @ steps
    adapted = (
        (1 + missing - constants.rank_one - constants.rank_mu) * covariance
        + constants.rank_one * np.outer(path_cov, path_cov)
        + constants.rank_mu * scatter
    )
    adapted = (adapted + adapted.T) / 2
    if not (upper_level.is_usable(new, step_size**2 * adapted) and np.isfinite(path_step).all()):
        return None
    return replace(
        state,
        weights=_place_free(state.weights, new, free),
        step_size=step_size,
        covariance=upper_level.embed_free(adapted, free),
        path_step=_place_free(state.path_step, path_step, free),
        path_cov=_place_free(state.path_cov, path_cov, free),
        metrics=PathMetrics(
            ess=constants.effective, path_norm=length / expected_length, samples=len(samples)
        ),
    )


def _place_free(whole: FloatArray, part: FloatArray, free: Array) -> FloatArray:
    """Put values of the free parameters among those of frozen ones."""
    out = whole.copy()
    out[..., free] = part
    return out


def _condition_number(covariance: FloatArray) -> float:
    """Largest over smallest eigenvalue, frozen parameters apart."""
    values = np.linalg.eigvalsh(upper_level.take_free(covariance)[1])
    return float(values[-1] / values[0]) if values[0] > 0 else math.inf
