"""Samples of earlier policies, used again with importance weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distes.population.features import Features
from distes.strategies.numerics import gaussians
from distes.strategies.parts.upper_level import Samples, UpperState, take_free
from distes.types import FloatArray


@dataclass(frozen=True, eq=False)
class PolicySamples:
    """Samples together with the policy that drew them, for later generations to use again.

    Attributes:
        samples: a generation's valid episodes.
        weights: W, (p, d).
        covariance: Σ, (d, d).
        features: ψ then.
    """

    samples: Samples
    weights: FloatArray
    covariance: FloatArray
    features: Features


@dataclass(frozen=True, eq=False, kw_only=True)
class ReusingState(UpperState):
    """An upper policy, and samples of earlier ones.

    Attributes:
        memory: earlier generations, newest first.
    """

    memory: tuple[PolicySamples, ...] = ()

    def recall(self, samples: Samples) -> tuple[PolicySamples, ...]:
        """Put samples of this policy before those of earlier ones."""
        own = PolicySamples(samples, self.weights, self.covariance, self.features)
        return (own, *self.memory)


def pool_samples(used: Sequence[PolicySamples]) -> Samples:
    """Put the samples of several policies one after the other."""
    return Samples(
        np.concatenate([each.samples.parameters for each in used]),
        np.concatenate([each.samples.contexts for each in used]),
        np.concatenate([each.samples.returns for each in used]),
    )


def importance_weights(used: Sequence[PolicySamples]) -> FloatArray:
    """Weights that make samples of several policies stand for the first one's, (N,).

    w = π/Σ_g (n_g/N) π_g: the mixture of all policies g that drew the N samples bounds each
    weight by N/n of the first (the balance heuristic; Veach and Guibas 1995, "Optimally
    combining sampling techniques", section 3).
    """
    pooled = pool_samples(used)
    if len(used) == 1:
        return np.ones(len(pooled))
    free, _ = take_free(used[0].covariance)
    logs = np.stack(
        [
            gaussians.log_density(
                pooled.parameters[:, free],
                each.features(pooled.contexts) @ each.weights[:, free],
                each.covariance[np.ix_(free, free)],
            )
            for each in used
        ]
    )
    shares = np.log([len(each.samples) / len(pooled) for each in used])
    # log Σ_g (n_g/N) π_g, without an underflow far from all policies.
    mixture = np.logaddexp.reduce(logs + shares[:, None], axis=0)
    weights: FloatArray = np.exp(logs[0] - mixture)
    return weights
