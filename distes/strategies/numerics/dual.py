"""The convex dual behind relative entropy policy searches, and where it is least.

| name | symbol |
|---|---|
| rest | R, what the samples are weighed by |
| columns | C, whose weighted means are to be the targets t |
| prior | q, the distribution the samples stand for |
| epsilon | ε, the bound on KL(w ‖ q) |
| eta, multipliers | η > 0, λ |

Of the weights with KL(w ‖ q) ≤ ε and Σ w C = t, those with the highest Σ w R have the form (1),
where η and λ minimise the dual (2); Peters, Mülling & Altün 2010, "Relative entropy policy
search". Derivatives follow by differentiating (2). Equations, by this file's numbers, with
a = (R − C λ)/η:

(1) w = q exp(a)/Σ q exp(a)
(2) g(η, λ) = ηε + λᵀt + η log Σ q exp(a)
(3) ∂g/∂η = ε + log Σ q exp(a) − E_w[a] = ε − KL(w ‖ q)
(4) ∂g/∂λ = t − E_w[C]
(5) the Hessian is Cov_w[(a, C)]/η, positive semidefinite: g is jointly convex
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from distes.types import FloatArray

TOLERANCE = 1e-12
"""Of the gradient: of the bound, and of column means in standard deviations."""

RANK_TOLERANCE = 1e-9
"""Share of the largest singular value below which columns depend on others."""

EXPLAINED = 1e-10
"""Share of the returns' spread below which what features leave of them is rounding."""

CLOSE = 1e-8
"""Gradient at which a minimum counts as found."""

ROUNDING = 1e-15
"""Of advantages times η, below which no gradient tells anything."""

LEVEL = 1e-10
"""Rise of KL as η is halved below which the limit of the best alone counts as reached."""

LEAST_ETA = 1e-9
"""In standard deviations of the return: the limit of ever greater weight on the best."""

MAX_STEPS = 200


@dataclass(frozen=True, eq=False)
class DualPoint:
    """The dual at (η, λ).

    Attributes:
        eta: η.
        multipliers: λ, (r,).
        value: g.
        gradient: (1 + r,), of η first.
        hessian: (1 + r, 1 + r), positive semidefinite.
        weights: w, (N,).
        kl: KL(w ‖ q).
    """

    eta: float
    multipliers: FloatArray
    value: float
    gradient: FloatArray
    hessian: FloatArray
    weights: FloatArray
    kl: float


@dataclass(frozen=True, eq=False)
class Dual:
    """g(η, λ), jointly convex.

    Attributes:
        rest: (N,), best of spread 1.
        columns: (N, r), best of mean 0 and covariance I.
        prior: (N,), sum 1.
        targets: (r,), which weights within the bound reach.
        epsilon: ε > 0.
    """

    rest: FloatArray
    columns: FloatArray
    prior: FloatArray
    targets: FloatArray
    epsilon: float

    @cached_property
    def _log_prior(self) -> FloatArray:
        with np.errstate(divide="ignore"):
            logs: FloatArray = np.log(self.prior)
        return logs

    def __call__(self, eta: float, multipliers: FloatArray) -> DualPoint:
        """Evaluate at η > 0 and λ (r,)."""
        advantage = (self.rest - self.columns @ multipliers) / eta
        logs = advantage + self._log_prior
        # eq. (1); the largest exponent is taken out, else e^a overflows where η is small.
        top = float(logs.max())
        weights = np.exp(logs - top)
        total = float(weights.sum())
        weights = weights / total
        log_mean = top + math.log(total)
        expected = float(weights @ advantage)
        met = weights @ self.columns
        spread = np.column_stack([advantage - expected, self.columns - met])
        return DualPoint(
            eta=eta,
            multipliers=multipliers,
            # eq. (2)
            value=eta * (self.epsilon + log_mean) + float(multipliers @ self.targets),
            # eqs. (3) and (4)
            gradient=np.concatenate([[self.epsilon + log_mean - expected], self.targets - met]),
            # eq. (5)
            hessian=(spread.T * weights) @ spread / eta,
            weights=weights,
            kl=expected - log_mean,
        )

    def minimise(self) -> DualPoint:
        """Find the minimum; the bound holds there to the last bit.

        For bounds so wide that no weights with the targets reach them, it is the last η
        at which the targets are still met.
        """
        at = self._descend(self(1.0, np.zeros(len(self.targets))), free_eta=True)
        if float(np.abs(at.gradient).max()) > CLOSE:
            at = self._lower_eta()
        return self._raise_eta(at)

    def _descend(self, at: DualPoint, *, free_eta: bool) -> DualPoint:
        """Take damped Newton steps in (η, λ), or in λ alone."""
        first = 0 if free_eta else 1
        for _ in range(MAX_STEPS):
            gradient, hessian = at.gradient[first:], at.hessian[first:, first:]
            size = float(np.abs(gradient).max(initial=0.0))
            if size <= max(TOLERANCE, ROUNDING / at.eta) or at.eta <= LEAST_ETA:
                break
            damping = 1e-13 * max(float(np.trace(hessian)), 1e-300) / len(hessian)
            step = np.zeros(len(at.gradient))
            # Newton: −H⁻¹∇g; then halved (Armijo's rule), and η kept above a tenth of itself.
            step[first:] = -np.linalg.solve(hessian + damping * np.eye(len(hessian)), gradient)
            slope = float(step @ at.gradient)
            share = 1.0 if step[0] > -0.9 * at.eta else -0.9 * at.eta / float(step[0])
            advanced = None
            while share > 1e-10:
                tried = self(at.eta + share * float(step[0]), at.multipliers + share * step[1:])
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

    def _lower_eta(self) -> DualPoint:
        """Lower η step by step, with the best λ for each: KL rises as η falls."""
        at = self._descend(self(1.0, np.zeros(len(self.targets))), free_eta=False)
        for _ in range(MAX_STEPS):
            if at.kl <= self.epsilon:
                break
            # The best λ grows with η where there are targets to be reached.
            at = self._descend(self(2 * at.eta, 2 * at.multipliers), free_eta=False)
        factor, level = 0.5, 0
        while factor < 1 - 1e-9 and at.eta > LEAST_ETA and level < 5:
            tried = self._descend(self(factor * at.eta, at.multipliers), free_eta=False)
            matched = float(np.abs(tried.gradient[1:]).max(initial=0.0)) <= CLOSE
            if matched and tried.kl <= self.epsilon:
                level = level + 1 if tried.kl - at.kl < LEVEL and factor == 0.5 else 0
                at = tried
            else:
                factor = math.sqrt(factor)
        return at

    def _raise_eta(self, at: DualPoint) -> DualPoint:
        """Raise η until the bound holds to the last bit; KL falls with η."""
        for power in range(60):
            if at.kl <= self.epsilon:
                break
            at = self(at.eta * (1.0 + 1e-15 * 2.0**power), at.multipliers)
        return at


@dataclass(frozen=True, eq=False)
class StandardReturns:
    """Returns and features in units in which the dual is well scaled.

    R = mean + (φ − φ̄)ᵀ explained + unit · rest. The weights (1) are the same for R and for
    ``rest``, since θ takes up what is linear in φ, and η the unit.

    Attributes:
        mean: of the returns.
        explained: (q,), the part of the returns that features explain.
        unit: spread of what is left.
        rest: (N,), of mean 0 and spread 1; all 0 where nothing is left.
        white: (N, r) features of mean 0 and covariance I.
        unwhiten: (q, r), maps multipliers of ``white`` to those of the features.
    """

    mean: float
    explained: FloatArray
    unit: float
    rest: FloatArray
    white: FloatArray
    unwhiten: FloatArray


def standardise(returns: FloatArray, features: FloatArray, prior: FloatArray) -> StandardReturns:
    """Take away what is constant and what features explain, and scale the rest.

    Returns (N,) and features (N, q) are finite, the prior (N,) is of sum 1.
    """
    white, unwhiten = whiten(features, prior)
    mean = float(prior @ returns)
    centred = returns - mean
    top = float(np.abs(centred).max(initial=0.0))
    # Scaled first: the squares of large and of small returns are no numbers any more.
    spread = top * math.sqrt(float(prior @ (centred / top) ** 2)) if top > 0 else 0.0
    nothing = np.zeros(len(returns))
    if not spread > EXPLAINED * max(abs(mean), float(np.abs(centred).max(initial=0.0)), 1e-290):
        return StandardReturns(mean, np.zeros(features.shape[1]), 0.0, nothing, white, unwhiten)
    # Columns of ``white`` are orthonormal under the prior: products with them are regression.
    shared = white.T @ (prior * centred) / spread
    rest = centred / spread - white @ shared
    scale = math.sqrt(float(prior @ rest**2))
    explained = unwhiten @ (spread * shared)
    if scale <= EXPLAINED:
        return StandardReturns(mean, explained, 0.0, nothing, white, unwhiten)
    return StandardReturns(mean, explained, spread * scale, rest / scale, white, unwhiten)


def whiten(features: FloatArray, prior: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Centre, scale and rank-reduce features (N, q) under a prior (N,) of sum 1.

    Returns:
        (N, r) of mean 0 and covariance I, and the (q, r) that maps their multipliers back.
    """
    centred = features - prior @ features
    spread = np.sqrt(prior @ centred**2)
    constant = spread <= RANK_TOLERANCE * np.abs(features).max(axis=0, initial=0.0)
    inverse = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, spread))
    scaled = centred * inverse
    root = np.sqrt(prior)[:, None]
    # √q Φ = U S Vᵀ, so that Φ V S⁻¹ has the covariance I.
    _, sizes, right = np.linalg.svd(root * scaled, full_matrices=False)
    kept = sizes > RANK_TOLERANCE * sizes.max(initial=0.0)
    back = right[kept].T / sizes[kept]
    return scaled @ back, inverse[:, None] * back
