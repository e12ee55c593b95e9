"""What strategies of upper-level policies share: settings, start, samples, solution.

An upper-level policy draws the parameters of the lower-level policy that acts in an episode,
given the episode's context.

| name | Deisenroth, Neumann & Peters 2013, "A survey on policy search for robotics", 2.4 |
|---|---|
| parameters, contexts, returns | θ_i, s_i, R_i of sample i |
| features | ψ(s), of the policy's mean |
| value_features | φ(s), of V(s): what a context alone explains of the return |
| weights, covariance | W and Σ of π(θ | s) = N(θ | ψ(s) W, Σ) |
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import numpy as np

from distes.errors import Notice, UsageError
from distes.population.distributions import Point
from distes.population.features import Features, RadialBasis, build_features
from distes.population.records import Episodes, Population
from distes.population.upper_policies import LinearGaussian
from distes.seeds import noise_key
from distes.strategies.base import Problem, Strategy
from distes.strategies.numerics import gaussians
from distes.strategies.numerics.moments import symmetric_root
from distes.strategies.parts.memory import refuse_beyond_memory
from distes.types import Array, FloatArray, NonNegativeFloat

S = TypeVar("S")
U = TypeVar("U", bound="UpperState")

MATRICES = 4
"""Covariances that are held at once at most."""

NO_NOISE = (0, 0)
"""Key of a distribution that draws none."""

SHRUNK = 1e-12
"""Share of the standard deviation at the start below which nothing is left to search."""


@dataclass(frozen=True, eq=False)
class Samples:
    """What an update learns from: the episodes that did not fail.

    Attributes:
        parameters: θ, (N, d).
        contexts: s, (N, k); k = 0 without contexts.
        returns: R, (N,).
    """

    parameters: FloatArray
    contexts: FloatArray
    returns: FloatArray

    def __len__(self) -> int:
        """Samples, N."""
        return len(self.returns)


@dataclass(frozen=True, kw_only=True)
class UpdateMetrics:
    """Diagnostics of the last update; NaN before the first.

    Attributes:
        ess: effective samples.
        samples: that the update used.
    """

    ess: float = math.nan
    samples: int = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class UpperState:
    """A linear-Gaussian upper policy, and what was learnt last.

    Attributes:
        generation: generations told, the index of the next one.
        weights: W, (p, d).
        covariance: Σ, (d, d); zero rows and columns for frozen parameters.
        features: ψ.
        value_features: φ.
        metrics: of the last update.
    """

    generation: int = 0
    weights: FloatArray
    covariance: FloatArray
    features: Features
    value_features: Features
    metrics: UpdateMetrics = field(default_factory=UpdateMetrics)

    @property
    def sampling_covariance(self) -> FloatArray:
        """Covariance of the candidates of one context, (d, d)."""
        return self.covariance


@dataclass(frozen=True)
class UpperLevel(Strategy[S]):
    """Searches for an upper-level policy.

    Attributes:
        initial_mean: where to start, one number for each parameter; none is where the
            policy starts.
        initial_std: at the start, one number or one for each parameter; a parameter with 0
            is frozen where it starts.
        min_std: least standard deviation in any direction that is not frozen, >= 0; it goes
            before bounds on an update.
    """

    default_policy: ClassVar[str] = "linear"

    initial_mean: tuple[float, ...] | None = None
    initial_std: NonNegativeFloat | tuple[NonNegativeFloat, ...] = 1.0
    min_std: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        """Refuse standard deviations that leave nothing to search, or are below the least."""
        super().__post_init__()
        std = np.atleast_1d(self.initial_std)
        if not std.any():
            shown = std.tolist() if isinstance(self.initial_std, tuple) else self.initial_std
            raise UsageError(
                f"initial_std {shown} is not finite numbers >= 0 with at least one above 0"
            )
        if std[std > 0].min() < self.min_std:
            raise UsageError(
                f"initial_std {std[std > 0].min():g} is below min_std {self.min_std:g}"
            )

    @abstractmethod
    def learn(self, state: S, samples: Samples) -> S:
        """Update from samples of the state's policy, wherever they come from."""

    @abstractmethod
    def default_population(self, problem: Problem) -> int:
        """Candidates of a generation that serve well, where the user asks for no number."""

    def population_size(self, problem: Problem) -> int:
        """Candidates of a generation."""
        return problem.population_size or self.default_population(problem)

    def contextual(self, problem: Problem) -> bool:
        """Whether contexts are learnt from: where the task has some."""
        return problem.num_contexts > 0

    def basis(self, problem: Problem, name: str) -> Features:
        """Features as the setting ``name`` says, before any context was seen.

        Where there are no contexts, only the policy's mean can be chosen: what else would
        depend on them is constant.
        """
        if name != "policy_features" and not problem.num_contexts:
            return build_features("constant", 0)
        return build_features(getattr(self, name), problem.num_contexts, name)

    def check(self, problem: Problem) -> None:
        """Refuse features and a start that do not fit; with contexts, repeats and common seeds."""
        size, dimension = self.population_size(problem), problem.num_parameters
        refuse_beyond_memory(
            MATRICES * dimension**2 + size * dimension,
            f"a full covariance of {dimension:,} parameters",
            "use a strategy that learns none, for example cmaes with strategy.covariance separable",
        )
        self.init(problem)
        if not self.contextual(problem):
            return
        # Where parameters depend on the context, each candidate has its own, once.
        pair = problem.population(Point(problem.start), 2)
        if pair.seed_group > 1:
            raise UsageError(
                "common_seeds gives all candidates of a generation the same context, from which no "
                "rule over contexts can be learnt: leave it out"
            )
        episodes = pair.num_episodes // 2
        if episodes > 1:
            raise UsageError(
                f"episodes {episodes}: parameters are drawn for each episode's own context, so "
                "that a candidate has one episode; use a larger population instead"
            )

    def start(self, problem: Problem) -> tuple[Features, FloatArray, FloatArray]:
        """Take the settings of the start.

        Returns:
            ψ; W (p, d), whose mean is the same for every context; standard deviations (d,),
            0 for frozen parameters.

        Raises:
            UsageError: a setting is of another length than the policy's parameters, or the
                features have no constant, and the mean is not zero.
        """
        size = problem.num_parameters
        mean = np.array(problem.start if self.initial_mean is None else self.initial_mean, float)
        if len(mean) != size:
            raise UsageError(
                f"initial_mean has {len(mean)} numbers, the policy has {size} parameters"
            )
        std = self.start_std(problem)
        features = self.basis(problem, "policy_features")
        weights = np.zeros((features.num_features, size))
        if features.constant is not None:
            weights[features.constant] = mean
        elif mean.any():
            shown: list[Any] = mean[:4].tolist()
            raise UsageError(
                "policy_features without a constant cannot start at "
                f"{shown if size <= 4 else [*shown, '...']}: use affine, or start at zero"
            )
        return features, weights, std

    def start_std(self, problem: Problem) -> FloatArray:
        """Standard deviations at the start, (d,); 0 for frozen parameters.

        Raises:
            UsageError: ``initial_std`` has another length.
        """
        size = problem.num_parameters
        if not isinstance(self.initial_std, tuple):
            return np.full(size, float(self.initial_std))
        if len(self.initial_std) != size:
            raise UsageError(
                f"initial_std has {len(self.initial_std)} numbers, the policy has {size} "
                "parameters: give one number, or one for each"
            )
        return np.array(self.initial_std, dtype=np.float64)

    def tell(self, problem: Problem, state: S, population: Population, episodes: Episodes) -> S:
        """Learn from the candidates that did not fail, with the parameters that they drew."""
        contextual = self.contextual(problem)
        return self.learn(state, collect_samples(population, episodes, contextual=contextual))


@dataclass(frozen=True)
class OneGaussian(UpperLevel[U]):
    """Searches for an upper policy that is one linear Gaussian."""

    def ask(self, problem: Problem, state: U) -> Population:
        """Sample the upper policy."""
        policy = build_policy(problem, state, state.generation)
        return problem.population(policy, self.population_size(problem))

    def solution(self, problem: Problem, state: U) -> Population:
        """Deploy the mean: a function of the context, without noise."""
        still = np.zeros(state.weights.shape[1])
        return Population(LinearGaussian(state.weights, still, state.features, NO_NOISE), 1)

    def metrics(self, state: U) -> dict[str, float]:
        """Diagnostics of the update, and the width of the policy."""
        return {**vars(state.metrics), **describe_width(state.sampling_covariance[None])}

    def stop(self, state: U) -> str | None:
        """Stop when all candidates of a context would be the same."""
        if has_shrunk(state.sampling_covariance, self.initial_std):
            return "the upper policy has shrunk to a point"
        return None


def collect_samples(population: Population, episodes: Episodes, *, contextual: bool) -> Samples:
    """Take the valid candidates of a generation, with the parameters that they drew.

    If ``contextual``, contexts are learnt from, and a candidate has one episode.
    """
    candidates = np.flatnonzero(~np.isnan(episodes.fitness))
    if not contextual or episodes.contexts is None:
        parameters = population.distribution.draw(candidates)
        contexts = np.empty((len(candidates), 0))
        return Samples(parameters, contexts, episodes.fitness[candidates])
    # One episode for each candidate: see `UpperLevel.check`.
    contexts = episodes.contexts[candidates]
    known = np.isfinite(contexts).all(axis=1)
    candidates, contexts = candidates[known], contexts[known]
    parameters = population.distribution.draw(candidates, contexts)
    return Samples(parameters, contexts, episodes.fitness[candidates])


def fit_features(state: U, contexts: FloatArray) -> U:
    """Adapt features to contexts that were seen, (N, k).

    Says so, in the first generation that is learnt from, if those of the policy depend on
    each other.
    """
    features = state.features.adapt_to(contexts)
    if not state.metrics.samples:
        warn_of_dependence(features, contexts, "policy_features")
    return replace(
        state,
        features=features,
        value_features=state.value_features.adapt_to(contexts),
        weights=grow_weights(state.weights, features),
    )


def warn_of_dependence(features: Features, contexts: Array, label: str) -> None:
    """Say so if features depend on each other over a generation's contexts.

    Contexts that are all alike are no contexts: then nothing is said.
    """
    if len(contexts) <= features.num_features or not features.uses_context:
        return
    if not np.ptp(contexts, axis=0).any():
        return
    rows = features(contexts)
    size = np.sqrt((rows**2).sum(axis=0))
    rank = int(np.linalg.matrix_rank(rows / np.where(size > 0, size, 1.0), tol=1e-10))
    if rank < features.num_features:
        warnings.warn(
            f"{label} are linearly dependent over the {len(contexts)} contexts of a generation "
            f"(rank {rank} of {features.num_features}), and what follows from others is not "
            "learnt: use fewer features, leave out components of the context that do not vary, "
            "or shift and scale those that vary little about a large value",
            Notice,
            stacklevel=2,
        )


def build_policy(problem: Problem, state: UpperState, at: int) -> LinearGaussian:
    """Make the upper policy of generation ``at``, which keys the noise together with the seed."""
    scale = factor_covariances(state.sampling_covariance[None])[0]
    return LinearGaussian(state.weights, scale, state.features, noise_key(problem.seed, at))


def factor_covariances(covariances: FloatArray) -> FloatArray:
    """Standard deviations (O, d) of covariances (O, d, d), factors where one is not diagonal."""
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    if np.count_nonzero(covariances) == np.count_nonzero(variances):
        return np.sqrt(variances)
    return np.stack([factor_covariance(covariance) for covariance in covariances])


def factor_covariance(covariance: FloatArray) -> FloatArray:
    """Find A with A Aᵀ = Σ, (d, d), exactly zero in rows of frozen parameters."""
    free, part = take_free(covariance)
    return embed_free(symmetric_root(part), free)


def take_free(covariance: FloatArray) -> tuple[Array, FloatArray]:
    """Tell which parameters are not frozen, (d,), and take their part of the covariance."""
    free = np.diag(covariance) > 0
    return free, covariance[np.ix_(free, free)]


def embed_free(part: FloatArray, free: Array) -> FloatArray:
    """Put a matrix of the free parameters back among frozen ones, (d, d)."""
    whole = np.zeros((len(free), len(free)))
    whole[np.ix_(free, free)] = part
    return whole


def grow_weights(weights: FloatArray, features: Features) -> FloatArray:
    """Add coefficients, (p, d), for features that were gained: they start at zero."""
    added = features.num_features - len(weights)
    return np.vstack([weights, np.zeros((added, weights.shape[1]))]) if added else weights


def count_features(features: Features) -> int:
    """Count the columns that features have once they are fitted."""
    return 1 + features.count if isinstance(features, RadialBasis) else features.num_features


def floor_covariance(covariance: FloatArray, min_std: float) -> FloatArray:
    """Raise the variance in every direction to a least one; frozen parameters stay so."""
    if min_std == 0:
        return covariance
    free, part = take_free(covariance)
    values, axes = np.linalg.eigh(part)
    return embed_free((axes * np.maximum(values, min_std**2)) @ axes.T, free)


def is_usable(coefficients: FloatArray, covariance: FloatArray) -> bool:
    """Whether an update can be sampled from: finite, and not singular to rounding."""
    if not (np.isfinite(coefficients).all() and np.isfinite(covariance).all()):
        return False
    try:
        np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return False
    return math.isfinite(gaussians.log_determinant(covariance))


def has_shrunk(covariance: FloatArray, initial_std: float | tuple[float, ...]) -> bool:
    """Whether a policy is next to nothing of what it was at the start."""
    return bool(np.all(np.sqrt(np.diag(covariance)) <= SHRUNK * np.asarray(initial_std)))


def describe_width(covariances: FloatArray, shares: FloatArray | None = None) -> dict[str, float]:
    """Name the width of Gaussians (O, d, d): mean entropy in nats, and standard deviations.

    What is frozen does not count. Entropies are weighed by ``shares`` (O,); None for one Gaussian.
    """
    parts = [take_free(covariance)[1] for covariance in covariances]
    std = np.sqrt([np.diag(part) for part in parts])
    entropies = np.array([gaussians.entropy(part) for part in parts])
    return {
        "entropy": float(entropies[0] if shares is None else shares @ entropies),
        "std_mean": float(std.mean()),
        "std_min": float(std.min()),
        "std_max": float(std.max()),
    }
