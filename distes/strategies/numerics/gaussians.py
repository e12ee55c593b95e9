"""Gaussians whose mean depends on a context: densities, entropy, divergence.

Formulas: Rasmussen and Williams 2006, "Gaussian processes for machine learning", appendices A.2
and A.5. Zero-variance components are left to the caller, who passes the others.
"""

from __future__ import annotations

import math

import numpy as np

from distes.types import FloatArray


def log_density(values: FloatArray, means: FloatArray, covariance: FloatArray) -> FloatArray:
    """Log N(x | μ, Σ) row by row, (N,): −½((x − μ)ᵀΣ⁻¹(x − μ) + log|Σ| + d log 2π).

    Values and means are (N, d), the covariance (d, d) is positive definite.
    """
    factor = np.linalg.cholesky(covariance)  # L with L Lᵀ = Σ: a distance is ‖L⁻¹(x − μ)‖²
    scaled = np.linalg.solve(factor, (values - means).T)
    log_det = 2.0 * float(np.log(np.diag(factor)).sum())
    dimension = values.shape[1]
    result: FloatArray = -0.5 * (
        (scaled**2).sum(axis=0) + log_det + dimension * math.log(2 * math.pi)
    )
    return result


def log_determinant(covariance: FloatArray) -> float:
    """Log |Σ| of a positive definite matrix; -inf where it is none."""
    sign, value = np.linalg.slogdet(covariance)
    return float(value) if sign > 0 else -math.inf


def entropy(covariance: FloatArray) -> float:
    """Differential entropy of N(·, Σ) in nats, ½(d log 2πe + log|Σ|)."""
    return 0.5 * (len(covariance) * math.log(2 * math.pi * math.e) + log_determinant(covariance))


def kl(
    means: FloatArray,
    covariance: FloatArray,
    means_q: FloatArray,
    covariance_q: FloatArray,
    shares: FloatArray | None = None,
) -> float:
    """Mean over contexts of KL(N(μ, Σ) ‖ N(μ_q, Σ_q)), in nats.

    ½(tr(Σ_q⁻¹Σ) + (μ_q − μ)ᵀΣ_q⁻¹(μ_q − μ) − d + log|Σ_q| − log|Σ|), with means (N, d), one for
    each context, and positive definite covariances (d, d). Contexts count in the mean by
    ``shares`` (N,), of sum 1; None for all alike.

    >>> one = np.eye(1)
    >>> kl(np.zeros((1, 1)), one, np.ones((1, 1)), one)
    0.5
    """
    factor = np.linalg.cholesky(covariance_q)
    spread = np.linalg.solve(factor, np.linalg.solve(factor, covariance).T)
    scaled = np.linalg.solve(factor, (means_q - means).T)
    log_ratio = 2.0 * float(np.log(np.diag(factor)).sum()) - log_determinant(covariance)
    size = len(covariance)
    distance = (scaled**2).sum(axis=0)
    mean_distance = float(distance.mean() if shares is None else shares @ distance)
    divergence = 0.5 * (float(np.trace(spread)) + mean_distance - size + log_ratio)
    return max(divergence, 0.0)
