"""Samples of earlier policies, used again with importance weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distes.population.features import Features
from distes.strategies.numerics import gaussians
from distes.strategies.parts.upper_level import Samples
from distes.types import FloatArray


@dataclass(frozen=True, eq=False)
class Generation:
    """What one generation left behind, for the next ones to use again.

    Attributes:
        samples: its valid episodes.
        weights: (p, d) of the policy that drew them.
        covariance: (d, d) likewise.
        features: ψ then.
    """

    samples: Samples
    weights: FloatArray
    covariance: FloatArray
    features: Features


def importance(used: tuple[Generation, ...]) -> FloatArray | None:
    """Weights that make samples of several policies stand for the first one's, (N,).

    π/Σ n_g π_g/N: the mixture of all that drew them bounds each weight (the balance
    heuristic; Veach and Guibas 1995).
    """
    if len(used) == 1:
        return None
    free = np.diag(used[0].covariance) > 0
    parameters = np.concatenate([each.samples.parameters for each in used])[:, free]
    contexts = np.concatenate([each.samples.contexts for each in used])
    logs = np.stack(
        [
            gaussians.log_density(
                parameters,
                each.features(contexts) @ each.weights[:, free],
                each.covariance[np.ix_(free, free)],
            )
            for each in used
        ]
    )
    shares = np.log([len(each.samples) / len(parameters) for each in used])
    mixture = np.logaddexp.reduce(logs + shares[:, None], axis=0)
    weights: FloatArray = np.exp(logs[0] - mixture)
    return weights
