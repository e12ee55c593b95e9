"""The sample weights of relative entropy policy search, from its dual.

| name | Peters et al. 2010; Deisenroth et al. 2013, section 2.4.3 |
|---|---|
| returns | R |
| features | φ(s), of the value function V(s) = φ(s)ᵀθ |
| base | q, the distribution the samples stand for; uniform without importance weights |
| epsilon | ε, the bound on KL(w ‖ q) |
| eta, theta | η, θ |

w_i ∝ q_i exp((R_i − φ_iᵀθ)/η), where η and θ minimise the convex dual
g = ηε + θᵀφ̄ + η log Σ q_i exp((R_i − φ_iᵀθ)/η), φ̄ = Σ q_i φ_i.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from distes.types import FloatArray

TOLERANCE = 1e-12
"""Of the dual's gradient: of the bound, and of feature means in standard deviations."""

RANK_TOLERANCE = 1e-9
"""Share of the largest singular value below which features depend on others."""

EXPLAINED = 1e-10
"""Share of the returns' spread below which what the value function leaves is rounding."""

CLOSE = 1e-8
"""Gradient at which a minimum counts as found."""

LEAST_ETA = 1e-9
"""In standard deviations of the return: the limit of ever greater weight on the best."""

MAX_STEPS = 200


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
        ess: effective samples 1/Σw².
        feature_error: ‖Σ w φ − φ̄‖ in standard deviations of the features.
    """

    weights: FloatArray
    eta: float
    theta: FloatArray
    value: float
    kl: float
    ess: float
    feature_error: float


def weigh(
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

    >>> weigh(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), 0.5).weights.round(6)
    array([0.018843, 0.044463, 0.104918, 0.247575, 0.584201])
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon {epsilon} is not > 0")
    count = len(returns)
    features = np.empty((count, 0)) if features is None else features
    if not (np.isfinite(returns).all() and np.isfinite(features).all()):
        raise ValueError("returns and features must be finite")
    prior = np.full(count, 1.0 / count) if base is None else base / base.sum()
    white, unwhiten = _whitened(features, prior)
    mean = float(prior @ returns)
    centred = returns - mean
    spread = math.sqrt(float(prior @ centred**2))
    if not spread > EXPLAINED * max(abs(mean), float(np.abs(centred).max(initial=0.0)), 1e-290):
        return _unchanged(prior, np.zeros(features.shape[1]), mean)
    shared = white.T @ (prior * centred) / spread
    rest = centred / spread - white @ shared
    scale = math.sqrt(float(prior @ rest**2))
    explained = unwhiten @ (spread * shared)
    if scale <= EXPLAINED:
        return _unchanged(prior, explained, mean)
    rest = rest / scale
    found = _limit(rest, white, prior, epsilon) or _minimised(rest, white, prior, epsilon)
    unit = spread * scale
    return replace(
        found,
        eta=unit * found.eta,
        theta=explained + unit * (unwhiten @ found.theta),
        value=mean + unit * found.value,
    )


def _whitened(features: FloatArray, prior: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Centre, scale and rank-reduce features.

    Returns:
        (N, r) of mean 0 and covariance I, and the (q, r) that maps their θ back.
    """
    centred = features - prior @ features
    spread = np.sqrt(prior @ centred**2)
    constant = spread <= RANK_TOLERANCE * np.abs(features).max(axis=0, initial=0.0)
    inverse = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, spread))
    scaled = centred * inverse
    root = np.sqrt(prior)[:, None]
    _, sizes, right = np.linalg.svd(root * scaled, full_matrices=False)
    kept = sizes > RANK_TOLERANCE * sizes.max(initial=0.0)
    back = right[kept].T / sizes[kept]
    return scaled @ back, inverse[:, None] * back


def _unchanged(prior: FloatArray, theta: FloatArray, value: float) -> Weighting:
    ess = 1.0 / float(prior @ prior)
    return Weighting(prior, math.inf, theta, value, 0.0, ess, 0.0)


def _limit(
    rest: FloatArray, white: FloatArray, prior: FloatArray, epsilon: float
) -> Weighting | None:
    """Only the best count, where the bound allows even that; without features alone."""
    best = rest == rest.max()
    share = float(prior[best].sum())
    if white.shape[1] or epsilon < -math.log(share):
        return None
    weights = np.where(best, prior, 0.0) / share
    ess = 1.0 / float(weights @ weights)
    return Weighting(weights, 0.0, np.empty(0), float(rest.max()), -math.log(share), ess, 0.0)


@dataclass(frozen=True, eq=False)
class _Point:
    """The dual at (η, θ): value, gradient, Hessian, weights and their KL."""

    eta: float
    theta: FloatArray
    value: float
    gradient: FloatArray
    hessian: FloatArray
    weights: FloatArray
    kl: float


_Dual = Callable[[float, FloatArray], _Point]


def _dual(
    eta: float,
    theta: FloatArray,
    rest: FloatArray,
    white: FloatArray,
    prior: FloatArray,
    epsilon: float,
) -> _Point:
    advantage = (rest - white @ theta) / eta
    top = float(advantage.max())
    weights = prior * np.exp(advantage - top)
    total = float(weights.sum())
    weights = weights / total
    log_mean = top + math.log(total)
    expected = float(weights @ advantage)
    met = weights @ white
    columns = np.column_stack([advantage - expected, white - met])
    return _Point(
        eta=eta,
        theta=theta,
        value=eta * (epsilon + log_mean),
        gradient=np.concatenate([[epsilon + log_mean - expected], -met]),
        hessian=(columns.T * weights) @ columns / eta,
        weights=weights,
        kl=expected - log_mean,
    )


def _minimised(rest: FloatArray, white: FloatArray, prior: FloatArray, epsilon: float) -> Weighting:
    """Minimise the dual: it is smooth and jointly convex."""

    def dual(eta: float, theta: FloatArray) -> _Point:
        return _dual(eta, theta, rest, white, prior, epsilon)

    at = _descended(dual, dual(1.0, np.zeros(white.shape[1])), free_eta=True)
    if float(np.abs(at.gradient).max()) > CLOSE:
        at = _lowered(dual, white.shape[1], epsilon)
    at = _within(dual, at, epsilon)
    return Weighting(
        weights=at.weights,
        eta=at.eta,
        theta=at.theta,
        value=at.value,
        kl=max(at.kl, 0.0),
        ess=1.0 / float(at.weights @ at.weights),
        feature_error=float(np.linalg.norm(at.weights @ white)),
    )


def _descended(dual: _Dual, at: _Point, *, free_eta: bool) -> _Point:
    """Take damped Newton steps in (η, θ), or in θ alone."""
    first = 0 if free_eta else 1
    for _ in range(MAX_STEPS):
        gradient, hessian = at.gradient[first:], at.hessian[first:, first:]
        size = float(np.abs(gradient).max(initial=0.0))
        if size <= TOLERANCE or at.eta <= LEAST_ETA:
            break
        damping = 1e-13 * max(float(np.trace(hessian)), 1e-300) / len(hessian)
        step = np.zeros(len(at.gradient))
        step[first:] = -np.linalg.solve(hessian + damping * np.eye(len(hessian)), gradient)
        slope = float(step @ at.gradient)
        share = 1.0 if step[0] > -0.9 * at.eta else -0.9 * at.eta / float(step[0])
        advanced = None
        while share > 1e-10:
            tried = dual(at.eta + share * float(step[0]), at.theta + share * step[1:])
            # Close to the minimum values differ by rounding alone: there gradients decide.
            lower = tried.value <= at.value + 1e-4 * share * slope
            if lower or float(np.abs(tried.gradient[first:]).max()) < 0.5 * size:
                advanced = tried
                break
            share /= 2
        if advanced is None:
            break
        at = advanced
    return at


def _lowered(dual: _Dual, width: int, epsilon: float) -> _Point:
    """Lower η step by step, with the best θ for each: KL rises as η falls.

    For bounds so wide that no weights with matching features reach them: the last η at
    which features still match.
    """
    at = _descended(dual, dual(1.0, np.zeros(width)), free_eta=False)
    while at.kl > epsilon:  # of a θ that is best for this η
        at = _descended(dual, dual(2 * at.eta, at.theta), free_eta=False)
    factor = 0.5
    while factor < 1 - 1e-9 and at.eta > LEAST_ETA:
        tried = _descended(dual, dual(factor * at.eta, at.theta), free_eta=False)
        matched = float(np.abs(tried.gradient[1:]).max(initial=0.0)) <= CLOSE
        if matched and tried.kl <= epsilon:
            at = tried
        else:
            factor = math.sqrt(factor)
    return at


def _within(dual: _Dual, at: _Point, epsilon: float) -> _Point:
    """Raise η until the bound holds to the last bit; KL falls with η."""
    for power in range(60):
        if at.kl <= epsilon:
            break
        at = dual(at.eta * (1.0 + 1e-15 * 2.0**power), at.theta)
    return at
