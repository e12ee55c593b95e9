"""The sample weights of relative entropy policy search, from its dual.

| name | Peters et al. 2010; Deisenroth et al. 2013, section 2.4.3 |
|---|---|
| returns | R |
| features | φ(s), of the value function V(s) = φ(s)ᵀθ |
| base | q, the distribution the samples stand for; uniform without importance weights |
| epsilon | ε, the bound on KL(w ‖ q) |
| eta, theta | η, θ |

Equations, by this file's numbers; η and θ minimise the convex dual (2):

(1) w_i ∝ q_i exp((R_i − φ_iᵀθ)/η)
(2) g = ηε + θᵀφ̄ + η log Σ q_i exp((R_i − φ_iᵀθ)/η), φ̄ = Σ q_i φ_i
(3) ESS = 1/Σw² (Kish 1965), at most N exp(−KL(w ‖ 1/N))
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from distes.strategies.numerics.dual import Dual, StandardReturns, standardise
from distes.types import FloatArray


@dataclass(frozen=True, eq=False)
class Weighting:
    """How much each sample counts in an update.

    Attributes:
        weights: (N,), sum 1.
        eta: η, the temperature in units of the return; infinite for constant returns, 0 in
            the limit where only the best count.
        theta: (q,), of the value function.
        value: of the dual at its minimum, in units of the return.
        kl: KL(w ‖ q), at most ε.
        ess: effective samples, eq. (3).
        feature_error: ‖Σ w φ − φ̄‖ in standard deviations of the features.
    """

    weights: FloatArray
    eta: float
    theta: FloatArray
    value: float
    kl: float
    ess: float
    feature_error: float


def weigh_samples(
    returns: FloatArray,
    epsilon: float,
    features: FloatArray | None = None,
    base: FloatArray | None = None,
) -> Weighting:
    """Weigh samples as far towards high returns as the bound allows.

    The weights do not change when returns are scaled or shifted, or when a linear function
    of the features is added to them. Constant returns, and returns that the features
    explain wholly, give the base weights.

    Args:
        returns: (N,) finite.
        epsilon: ε > 0, in nats.
        features: (N, q) finite; None where there is no context. Constant and dependent
            features are harmless.
        base: (N,) weights of the samples before; None is uniform.

    Raises:
        ValueError: ε is not positive, or a number is not finite.

    >>> weigh_samples(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), 0.5).weights.round(6)
    array([0.018843, 0.044463, 0.104918, 0.247575, 0.584201])
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon {epsilon} is not > 0")
    count = len(returns)
    features = np.empty((count, 0)) if features is None else features
    if not (np.isfinite(returns).all() and np.isfinite(features).all()):
        raise ValueError("returns and features must be finite")
    prior = np.full(count, 1.0 / count) if base is None else base / base.sum()
    counted = prior > 0
    if not counted.all():  # samples that stand for nothing have no say
        found = weigh_samples(returns[counted], epsilon, features[counted], prior[counted])
        weights = np.zeros(count)
        weights[counted] = found.weights
        return replace(found, weights=weights)
    standard = standardise(returns, features, prior)
    if standard.unit == 0:  # nothing prefers one sample to another: η → ∞ in (1)
        ess = 1.0 / float(prior @ prior)
        return Weighting(prior, math.inf, standard.explained, standard.mean, 0.0, ess, 0.0)
    return _weigh_best_alone(standard, prior, epsilon) or _weigh_at_minimum(
        standard, prior, epsilon
    )


def _weigh_best_alone(
    standard: StandardReturns, prior: FloatArray, epsilon: float
) -> Weighting | None:
    """Weigh the best samples alone, where the bound allows even that; without features.

    η → 0 in (1): w is q restricted to the best, whose KL from q is −log of their share.
    """
    best = standard.rest == standard.rest.max()
    share = float(prior[best].sum())
    if standard.white.shape[1] or epsilon < -math.log(share):
        return None
    weights = np.where(best, prior, 0.0) / share
    ess = 1.0 / float(weights @ weights)
    value = standard.mean + standard.unit * float(standard.rest.max())
    return Weighting(weights, 0.0, standard.explained, value, -math.log(share), ess, 0.0)


def _weigh_at_minimum(standard: StandardReturns, prior: FloatArray, epsilon: float) -> Weighting:
    """Weigh at the minimum of the dual (2), back in the units of returns and features.

    With R = mean + (φ − φ̄)ᵀb + u R', η = u η' and θ = b + u T θ', T of `dual.whiten`.
    """
    targets = np.zeros(standard.white.shape[1])
    at = Dual(standard.rest, standard.white, prior, targets, epsilon).minimise()
    return Weighting(
        weights=at.weights,
        eta=standard.unit * at.eta,
        theta=standard.explained + standard.unit * (standard.unwhiten @ at.multipliers),
        value=standard.mean + standard.unit * at.value,
        kl=max(at.kl, 0.0),
        ess=1.0 / float(at.weights @ at.weights),
        feature_error=float(np.linalg.norm(at.weights @ standard.white)),
    )
