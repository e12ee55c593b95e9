"""Fitting a linear-Gaussian policy N(θ | ψ(s) W, Σ) to weighted samples.

| name | symbol |
|---|---|
| features | S, rows ψ(s_i) |
| parameters | θ_i, the targets |
| weights | p, P = diag(p), Σp = 1 |
| coefficients | W |

Equations, by this file's numbers. Weighted maximum likelihood: Deisenroth, Neumann and Peters
2013, "A survey on policy search for robotics", section 2.4.3:

(1) W = (SᵀPS)⁻¹SᵀPΘ
(2) Σ = EᵀPE/Z, E = Θ − S W
(3) Z = ((Σp)² − Σp²)/Σp, exact for a mean
(4) Z = Σp − tr((SᵀPS)⁻¹SᵀP²S), exact for a regression with noise independent of p

Constrained: Abdolmaleki et al. 2017, "Deriving and improving CMA-ES with information geometric
trust regions"; the bound holds for the fitted Gaussian itself, not only for the sample weights.
Maximising the likelihood plus η times (ε − the mean of KL(old ‖ new)) and ω times (κ − the
entropy's fall) gives, with Δ_i = ψ_iᵀ(W − W_old) and Σ_old the old covariance:

(5) W = (SᵀPS + (η/N) SᵀS)⁻¹(SᵀPΘ + (η/N) SᵀS W_old)
(6) Σ = (EᵀPE + η(Σ_old + D))/(1 + η − ω), D = (1/N) Σ Δ_iᵀΔ_i
(7) mean KL = ½(tr(Σ⁻¹(Σ_old + D)) − d + log|Σ| − log|Σ_old|)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from distes.strategies.numerics import gaussians
from distes.types import FloatArray

RANK_TOLERANCE = 1e-9
"""Share of the largest singular value below which a direction is not determined."""

STRIDE = 3.0
"""Of a search for a multiplier, in its logarithm."""

LARGEST = 42.0
"""Logarithm of a multiplier at which nothing moves any more."""

PRECISION = 1e-10
"""Relative, of a bound that is used up."""

DEFINITE = 1e-14
"""Share of the largest variance below which a direction has none."""

TINY = 1e-13
"""Curvature below which weighted samples leave a direction open."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted linear Gaussian.

    Attributes:
        coefficients: W, (p, d).
        covariance: Σ, (d, d).
    """

    coefficients: FloatArray
    covariance: FloatArray


def fit_weighted(
    features: FloatArray,
    parameters: FloatArray,
    weights: FloatArray,
    old: FloatArray,
    *,
    normaliser: str = "standard",
    diagonal: bool = False,
) -> Fit:
    """Fit by weighted maximum likelihood.

    Args:
        features: (N, p).
        parameters: (N, d).
        weights: (N,), sum 1.
        old: (p, d) coefficients before: what the samples leave open stays as it was.
        normaliser: Z of the covariance: ``standard``, eq. (3); ``regression``, eq. (4);
            ``none``, Σp, which underestimates.
        diagonal: fit variances alone.
    """
    # eq. (1), for the change from the old coefficients: what is open does not change
    root = np.sqrt(weights)[:, None]
    change, leverage = _solve_least_squares(
        root * features, root * (parameters - features @ old), weights
    )
    coefficients = old + change
    # eq. (2), by eq. (3) or (4)
    errors = parameters - features @ coefficients
    divisor = {
        "standard": 1.0 - float(weights @ weights),
        "regression": 1.0 - leverage,
        "none": 1.0,
    }[normaliser]
    scatter = (errors.T * weights) @ errors
    covariance = scatter / divisor if divisor > 1e-12 else np.zeros_like(scatter)
    if diagonal:
        covariance = np.diag(np.diag(covariance))
    return Fit(coefficients, covariance)


def fit_constrained(
    features: FloatArray,
    parameters: FloatArray,
    weights: FloatArray,
    old: Fit,
    *,
    epsilon: float,
    entropy_loss: float | None = None,
    diagonal: bool = False,
    reach: FloatArray | None = None,
) -> Fit:
    """Fit by weighted maximum likelihood within a trust region around the old Gaussian.

    The mean over the samples' contexts of KL(old ‖ new) is at most ε; the entropy falls by
    at most κ. Both bounds hold exactly.

    Args:
        features: (N, p).
        parameters: (N, d).
        weights: (N,), sum 1.
        old: the Gaussian before, its covariance positive definite.
        epsilon: ε > 0.
        entropy_loss: κ >= 0; None for no bound.
        diagonal: fit variances alone.
        reach: (N,) how much each sample's context counts in the mean of the divergence,
            sum 1; None for all alike.
    """
    size = parameters.shape[1]
    # In features Q with QᵀQ/N = I, and along the axes of QᵀPQ (its eigenvalues the
    # ``curvature``), SᵀPS + (η/N) SᵀS is diagonal: all that depends on η is small.
    basis, back = orthonormalise(features, reach)
    rest = parameters - features @ old.coefficients
    weighted = (basis.T * weights).T
    curvature, axes = np.linalg.eigh(basis.T @ weighted)
    curvature = np.maximum(curvature, 0.0)
    pulled = axes.T @ (weighted.T @ rest)
    scatter = (rest.T * weights) @ rest
    old_log = gaussians.log_determinant(old.covariance)

    def fit_at(eta: float) -> tuple[FloatArray, FloatArray, float]:
        """Change of coefficients in the axes, covariance, divergence."""
        # eq. (5), less W_old
        stiff = curvature + eta
        change = np.where(stiff > TINY, 1.0 / np.maximum(stiff, TINY), 0.0)[:, None] * pulled
        # eq. (6): D, since the features are orthonormal; EᵀPE, multiplied out
        spread = change.T @ change
        crossed = change.T @ pulled
        inside = scatter - crossed - crossed.T + (change.T * curvature) @ change
        moment = inside + eta * (old.covariance + spread)
        moment = np.diag(np.diag(moment)) if diagonal else (moment + moment.T) / 2
        divisor = 1.0 + eta
        log_moment = _log_determinant_if_definite(moment)
        if log_moment is None:
            return change, old.covariance, math.inf
        if entropy_loss is not None:
            # ω > 0 where the entropy would fall by more than κ: |Σ| = |moment|/divisor^d
            least = (log_moment - old_log + 2.0 * entropy_loss) / size
            divisor = min(divisor, math.exp(least))
        covariance = moment / divisor
        # eq. (7)
        log_ratio = log_moment - size * math.log(divisor) - old_log
        try:
            inverse = np.linalg.solve(covariance, old.covariance + spread)
        except np.linalg.LinAlgError:
            return change, old.covariance, math.inf
        return change, covariance, 0.5 * (float(np.trace(inverse)) - size + log_ratio)

    eta = _find_least_multiplier(lambda eta: fit_at(eta)[2], epsilon)
    if eta is None:
        return old
    change, covariance, _ = fit_at(eta)
    return Fit(old.coefficients + back @ (axes @ change), covariance)


def orthonormalise(
    features: FloatArray, shares: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Find Q = S T (N, r), and T (p, r), with Qᵀ diag(shares) Q = I, for features S (N, p).

    Shares (N,) are >= 0, of sum 1; None for all alike.
    """
    root = np.full(len(features), len(features) ** -0.5) if shares is None else np.sqrt(shares)
    rows = root[:, None] * features
    scale = np.sqrt((rows**2).sum(axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    left, sizes, right = np.linalg.svd(rows / scale, full_matrices=False)
    kept = sizes > RANK_TOLERANCE * sizes.max(initial=0.0)
    back = (right[kept].T / sizes[kept]) / scale[:, None]
    # Without shares the factor itself is exact; with some near 0 it could not be divided.
    basis = left[:, kept] * len(features) ** 0.5 if shares is None else features @ back
    return basis, back


def _log_determinant_if_definite(matrix: FloatArray) -> float | None:
    """Compute log |M| of a matrix that is positive definite beyond rounding, else None."""
    try:
        diagonal = np.diag(np.linalg.cholesky(matrix))
    except np.linalg.LinAlgError:
        return None
    if diagonal.min() ** 2 <= DEFINITE * diagonal.max() ** 2:
        return None
    return 2.0 * float(np.log(diagonal).sum())


def _find_least_multiplier(divergence: Callable[[float], float], epsilon: float) -> float | None:
    """Find the least multiplier at which the bound holds; None where even a huge one fails."""
    if divergence(0.0) <= epsilon:
        return 0.0

    def excess(log_eta: float) -> float:
        found = divergence(math.exp(log_eta))
        return math.log(max(found, 1e-300) / epsilon) if found < math.inf else math.inf

    low = high = 0.0
    below = above = excess(0.0)
    while above > 0:  # too far: more pull
        low, below, high = high, above, high + STRIDE
        if high > LARGEST:
            return None
        above = excess(high)
    while below <= 0:
        low, high, above = low - STRIDE, low, below
        if low < -LARGEST:
            return math.exp(high)
        below = excess(low)
    return math.exp(_close_in(excess, low, below, high, above))


def _close_in(
    excess: Callable[[float], float], low: float, below: float, high: float, above: float
) -> float:
    """Close in on where ``excess`` falls to zero, from the side where it is none.

    It falls from ``below`` > 0 at ``low`` to ``above`` <= 0 at ``high``. False position with the
    Illinois rule (Dowell and Jarratt 1971), by halves where it stalls or a value is infinite.
    """
    side, reached = 0, above
    for turn in range(200):
        if reached > -PRECISION or high - low < PRECISION:
            break
        middle = (low + high) / 2
        if math.isfinite(below) and turn % 8 != 7:
            # Aimed a little beyond the root: the end that counts is the one within the bound.
            middle = high - above * (high - low) / (above - below)
            middle = min(max(middle + 0.25 * PRECISION, low), high)
        value = excess(middle)
        if value > 0:
            low, below = middle, value
            above = above / 2 if side < 0 else above
            side = -1
        else:
            high, above, reached = middle, value, value
            below = below / 2 if side > 0 else below
            side = 1
    return high


def _solve_least_squares(
    rows: FloatArray, targets: FloatArray, weights: FloatArray
) -> tuple[FloatArray, float]:
    """Solve least squares, weighted already, of least norm in the rows' own units: (p, d).

    And tr((SᵀPS)⁻¹SᵀP²S) of eq. (4): with √P S = U S Vᵀ, Σ p_i ‖u_i‖².
    """
    scale = np.sqrt((rows**2).sum(axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    left, sizes, right = np.linalg.svd(rows / scale, full_matrices=False)
    kept = sizes > RANK_TOLERANCE * sizes.max(initial=0.0)
    inner = (left[:, kept].T @ targets) / sizes[kept][:, None]
    solution = (right[kept].T @ inner) / scale[:, None]
    return solution, float(weights @ (left[:, kept] ** 2).sum(axis=1))
