"""Weighted moments of samples, and what is done to a covariance matrix."""

from __future__ import annotations

import numpy as np

from distes.types import FloatArray


def mean_and_variance(
    samples: FloatArray, weights: FloatArray, ddof: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Weighted mean (d,) and variance (d,) of samples (m, d).

    With w = weights/Σ weights: μ = Σ w x, σ² = Σ w (x − μ)²/(1 − ddof·Σw²). ``ddof`` corrects for
    reliability weights: 0 is maximum likelihood, 1 unbiased; for equal ones the divisor is the
    usual (n − ddof)/n. Weights (m,) are >= 0 with a positive sum.
    """
    share, divisor = _normalise(weights, ddof)
    mean = share @ samples
    return mean, share @ (samples - mean) ** 2 / divisor


def mean_and_covariance(
    samples: FloatArray, weights: FloatArray, ddof: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Weighted mean (d,) and covariance (d, d), Σ w (x − μ)(x − μ)ᵀ/(1 − ddof·Σw²).

    Arguments are those of `mean_and_variance`.
    """
    share, divisor = _normalise(weights, ddof)
    mean = share @ samples
    centred = samples - mean
    covariance = centred.T @ (share[:, None] * centred) / divisor
    return mean, (covariance + covariance.T) / 2


def effective_size(weights: FloatArray) -> float:
    """How many equally weighted samples the weights amount to, (Σw)²/Σw² (Kish 1965)."""
    return float(weights.sum() ** 2 / np.sum(weights**2))


def shrink_to_diagonal(covariance: FloatArray, share: float) -> FloatArray:
    """Multiply correlations by 1 - share; variances stay."""
    return (1 - share) * covariance + share * np.diag(np.diag(covariance))


def floor_variance(covariance: FloatArray, least: float) -> FloatArray:
    """Raise eigenvalues to at least ``least``, in whichever directions need it."""
    if least <= 0:
        return covariance
    values, vectors = np.linalg.eigh(covariance)
    if values[0] >= least:
        return covariance
    raised: FloatArray = (vectors * np.maximum(values, least)) @ vectors.T
    return (raised + raised.T) / 2


def symmetric_root(covariance: FloatArray) -> FloatArray:
    """Symmetric A with A Aᵀ = covariance (d, d); its eigenvalues below zero are rounding.

    Unlike the Cholesky factor it exists for singular matrices and turns with the
    coordinates: the root of Q C Qᵀ is Q A Qᵀ.
    """
    values, vectors = np.linalg.eigh(covariance)
    root: FloatArray = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return root


def _normalise(weights: FloatArray, ddof: int) -> tuple[FloatArray, float]:
    """Scale weights to sum 1, and compute the divisor of the scatter."""
    share = weights / weights.sum()
    return share, 1 - ddof * float(np.sum(share**2))
