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
    reach: FloatArray | None = None,
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
        reach: (N,) how much each sample's context counts in the mean of the divergence,
            sum 1; None for all alike.
    """
    size = parameters.shape[1]
    # In features Q with QᵀQ/N = I all that depends on η is small matrices.
    basis, back = orthonormal(features, reach)
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
        log_moment = _definite_log(moment)
        if log_moment is None:
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


def orthonormal(
    features: FloatArray, shares: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Find Q = S T with Qᵀ diag(shares) Q = I.

    Args:
        features: S, (N, p).
        shares: (N,) >= 0, sum 1; None for all alike.

    Returns:
        Q (N, r) and T (p, r).
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


def _definite_log(matrix: FloatArray) -> float | None:
    """Log |M| of a matrix that is positive definite beyond rounding, else None.

    A singular one can have any determinant, and a solution that looks small.
    """
    try:
        diagonal = np.diag(np.linalg.cholesky(matrix))
    except np.linalg.LinAlgError:
        return None
    if diagonal.min() ** 2 <= DEFINITE * diagonal.max() ** 2:
        return None
    return 2.0 * float(np.log(diagonal).sum())


def _least_within(divergence: Callable[[float], float], epsilon: float) -> float | None:
    """Find the smallest multiplier at which the bound holds: the divergence falls with it.

    Returns:
        None where even a huge one does not do.
    """
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
    return math.exp(_root(excess, low, below, high, above))


def _root(
    excess: Callable[[float], float], low: float, below: float, high: float, above: float
) -> float:
    """Close in on where ``excess`` falls to zero, from the side where it is none.

    False position with the Illinois rule (Dowell and Jarratt 1971), by halves where it
    stalls or a value is infinite.

    Args:
        excess: falls with its argument.
        low: where it is positive.
        below: its value there.
        high: where it is at most zero.
        above: its value there.
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
