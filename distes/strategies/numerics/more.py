"""The update of model-based relative entropy stochastic search, from its dual.

| name | Abdolmaleki et al. 2015; contextual: Tangkaratt et al. 2017 |
|---|---|
| quadratic, slopes | R, r(s) of the model θᵀ R θ + r(s)ᵀ θ; here r(s) = ψ(s) · slopes |
| epsilon | ε, bound on the mean over contexts of KL(new ‖ old) |
| entropy_change | β − H(old) |
| eta, omega | η, ω, multipliers of the two bounds |

The old Gaussian is N(b, Q). Equations, by this file's numbers; η and ω minimise the convex
dual (3):

(1) F = (ηQ⁻¹ − 2R)⁻¹, f = ηQ⁻¹b + r
(2) the new Gaussian is N(F f, (η + ω)F)
(3) g = ηε − ωβ + ½(fᵀFf − ηbᵀQ⁻¹b − η log|2πQ| + (η + ω) log|2π(η + ω)F|)
(4) ∂g/∂ω = H(new) − β
(5) ∂g/∂η = ε − KL(new ‖ old)

All is in whitened coordinates, those in which b = 0 and Q = I, and along the axes of R, where
every matrix is diagonal: with c = −2 times the eigenvalues of R, F = 1/(η + c) and f = r. There
(4) gives the best ω for each η in closed form; what is left, (5), rises with η: one unknown,
one sign change.
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
class GaussianUpdate:
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


def maximise_model(
    quadratic: FloatArray,
    slopes: FloatArray,
    features: FloatArray,
    *,
    epsilon: float,
    entropy_change: float,
) -> GaussianUpdate:
    """Maximise the model's mean under the new Gaussian, within a KL bound and above an entropy.

    Where the entropy must rise by more than the bound allows, it rises as far as half of
    the bound goes.

    Args:
        quadratic: R, (d, d) symmetric, no eigenvalue above 0.
        slopes: (p, d).
        features: ψ of the contexts, (N, p).
        epsilon: ε > 0, in nats.
        entropy_change: β − H(old), in nats; usually below 0.

    >>> one = np.ones((1, 1))
    >>> new = maximise_model(-one, 3 * one, one, epsilon=0.3, entropy_change=-0.1)
    >>> round(new.eta, 9), round(new.omega, 9), round(new.covariance.item(), 9)
    (1.934889867, 1.286725477, 0.818730753)
    """
    size = len(quadratic)
    values, axes = np.linalg.eigh(quadratic)
    turned = slopes @ axes
    # (d,): the mean over the contexts of r(s)² along each axis.
    pull = ((features @ turned) ** 2).mean(axis=0)
    unit = max(2 * float(np.abs(values).max()), math.sqrt(float(pull.sum())))
    if not (0 < unit < math.inf):
        return GaussianUpdate(np.zeros_like(slopes), np.eye(size), math.inf, 0.0, 0.0, 0.0, 0.0)
    dual = _ModelDual(
        curvature=np.maximum(-2 * values, 0.0) / unit,
        pull=pull / unit**2,
        entropy_change=_cap_rise(entropy_change, size, LONGEST_RISE * epsilon),
    )
    eta = _find_eta(dual, epsilon)
    omega = dual.omega(eta)
    variances = dual.variances(eta, omega)
    covariance = (axes * variances) @ axes.T
    return GaussianUpdate(
        # eq. (2): F f = r/(η + c), turned back from the axes of R
        shift=(turned / unit / (eta + dual.curvature)) @ axes.T,
        covariance=(covariance + covariance.T) / 2,
        eta=unit * eta,
        omega=unit * omega,
        kl=dual.divergence(eta),
        entropy_change=0.5 * float(np.log(variances).sum()),
        value=unit * dual.value(eta, omega, epsilon),
    )


@dataclass(frozen=True, eq=False)
class _ModelDual:
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
        # eq. (4) is 0 where ½ Σ log((η + ω)/(η + c)) = β − H(old)
        level = float(np.log(eta + self.curvature).mean())
        return max(math.exp(2 * self.entropy_change / len(self.curvature) + level) - eta, 0.0)

    def variances(self, eta: float, omega: float) -> FloatArray:
        """Variances of the new Gaussian along the axes, (d,): eq. (2)."""
        return (eta + omega) / (eta + self.curvature)

    def divergence(self, eta: float) -> float:
        """KL(new ‖ old) with the best ω; falls with η."""
        new = self.variances(eta, self.omega(eta))
        # ½(Σ (v − 1 − log v) + ‖F f‖²), of N(F f, v) from N(0, I)
        distance = float((self.pull / (eta + self.curvature) ** 2).sum())
        return 0.5 * (float((new - 1 - np.log(new)).sum()) + distance)

    def value(self, eta: float, omega: float, epsilon: float) -> float:
        """Evaluate g, eq. (3), where the model is 0 at the old mean.

        β = H(old) + change and H(old) = d/2 (1 + log 2π): what has log 2π cancels.
        """
        stiff = eta + self.curvature
        spread = float(np.log((eta + omega) / stiff).sum())
        gain = float((self.pull / stiff).sum()) + (eta + omega) * spread
        return eta * epsilon - omega * (self.entropy_change + len(stiff) / 2) + 0.5 * gain


def _find_eta(dual: _ModelDual, epsilon: float) -> float:
    """Find the least η at which the bound holds, eq. (5), by bisection of its logarithm."""
    low, high = LEAST_ETA, GREATEST_ETA
    if dual.divergence(low) <= epsilon:
        return low
    while low < (middle := math.sqrt(low * high)) < high:
        low, high = (middle, high) if dual.divergence(middle) > epsilon else (low, middle)
    return high


def _cap_rise(entropy_change: float, size: int, bound: float) -> float:
    """Cut a rise of the entropy to what widening alone can do within a bound."""

    def divergence(rise: float) -> float:
        # Of N(0, v I) from N(0, I), d/2 (v − 1 − log v), where v = exp(2 rise/d)
        return 0.5 * size * (math.expm1(2 * rise / size) - 2 * rise / size)

    # From there on the exponential is beyond any bound, and beyond what can be computed.
    low, high = 0.0, min(entropy_change, 300.0 * size)
    if high <= 0 or divergence(high) <= bound:
        return high
    while low < (middle := (low + high) / 2) < high:
        low, high = (low, middle) if divergence(middle) > bound else (middle, high)
    return low
