"""The update of model-based relative entropy stochastic search, from its dual.

| name | Abdolmaleki et al. 2015; contextual: Tangkaratt et al. 2017 |
|---|---|
| quadratic, slopes | R, r(s) of the model θᵀ R θ + r(s)ᵀ θ; here r(s) = ψ(s) · slopes |
| epsilon | ε, bound on the mean over contexts of KL(new ‖ old) |
| entropy_change | β − H(old) |
| eta, omega | η, ω, multipliers of the two bounds |

With the old Gaussian N(b, Q), F = (ηQ⁻¹ − 2R)⁻¹ and f = ηQ⁻¹b + r, the new one is
N(F f, (η + ω)F), where η and ω minimise the convex
g = ηε − ωβ + ½(fᵀFf − ηbᵀQ⁻¹b − η log|2πQ| + (η + ω) log|2π(η + ω)F|).

All is in whitened coordinates, those in which the old Gaussian is N(0, I), and along the axes
of R every matrix is diagonal. There ∂g/∂ω = H(new) − β gives the best ω for each η in closed
form; what is left, ∂g/∂η = ε − KL(new ‖ old), rises with η: one unknown, one sign change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from distes.types import FloatArray

LEAST_ETA, GREATEST_ETA = 1e-15, 1e18
"""Where η is looked for, in units of the model's own size."""

LONGEST_RISE = 0.5
"""Share of ε that raising the entropy may take."""


@dataclass(frozen=True, eq=False)
class Update:
    """A new Gaussian N(ψ(s) · shift, covariance), where the old one is N(0, I).

    Attributes:
        shift: (p, d).
        covariance: (d, d).
        eta: η, in units of the return; infinite where nothing is to be changed.
        omega: ω, likewise.
        kl: mean over the contexts of KL(new ‖ old), at most ε.
        entropy_change: H(new) − H(old).
        value: g, the dual at its minimum.
    """

    shift: FloatArray
    covariance: FloatArray
    eta: float
    omega: float
    kl: float
    entropy_change: float
    value: float


def update(
    quadratic: FloatArray,
    slopes: FloatArray,
    features: FloatArray,
    *,
    epsilon: float,
    entropy_change: float,
) -> Update:
    """Maximise the model's mean within a KL bound and above an entropy.

    Where the entropy must rise by more than the bound allows, it rises as far as half of
    the bound goes.

    Args:
        quadratic: R, (d, d) symmetric, no eigenvalue above 0.
        slopes: (p, d).
        features: ψ of the contexts, (N, p).
        epsilon: ε > 0, in nats.
        entropy_change: β − H(old), in nats; usually below 0.

    >>> one = np.ones((1, 1))
    >>> new = update(-one, 3 * one, one, epsilon=0.3, entropy_change=-0.1)
    >>> round(new.eta, 9), round(new.omega, 9), round(new.covariance.item(), 9)
    (1.934889867, 1.286725477, 0.818730753)
    """
    size = len(quadratic)
    values, axes = np.linalg.eigh(quadratic)
    moved = slopes @ axes
    pull = ((features @ moved) ** 2).mean(axis=0)
    unit = max(2 * float(np.abs(values).max()), math.sqrt(float(pull.sum())))
    if not (0 < unit < math.inf):
        return Update(np.zeros_like(slopes), np.eye(size), math.inf, 0.0, 0.0, 0.0, 0.0)
    dual = _Dual(
        curvature=np.maximum(-2 * values, 0.0) / unit,
        pull=pull / unit**2,
        entropy_change=_reachable(entropy_change, size, LONGEST_RISE * epsilon),
    )
    eta = _root(dual, epsilon)
    omega = dual.omega(eta)
    variances = dual.variances(eta, omega)
    covariance = (axes * variances) @ axes.T
    return Update(
        shift=(moved / unit / (eta + dual.curvature)) @ axes.T,
        covariance=(covariance + covariance.T) / 2,
        eta=unit * eta,
        omega=unit * omega,
        kl=dual.divergence(eta),
        entropy_change=0.5 * float(np.log(variances).sum()),
        value=unit * dual.value(eta, omega, epsilon),
    )


@dataclass(frozen=True, eq=False)
class _Dual:
    """The dual along the model's axes.

    Attributes:
        curvature: −2λ of the model's eigenvalues λ, (d,) >= 0.
        pull: mean over the contexts of the squared slope along each axis, (d,).
        entropy_change: β − H(old).
    """

    curvature: FloatArray
    pull: FloatArray
    entropy_change: float

    def omega(self, eta: float) -> float:
        """The best ω >= 0: the least at which the entropy is not below β."""
        level = float(np.log(eta + self.curvature).mean())
        return max(math.exp(2 * self.entropy_change / len(self.curvature) + level) - eta, 0.0)

    def variances(self, eta: float, omega: float) -> FloatArray:
        """Of the new Gaussian along the axes, (d,)."""
        new: FloatArray = (eta + omega) / (eta + self.curvature)
        return new

    def divergence(self, eta: float) -> float:
        """KL(new ‖ old) with the best ω; falls with η."""
        new = self.variances(eta, self.omega(eta))
        moved = float((self.pull / (eta + self.curvature) ** 2).sum())
        return 0.5 * (float((new - 1 - np.log(new)).sum()) + moved)

    def value(self, eta: float, omega: float, epsilon: float) -> float:
        """Evaluate g; that of the model at the old mean is 0."""
        stiff = eta + self.curvature
        spread = float(np.log((eta + omega) / stiff).sum())
        gain = float((self.pull / stiff).sum()) + (eta + omega) * spread
        return eta * epsilon - omega * (self.entropy_change + len(stiff) / 2) + 0.5 * gain


def _root(dual: _Dual, epsilon: float) -> float:
    """Find the least η at which the bound holds, by bisection of its logarithm."""
    low, high = LEAST_ETA, GREATEST_ETA
    if dual.divergence(low) <= epsilon:
        return low
    while True:
        middle = math.sqrt(low * high)
        if not low < middle < high:
            return high
        if dual.divergence(middle) > epsilon:
            low = middle
        else:
            high = middle


def _reachable(entropy_change: float, size: int, bound: float) -> float:
    """Cut a rise of the entropy to what widening alone can do within a bound."""

    def divergence(rise: float) -> float:
        return 0.5 * size * (math.expm1(2 * rise / size) - 2 * rise / size)

    # From there on the exponential is beyond any bound, and beyond what can be computed.
    low, high = 0.0, min(entropy_change, 300.0 * size)
    if high <= 0 or divergence(high) <= bound:
        return high
    while True:
        middle = (low + high) / 2
        if not low < middle < high:
            return low
        if divergence(middle) > bound:
            high = middle
        else:
            low = middle
