"""Contextual CMA-ES (Abdolmaleki, Price, Lau, Reis and Neumann 2017).

"Contextual covariance matrix adaptation evolutionary strategies", IJCAI 2017.

| name | paper |
|---|---|
| weights, policy_features | A, φ(s): the mean of θ is φ(s) A |
| step_size, covariance | σ, C: candidates have the covariance σ²C |
| path_step, path_cov | p_σ, p_c |
| recombination | w, of the ranks of R − V(s) |
| baseline_features | of V(s), a ridge regression of returns on contexts |
| n, n_s | parameters that are not frozen, components of the context; n_t = n + n_s |

Without contexts it is CMA-ES (Hansen 2016, "The CMA evolution strategy: a tutorial") with
positive weights alone; c_μ has μ_eff − 2 + 1/μ_eff where the tutorial adds 1/4 to it. Contexts
replace n by n_t in all constants but χ_n, and add ln(n_s + 1) to the damping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from distes.errors import UsageError
from distes.population.features import FeatureChoice, Features, make
from distes.population.records import Episodes, Population
from distes.strategies.base import Problem, Strategy
from distes.strategies.numerics.regression import orthonormal, weighted_fit
from distes.strategies.numerics.surrogate import EXPLAINED, ridge
from distes.strategies.parts import upper_level
from distes.strategies.parts.upper_level import Samples
from distes.types import Array, FloatArray, IntArray

WORST_CONDITION = 1e14
"""Of the covariance: beyond, its small axes are rounding."""


@dataclass(frozen=True, eq=False)
class Constants:
    """Weights and learning rates of an update.

    Attributes:
        recombination: w, (μ,) by rank, sum 1.
        effective: μ_eff.
        step_rate: c_σ.
        step_damping: d_σ.
        path_rate: c_c.
        rank_one: c_1.
        rank_mu: c_μ.
    """

    recombination: FloatArray
    effective: float
    step_rate: float
    step_damping: float
    path_rate: float
    rank_one: float
    rank_mu: float

    @classmethod
    def of(cls, samples: int, size: int, contexts: int) -> Constants:
        """Compute them.

        Args:
            samples: λ >= 2, those that did not fail.
            size: n.
            contexts: n_s.
        """
        raw = math.log((samples + 1) / 2) - np.log(np.arange(1, samples // 2 + 1))
        weights = raw / raw.sum()
        effective = 1.0 / float(weights @ weights)
        total = size + contexts
        step_rate = (effective + 2) / (total + effective + 5)
        excess = math.sqrt((effective - 1) / (total + 1)) - 1
        rank_one = 2 / ((total + 1.3) ** 2 + effective)
        rank_mu = 2 * (effective - 2 + 1 / effective) / ((total + 2) ** 2 + effective)
        return cls(
            recombination=weights,
            effective=effective,
            step_rate=step_rate,
            step_damping=1 + 2 * max(0.0, excess) + step_rate + math.log(contexts + 1),
            path_rate=(4 + effective / total) / (4 + total + 2 * effective / total),
            rank_one=rank_one,
            rank_mu=min(rank_mu, 1 - rank_one),
        )


@dataclass(frozen=True)
class Figures:
    """Diagnostics of the last update; NaN before the first.

    Attributes:
        ess: effective samples, μ_eff.
        baseline_r2: share of the returns' variance that contexts predict.
        path_norm: length of the step size's path, 1 where steps are random.
        samples: that the update used.
    """

    ess: float = math.nan
    baseline_r2: float = math.nan
    path_norm: float = math.nan
    samples: int = 0


@dataclass(frozen=True, eq=False)
class CCMAESState:
    """The upper-level policy, and the paths of its mean.

    Attributes:
        generation: generations told, the index of the next one.
        weights: (p, d).
        step_size: σ.
        covariance: C, (d, d); zero rows and columns for frozen parameters.
        path_step: p_σ, (d,).
        path_cov: p_c, (d,).
        features: of the policy.
        baseline: features of the value function.
        figures: of the last update.
    """

    generation: int
    weights: FloatArray
    step_size: float
    covariance: FloatArray
    path_step: FloatArray
    path_cov: FloatArray
    features: Features
    baseline: Features
    figures: Figures = field(default_factory=Figures)


@dataclass(frozen=True)
class CCMAES(Strategy[CCMAESState]):
    """Contextual CMA-ES (Abdolmaleki et al. 2017); CMA-ES where the task has no contexts.

    Attributes:
        policy_features: of the policy's mean: constant, linear, affine, quadratic, cubic,
            rbf:COUNT, or a function contexts (m, k) -> (m, p).
        baseline_features: of the returns that a context alone explains, likewise.
        initial_mean: where to start, one number for each parameter; none is where the
            policy starts.
        initial_std: at the start, one number or one for each parameter; a parameter with 0
            is frozen where it starts.
        min_std: least standard deviation in any direction that is not frozen, >= 0.
    """

    policy_features: FeatureChoice = "affine"
    baseline_features: FeatureChoice = "quadratic"
    initial_mean: tuple[float, ...] | None = None
    initial_std: float | tuple[float, ...] = 1.0
    min_std: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings outside their ranges."""
        if not 0 <= self.min_std < math.inf:
            raise UsageError(f"min_std {self.min_std} is not a finite number >= 0")
        upper_level.refuse_bad_std(self.initial_std, self.min_std)

    def population_size(self, problem: Problem) -> int:
        """As asked, else 4 + ⌊3 ln n⌋ for each of the policy's features."""
        if problem.population_size is not None:
            return problem.population_size
        each = 4 + math.floor(3 * math.log(problem.num_parameters))
        columns = upper_level.full_size(self._policy_basis(problem))
        return max(each, 10) * columns if columns > 1 else each

    def check(self, problem: Problem) -> None:
        """Refuse a start that does not fit, and populations too small to learn from."""
        mean = upper_level.start_mean(problem, self.initial_mean)
        upper_level.start_std(problem, self.initial_std)
        features = self._policy_basis(problem)
        self._baseline_basis(problem)
        upper_level.initial_weights(features, mean)
        if problem.num_contexts:
            upper_level.refuse_repeats(problem)
        size, columns = self.population_size(problem), upper_level.full_size(features)
        if size < _least(features):
            raise UsageError(
                f"a population of {size} is too small for a mean with {columns} features: give "
                f"at least {_least(features)}, or fewer policy_features"
            )

    def init(self, problem: Problem) -> CCMAESState:
        """Start with a mean that is the same for all contexts."""
        features = self._policy_basis(problem)
        std = upper_level.start_std(problem, self.initial_std)
        step_size = math.exp(float(np.log(std[std > 0]).mean()))
        return CCMAESState(
            generation=0,
            weights=upper_level.initial_weights(
                features, upper_level.start_mean(problem, self.initial_mean)
            ),
            step_size=step_size,
            covariance=np.diag((std / step_size) ** 2),
            path_step=np.zeros(len(std)),
            path_cov=np.zeros(len(std)),
            features=features,
            baseline=self._baseline_basis(problem),
        )

    def ask(self, problem: Problem, state: CCMAESState) -> Population:
        """Sample the upper policy."""
        covariance = state.step_size**2 * state.covariance
        drawn = upper_level.gaussian(
            problem, state.weights, covariance, state.features, state.generation
        )
        return problem.population(drawn, self.population_size(problem))

    def tell(
        self, problem: Problem, state: CCMAESState, population: Population, episodes: Episodes
    ) -> CCMAESState:
        """Rank the samples against what their contexts give, and update."""
        samples = upper_level.samples_of(population, episodes, contextual=problem.num_contexts > 0)
        first = state.generation == 0
        state = replace(state, generation=state.generation + 1)
        features = state.features.fitted(samples.contexts)
        if len(samples) < _least(features):
            return state
        if first:
            upper_level.tell_of_dependent(features, samples.contexts, "policy_features")
        state = replace(
            state,
            features=features,
            baseline=state.baseline.fitted(samples.contexts),
            weights=upper_level.grown(state.weights, features),
        )
        order, r2 = _ranked(samples, state.baseline)
        if order is None:
            return state
        updated = _updated(state, samples, order)
        if updated is None:
            return state
        figures = replace(updated.figures, baseline_r2=r2)
        variance = updated.step_size**2
        covariance = upper_level.floored(variance * updated.covariance, self.min_std) / variance
        return replace(updated, covariance=covariance, figures=figures)

    def solution(self, problem: Problem, state: CCMAESState) -> Population:
        """Deploy the mean: a function of the context."""
        return upper_level.deployed(state.weights, state.features)

    def metrics(self, state: CCMAESState) -> dict[str, float]:
        """Diagnostics of the update, and the width of the policy."""
        return {
            "step_size": state.step_size,
            "path_norm": state.figures.path_norm,
            "condition": _condition(state.covariance),
            "ess": state.figures.ess,
            "baseline_r2": state.figures.baseline_r2,
            "samples": state.figures.samples,
            **upper_level.width(state.step_size**2 * state.covariance),
        }

    def stop(self, state: CCMAESState) -> str | None:
        """Stop when the distribution is degenerate."""
        if _condition(state.covariance) > WORST_CONDITION:
            return f"the condition of the covariance is beyond {WORST_CONDITION:g}"
        return upper_level.shrunk(state.step_size**2 * state.covariance, self.initial_std)

    def _policy_basis(self, problem: Problem) -> Features:
        return make(self.policy_features, problem.num_contexts, "policy_features")

    def _baseline_basis(self, problem: Problem) -> Features:
        return make(self.baseline_features, problem.num_contexts, "baseline_features")


def _least(features: Features) -> int:
    """Fewest samples to learn from: half of them must leave a regression some freedom."""
    return 2 * upper_level.full_size(features) + 2


def _ranked(samples: Samples, baseline: Features) -> tuple[IntArray | None, float]:
    """Order samples by what they return beyond their context, best first.

    Returns:
        None where contexts explain all; and the share of the variance that they predict.
    """
    returns = samples.returns
    if not baseline.uses_context or not np.ptp(samples.contexts, axis=0).any():
        order = np.argsort(-returns, kind="stable")
        return (order if np.ptp(returns) > 0 else None), 0.0
    columns = baseline(samples.contexts)
    columns, _ = orthonormal(columns - columns.mean(axis=0))
    centred = returns - returns.mean()
    beyond = centred - columns @ (columns.T @ centred) / len(returns)
    if len(returns) > columns.shape[1] + 1 and not beyond.std() > EXPLAINED * centred.std():
        return None, 1.0
    found = ridge(columns, np.ones((len(returns), 1)), returns, np.ones(len(returns)))
    if found is None:
        return None, 0.0
    return np.argsort(-found.residuals, kind="stable"), found.r2


def _updated(state: CCMAESState, samples: Samples, order: IntArray) -> CCMAESState | None:
    """Update from ranked samples; None where the result would not be usable."""
    free = np.diag(state.covariance) > 0
    size = int(free.sum())
    covariance, sigma = state.covariance[np.ix_(free, free)], state.step_size
    constants = Constants.of(len(samples), size, samples.contexts.shape[1])
    chosen = order[: len(constants.recombination)]
    rows = state.features(samples.contexts)
    parameters = samples.parameters[:, free]
    old = state.weights[:, free]
    # Rank μ: residuals to the old mean, else the steps' own direction would be lost.
    steps = (parameters - rows @ old)[chosen] / sigma
    new = weighted_fit(rows[chosen], parameters[chosen], constants.recombination, old).coefficients
    mean_step = rows.mean(axis=0) @ (new - old) / sigma

    values, axes = np.linalg.eigh(covariance)
    white = axes @ ((axes.T @ mean_step) / np.sqrt(values))
    kept, rate = 1 - constants.step_rate, constants.step_rate
    pushed = math.sqrt(rate * (1 + kept) * constants.effective)
    path_step = kept * state.path_step[free] + pushed * white
    length = float(np.linalg.norm(path_step))
    # χ_n, the mean length of n standard normals.
    typical = math.sqrt(2) * math.exp(math.lgamma((size + 1) / 2) - math.lgamma(size / 2))
    log_step = rate / constants.step_damping * (length / typical - 1)

    begun = 1 - kept ** (2 * state.generation)
    steady = length**2 / size / begun < 2 + 4 / (size + 1)
    turn = constants.path_rate
    pushed = math.sqrt(turn * (2 - turn) * constants.effective) if steady else 0.0
    path_cov = (1 - turn) * state.path_cov[free] + pushed * mean_step
    lost = 0.0 if steady else constants.rank_one * turn * (2 - turn)
    scatter = (steps.T * constants.recombination) @ steps
    moved = (
        (1 + lost - constants.rank_one - constants.rank_mu) * covariance
        + constants.rank_one * np.outer(path_cov, path_cov)
        + constants.rank_mu * scatter
    )
    moved = (moved + moved.T) / 2
    step_size = sigma * math.exp(min(1.0, log_step))
    if not (upper_level.usable(new, step_size**2 * moved) and np.isfinite(path_step).all()):
        return None
    return replace(
        state,
        weights=_placed(state.weights, new, free),
        step_size=step_size,
        covariance=upper_level.embedded(moved, free),
        path_step=_placed(state.path_step, path_step, free),
        path_cov=_placed(state.path_cov, path_cov, free),
        figures=Figures(ess=constants.effective, path_norm=length / typical, samples=len(samples)),
    )


def _placed(whole: FloatArray, part: FloatArray, free: Array) -> FloatArray:
    """Put values of the free parameters among those of frozen ones."""
    out = whole.copy()
    out[..., free] = part
    return out


def _condition(covariance: FloatArray) -> float:
    """Largest over smallest eigenvalue, frozen parameters apart."""
    free = np.diag(covariance) > 0
    values = np.linalg.eigvalsh(covariance[np.ix_(free, free)])
    return float(values[-1] / values[0]) if values[0] > 0 else math.inf
