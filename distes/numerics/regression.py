"""Fitting a linear-Gaussian policy N(θ | ψ(s) W, Σ) to weighted samples.

| name | symbol |
|---|---|
| features | S, rows ψ(s_i) |
| parameters | θ_i, the targets |
| weights | p, P = diag(p), Σp = 1 |
| coefficients | W |

Weighted maximum likelihood: Deisenroth, Neumann and Peters 2013, "A survey on policy search
for robotics", section 2.4.3. Constrained: Abdolmaleki et al. 2017, "Deriving and improving
CMA-ES with information geometric trust regions"; the bound holds for the fitted Gaussian
itself, not only for the sample weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from distes.numerics import gaussians
from distes.types import FloatArray

RANK_TOLERANCE = 1e-9
"""Share of the largest singular value below which a direction is not determined."""

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


def weighted_fit(
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
        normaliser: of the covariance: ``standard`` (Σp)² − Σp² over Σp, exact for a mean;
            ``regression`` Σp − tr((SᵀPS)⁻¹SᵀP²S), exact for a regression with noise
            independent of p; ``none``, Σp, which underestimates.
        diagonal: fit variances alone.
    """
    root = np.sqrt(weights)[:, None]
    change, leverage = _solved(root * features, root * (parameters - features @ old), weights)
    coefficients = old + change
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


def constrained_fit(
    features: FloatArray,
    parameters: FloatArray,
    weights: FloatArray,
    old: FloatArray,
    old_covariance: FloatArray,
    *,
    epsilon: float,
    entropy_loss: float | None = None,
    diagonal: bool = False,
) -> Fit:
    """Fit by weighted maximum likelihood within a trust region around the old Gaussian.

    The mean over the samples' contexts of KL(old ‖ new) is at most ε; the entropy falls by
    at most κ. Both bounds hold exactly.

    Args:
        features: (N, p).
        parameters: (N, d).
        weights: (N,), sum 1.
        old: (p, d) coefficients.
        old_covariance: (d, d) positive definite.
        epsilon: ε > 0.
        entropy_loss: κ >= 0; None for no bound.
        diagonal: fit variances alone.
    """
    size = parameters.shape[1]
    # In features Q with QᵀQ/N = I all that depends on η is small matrices.
    basis, back = orthonormal(features)
    rest = parameters - features @ old
    weighted = (basis.T * weights).T
    curvature, axes = np.linalg.eigh(basis.T @ weighted)
    curvature = np.maximum(curvature, 0.0)
    pulled = axes.T @ (weighted.T @ rest)
    scatter = (rest.T * weights) @ rest
    old_log = gaussians.log_determinant(old_covariance)

    def fitted(eta: float) -> tuple[FloatArray, FloatArray, float]:
        """Change of coefficients in the axes, covariance, divergence."""
        stiff = curvature + eta
        change = np.where(stiff > TINY, 1.0 / np.maximum(stiff, TINY), 0.0)[:, None] * pulled
        moved = change.T @ change
        crossed = change.T @ pulled
        inside = scatter - crossed - crossed.T + (change.T * curvature) @ change
        moment = inside + eta * (old_covariance + moved)
        moment = np.diag(np.diag(moment)) if diagonal else (moment + moment.T) / 2
        divisor = 1.0 + eta
        log_moment = gaussians.log_determinant(moment)
        if not math.isfinite(log_moment):
            return change, old_covariance, math.inf
        if entropy_loss is not None:
            least = (log_moment - old_log + 2.0 * entropy_loss) / size
            divisor = min(divisor, math.exp(least))
        covariance = moment / divisor
        log_ratio = log_moment - size * math.log(divisor) - old_log
        try:
            spread = np.linalg.solve(covariance, old_covariance + moved)
        except np.linalg.LinAlgError:
            return change, old_covariance, math.inf
        return change, covariance, 0.5 * (float(np.trace(spread)) - size + log_ratio)

    eta = _least_within(lambda eta: fitted(eta)[2], epsilon)
    if eta is None:
        return Fit(old, old_covariance)
    change, covariance, _ = fitted(eta)
    return Fit(old + back @ (axes @ change), covariance)


def orthonormal(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Find Q = S T with QᵀQ/N = I.

    Returns:
        Q (N, r) and T (p, r).
    """
    count = len(features)
    scale = np.sqrt((features**2).sum(axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    left, sizes, right = np.linalg.svd(features / scale, full_matrices=False)
    kept = sizes > RANK_TOLERANCE * sizes.max(initial=0.0)
    root = math.sqrt(count)
    return left[:, kept] * root, (right[kept].T / sizes[kept]) / scale[:, None] * root


def _least_within(divergence: Callable[[float], float], epsilon: float) -> float | None:
    """Find the smallest multiplier at which the bound holds: the divergence falls with it.

    Returns:
        None where even a huge one does not do.
    """
    if divergence(0.0) <= epsilon:
        return 0.0
    low, high = 0.0, 1.0
    while divergence(high) > epsilon:
        low, high = high, high * 8
        if high > 1e18:
            return None
    while low == 0.0 and high > 1e-18:
        middle = high / 8
        if divergence(middle) > epsilon:
            low = middle
        else:
            high = middle
    # Bisection in the logarithm: some fifty evaluations of small matrices, and the bound
    # holds at the upper end throughout.
    while high > low * (1 + 1e-12):
        middle = math.sqrt(low * high) if low else high / 2
        if not low < middle < high:
            break
        if divergence(middle) > epsilon:
            low = middle
        else:
            high = middle
    return high


def _solved(rows: FloatArray, targets: FloatArray, weights: FloatArray) -> tuple[FloatArray, float]:
    """Solve least squares, of least norm in the rows' own units.

    Args:
        rows: (N, p), weighted already.
        targets: (N, d), likewise.
        weights: (N,) of the rows, for the leverage.

    Returns:
        (p, d), and tr((SᵀPS)⁻¹SᵀP²S).
    """
    scale = np.sqrt((rows**2).sum(axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    left, sizes, right = np.linalg.svd(rows / scale, full_matrices=False)
    kept = sizes > RANK_TOLERANCE * sizes.max(initial=0.0)
    inner = (left[:, kept].T @ targets) / sizes[kept][:, None]
    solution = (right[kept].T @ inner) / scale[:, None]
    return solution, float(weights @ (left[:, kept] ** 2).sum(axis=1))
