"""What strategies of upper-level policies share: their samples, their start, their checks."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from distes.errors import Notice, UsageError
from distes.population.distributions import Point
from distes.population.features import Features, RadialBasis
from distes.population.records import Episodes, Population
from distes.population.upper_policies import LinearGaussian
from distes.seeds import noise_key
from distes.strategies.base import Problem
from distes.strategies.numerics import gaussians
from distes.strategies.numerics.moments import symmetric_root
from distes.types import Array, FloatArray

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


def samples_of(population: Population, episodes: Episodes, *, contextual: bool) -> Samples:
    """Take the valid candidates of a generation, with the parameters that they drew.

    Args:
        population: of the generation.
        episodes: its.
        contextual: whether contexts are learnt from; then a candidate has one episode.
    """
    candidates = np.flatnonzero(~np.isnan(episodes.fitness))
    if not contextual or episodes.contexts is None:
        parameters = population.distribution.draw(candidates)
        contexts = np.empty((len(candidates), 0))
        return Samples(parameters, contexts, episodes.fitness[candidates])
    # One episode for each candidate: see `refuse_repeats`.
    contexts = episodes.contexts[candidates]
    known = np.isfinite(contexts).all(axis=1)
    candidates, contexts = candidates[known], contexts[known]
    parameters = population.distribution.draw(candidates, contexts)
    return Samples(parameters, contexts, episodes.fitness[candidates])


def start_mean(problem: Problem, initial_mean: tuple[float, ...] | None) -> FloatArray:
    """Where to start, (d,).

    Raises:
        UsageError: ``initial_mean`` has another length, or is not finite.
    """
    if initial_mean is None:
        return np.array(problem.start, dtype=np.float64)
    if not all(map(math.isfinite, initial_mean)):
        raise UsageError(f"initial_mean {list(initial_mean)} is not finite")
    if len(initial_mean) != problem.num_parameters:
        raise UsageError(
            f"initial_mean has {len(initial_mean)} numbers, the policy has "
            f"{problem.num_parameters} parameters"
        )
    return np.array(initial_mean, dtype=np.float64)


def start_std(problem: Problem, initial_std: float | tuple[float, ...]) -> FloatArray:
    """Standard deviations at the start, (d,); 0 for frozen parameters.

    Raises:
        UsageError: ``initial_std`` has another length.
    """
    size = problem.num_parameters
    if not isinstance(initial_std, tuple):
        return np.full(size, float(initial_std))
    if len(initial_std) != size:
        raise UsageError(
            f"initial_std has {len(initial_std)} numbers, the policy has {size} parameters: "
            "give one number, or one for each"
        )
    return np.array(initial_std, dtype=np.float64)


def refuse_bad_std(initial_std: float | tuple[float, ...], min_std: float = 0.0) -> None:
    """Refuse standard deviations that leave nothing to search, or are below the least.

    Raises:
        UsageError: one is negative or not finite, all are 0, or one is below ``min_std``.
    """
    values = initial_std if isinstance(initial_std, tuple) else (initial_std,)
    if not values or not all(0 <= value < math.inf for value in values) or not any(values):
        shown = list(initial_std) if isinstance(initial_std, tuple) else initial_std
        raise UsageError(
            f"initial_std {shown} is not finite numbers >= 0 with at least one above 0"
        )
    least = min(value for value in values if value > 0)
    if least < min_std:
        raise UsageError(f"initial_std {least:g} is below min_std {min_std:g}")


def refuse_repeats(problem: Problem) -> None:
    """Refuse what cannot be where parameters depend on the context.

    Raises:
        UsageError: the run asks for several episodes for each candidate, or for the same
            seeds, and thereby the same context, for all.
    """
    pair = problem.population(Point(problem.start), 2)
    if pair.seed_group > 1:
        raise UsageError(
            "common_seeds gives all candidates of a generation the same context, from which no "
            "rule over contexts can be learnt: leave it out"
        )
    episodes = pair.num_episodes // 2
    if episodes > 1:
        raise UsageError(
            f"episodes {episodes}: parameters are drawn for each episode's own context, so that "
            "a candidate has one episode; use a larger population instead"
        )


def tell_of_dependent(features: Features, contexts: Array, label: str) -> None:
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


def gaussian(
    problem: Problem, weights: FloatArray, covariance: FloatArray, features: Features, at: int
) -> LinearGaussian:
    """The upper policy of one generation, from which candidates are drawn.

    Args:
        problem: whose seed keys the noise.
        weights: (p, d).
        covariance: (d, d).
        features: ψ.
        at: the generation.
    """
    scale = scales(covariance[None])[0]
    return LinearGaussian(weights, scale, features, noise_key(problem.seed, at))


def scales(covariances: FloatArray) -> FloatArray:
    """Standard deviations (O, d) of covariances (O, d, d), factors where one is not diagonal."""
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    if np.count_nonzero(covariances) == np.count_nonzero(variances):
        return np.sqrt(variances)
    return np.stack([root(covariance) for covariance in covariances])


def root(covariance: FloatArray) -> FloatArray:
    """A factor A with A Aᵀ = Σ, exactly zero in rows of frozen parameters."""
    free = np.diag(covariance) > 0
    factor = np.zeros_like(covariance)
    factor[np.ix_(free, free)] = symmetric_root(covariance[np.ix_(free, free)])
    return factor


def embedded(part: FloatArray, free: Array) -> FloatArray:
    """Put the covariance of the free parameters back among frozen ones."""
    whole = np.zeros((len(free), len(free)))
    whole[np.ix_(free, free)] = part
    return whole


def deployed(weights: FloatArray, features: Features) -> Population:
    """The mean of an upper policy as the solution: one candidate, without noise."""
    return Population(LinearGaussian(weights, np.zeros(weights.shape[1]), features, NO_NOISE), 1)


def initial_weights(features: Features, mean: FloatArray) -> FloatArray:
    """Coefficients, (p, d), whose mean is the same for every context.

    Raises:
        UsageError: without a constant among the features, only zero is possible.
    """
    weights = np.zeros((features.num_features, len(mean)))
    if features.constant is not None:
        weights[features.constant] = mean
    elif mean.any():
        raise UsageError(
            f"policy_features without a constant cannot start at {_shown(mean)}: use affine, "
            "or start at zero"
        )
    return weights


def grown(weights: FloatArray, features: Features) -> FloatArray:
    """Coefficients after the features were fitted: new ones start at zero."""
    added = features.num_features - len(weights)
    return np.vstack([weights, np.zeros((added, weights.shape[1]))]) if added else weights


def default_size(needed: int, epsilon: float) -> int:
    """A population with some times the effective samples that an update needs at least."""
    return max(50, math.ceil(needed * max(10.0, 1.5 * math.exp(epsilon))))


def full_size(features: Features) -> int:
    """Columns that features have once they are fitted."""
    return 1 + features.count if isinstance(features, RadialBasis) else features.num_features


def floored(covariance: FloatArray, min_std: float) -> FloatArray:
    """Raise the variance in every direction to a least one; frozen parameters stay so."""
    if min_std == 0:
        return covariance
    free = np.diag(covariance) > 0
    values, axes = np.linalg.eigh(covariance[np.ix_(free, free)])
    return embedded((axes * np.maximum(values, min_std**2)) @ axes.T, free)


def usable(coefficients: FloatArray, covariance: FloatArray) -> bool:
    """Whether an update can be sampled from: finite, and not singular to rounding."""
    if not (np.isfinite(coefficients).all() and np.isfinite(covariance).all()):
        return False
    try:
        np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return False
    return math.isfinite(gaussians.log_determinant(covariance))


def shrunk(covariance: FloatArray, initial_std: float | tuple[float, ...]) -> str | None:
    """Give a reason to stop once the policy is next to nothing of what it was at the start."""
    std, first = np.sqrt(np.diag(covariance)), np.asarray(initial_std)
    if np.all(std <= SHRUNK * first):
        return "the upper policy has shrunk to a point"
    return None


def free_std(covariance: FloatArray) -> FloatArray:
    """Standard deviations of what is not frozen."""
    variances = np.diag(covariance)
    return np.sqrt(variances[variances > 0])


def free_entropy(covariance: FloatArray) -> float:
    """Differential entropy of what is not frozen, in nats."""
    free = np.diag(covariance) > 0
    return gaussians.entropy(covariance[np.ix_(free, free)])


def width(covariance: FloatArray) -> dict[str, float]:
    """Name the width of an upper policy for the generations log: entropy in nats, std."""
    std = free_std(covariance)
    return {
        "entropy": free_entropy(covariance),
        "std_mean": float(std.mean()),
        "std_min": float(std.min()),
        "std_max": float(std.max()),
    }


def _shown(mean: FloatArray) -> list[Any]:
    shown: list[Any] = mean[:4].tolist()
    return shown if len(mean) <= 4 else [*shown, "..."]
