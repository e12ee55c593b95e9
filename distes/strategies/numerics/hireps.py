"""The sample weights of hierarchical relative entropy policy search, from its dual.

| name | Daniel, Neumann & Peters 2012, "Hierarchical relative entropy policy search" |
|---|---|
| returns | R |
| responsibilities | p̃(o | s, θ) of the options for the samples |
| features | φ(s), of the value function |
| epsilon | ε, the bound on KL(w ‖ p̃/N) |
| overlap | κ̃, the share of the responsibilities' mean entropy that is left: κ = κ̃ H |
| eta, xi, theta | η, ξ, θ |

Equations, by this file's numbers; η > 0, ξ >= 0 and θ minimise the convex dual (2):

(1) w_io ∝ p̃_io^{1+ξ/η} exp((R_i − φ_iᵀθ)/η)
(2) g = ηε + ξκ + θᵀφ̄ + η log (1/N) Σ_io p̃_io^{1+ξ/η} exp((R_i − φ_iᵀθ)/η)
(3) ∂g/∂ξ = κ + Σ_io w_io log p̃_io
(4) κ = κ̃ H, H = −(1/N) Σ_io p̃_io log p̃_io

By p̃^{ξ/η} = exp(−ξ(−log p̃)/η) it is the dual of REPS (`numerics.dual`) over pairs of a sample
and an option, with the prior p̃/N and one column more: the surprise −log p̃, with the target κ
and the multiplier ξ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from distes.strategies.numerics import reps
from distes.strategies.numerics.dual import Dual, standardise
from distes.strategies.numerics.reps import Weighting
from distes.types import FloatArray

NEGLIGIBLE = 1e-6
"""Overlap in nats below which options count as apart."""

LEAST_SHARE = 1e-20
"""Responsibility below which an option's part in a sample is rounding."""

EXPLAINED = 1e-6
"""Share of the surprise below which what constant and features leave of it is rounding."""


@dataclass(frozen=True, eq=False)
class OptionWeighting(Weighting):
    """How much each sample counts in the update of each option.

    Here ``weights`` is (N, O), ``kl`` KL(w ‖ p̃/N), and ``ess`` 1/Σ_i (Σ_o w_io)².

    Attributes:
        xi: ξ, in units of the return; 0 where the options are apart enough.
        entropy: mean over the samples of −Σ_o p̃ log p̃, in nats: how far options overlap.
        surprise: −Σ w log p̃, in nats.
        bound: κ, as it was kept; infinite without.
    """

    xi: float
    entropy: float
    surprise: float
    bound: float


def weigh_options(
    returns: FloatArray,
    responsibilities: FloatArray,
    epsilon: float,
    features: FloatArray | None = None,
    overlap: float | None = None,
) -> OptionWeighting:
    """Weigh samples towards high returns, and options away from each other.

    Without ``overlap`` a sample's weight is that of `reps.weigh_samples`, divided among options by
    responsibility. The same is true for constant returns, and while options are apart
    enough. Where κ would take more than half of what ε can do about the overlap, κ is
    raised to that half, so that weights towards high returns always exist.

    Args:
        returns: (N,) finite.
        responsibilities: (N, O) >= 0, rows of sum 1.
        epsilon: ε > 0, in nats.
        features: (N, q) finite; None where there is no context.
        overlap: κ̃ > 0; None for no bound on the overlap.

    Raises:
        ValueError: ε is not positive, or a number is not finite.

    >>> shares = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    >>> weigh_options(np.array([1.0, 2.0, 3.0]), shares, 0.2).weights.sum(axis=1).round(4)
    array([0.1151, 0.2667, 0.6182])
    """
    if not np.isfinite(responsibilities).all():
        raise ValueError("responsibilities must be finite")
    count = len(returns)
    shares = responsibilities / responsibilities.sum(axis=1, keepdims=True)
    plain = reps.weigh_samples(returns, epsilon, features)
    # Pairs of a sample and an option that has some part in it.
    rows, options = np.nonzero(shares > LEAST_SHARE)
    base = shares[rows, options] / count
    base = base / base.sum()
    surprise = -np.log(shares[rows, options])
    mean = float(base @ surprise)  # H of eq. (4)
    bound = math.inf if overlap is None else overlap * mean
    unbounded = OptionWeighting(
        **vars(plain) | {"weights": shares * plain.weights[:, None]},
        xi=0.0,
        entropy=mean,
        surprise=float(base * count * plain.weights[rows] @ surprise),
        bound=bound,
    )
    settled = mean <= NEGLIGIBLE or math.isinf(plain.eta)
    if overlap is None or settled or unbounded.surprise <= bound:
        return unbounded
    features = np.empty((count, 0)) if features is None else features
    # The least mean surprise within KL ≤ ε: that of the weights that prize nothing else.
    furthest = reps.weigh_samples(-surprise, epsilon, features[rows], base)
    least = float(furthest.weights @ surprise)
    bound = max(bound, (least + mean) / 2)

    standard = standardise(returns, features, np.full(count, 1.0 / count))
    white = standard.white[rows]
    # The surprise in the units in which the dual is well scaled: without what constant and
    # features explain, of spread 1; its target is (κ − H)/spread.
    centred = surprise - mean
    shared = white.T @ (base * centred)
    own = centred - white @ shared
    spread = math.sqrt(float(base @ own**2))
    possible = spread > EXPLAINED * math.sqrt(float(base @ surprise**2))
    if not possible or unbounded.surprise <= bound:
        return unbounded
    at = Dual(
        rest=standard.rest[rows],
        columns=np.column_stack([white, own / spread]),
        prior=base,
        targets=np.append(np.zeros(white.shape[1]), (bound - mean) / spread),
        epsilon=epsilon,
    ).minimise()
    multiplier = float(at.multipliers[-1]) / spread
    weights = np.zeros_like(shares)
    weights[rows, options] = at.weights
    samples = weights.sum(axis=1)
    return OptionWeighting(
        weights=weights,
        # Back in the units of returns, features and surprise.
        eta=standard.unit * at.eta,
        xi=standard.unit * multiplier,
        theta=standard.explained
        + standard.unit * (standard.unwhiten @ (at.multipliers[:-1] - multiplier * shared)),
        value=standard.mean + standard.unit * at.value,
        kl=max(at.kl, 0.0),
        ess=1.0 / float(samples @ samples),
        feature_error=float(np.linalg.norm(samples @ standard.white)),
        entropy=mean,
        surprise=float(at.weights @ surprise),
        bound=bound,
    )
