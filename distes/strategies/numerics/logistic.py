"""Weighted multinomial logistic regression: the gating among options.

| name | symbol |
|---|---|
| features | S, rows φ(s_i) |
| weights | w_io, how much sample i speaks for option o |
| coefficients | G, of π(o | s) = softmax(φ(s) G)_o |

Krishnapuram, Carin, Figueiredo & Hartemink 2005, "Sparse multinomial logistic regression",
section 2, by Newton's method with the exact Hessian. Equations, by this file's numbers, with
n_i = Σ_o w_io, π_io = softmax(φ_iᵀG)_o and a quadratic penalty Λ:

(1) L(G) = Σ_io w_io φ_iᵀg_o − Σ_i n_i log Σ_o exp(φ_iᵀg_o) − ½ Σ_o g_oᵀΛ g_o
(2) ∂L/∂g_o = Σ_i (w_io − n_i π_io) φ_i − Λ g_o
(3) −∂²L/∂g_o∂g_u = Σ_i n_i π_io (δ_ou − π_iu) φ_i φ_iᵀ + δ_ou Λ
"""

from __future__ import annotations

import numpy as np

from distes.strategies.numerics.regression import orthonormalise
from distes.types import FloatArray

SHRINKAGE = 1e-3
"""Of the logits' variance: a few effective samples against a gating without bounds."""

TOLERANCE = 1e-12

MAX_STEPS = 100


def softmax(logits: FloatArray) -> FloatArray:
    """Turn rows of logits into probabilities, (m, O)."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: FloatArray = shares / shares.sum(axis=1, keepdims=True)
    return probabilities


def fit_multinomial(
    features: FloatArray, weights: FloatArray, shrinkage: float = SHRINKAGE
) -> FloatArray:
    """Fit the gating that makes the weighted options likeliest.

    Maximises Σ w_io log π(o | s_i) − ½ shrinkage Σ_o Var_w(logit_o). The penalty makes the
    maximum finite where options are separable; it does not see a constant, so that without
    features of a context π(o) = Σ_i w_io exactly. Any invertible linear map of the features
    gives the same probabilities.

    Args:
        features: (N, q).
        weights: (N, O) >= 0, sum 1; each option has a positive sum.
        shrinkage: > 0.

    Returns:
        G, (q, O), of sum 0 over options.
    """
    count = weights.shape[1]
    samples = weights.sum(axis=1)
    basis, back = orthonormalise(features, samples)
    objective = _Objective(basis, weights, shrinkage)
    at = np.zeros((basis.shape[1], count))
    value, slope = objective.value(at), objective.gradient(at)
    for _ in range(MAX_STEPS):
        if float(np.abs(slope).max(initial=0.0)) <= TOLERANCE:
            break
        step = -np.linalg.solve(objective.hessian(at), slope.T.ravel())
        step = step.reshape(count, -1).T
        decrease = float((step * slope).sum())
        share = 1.0
        while share > 1e-10:
            tried = at + share * step
            new_value, new_slope = objective.value(tried), objective.gradient(tried)
            # Close to the minimum values differ by rounding alone: there gradients decide.
            closer = float(np.abs(new_slope).max()) < 0.5 * float(np.abs(slope).max())
            if new_value <= value + 1e-4 * share * decrease or closer:
                break
            share /= 2
        else:
            break
        at, value, slope = tried, new_value, new_slope
    coefficients: FloatArray = back @ (at - at.mean(axis=1, keepdims=True))
    return coefficients


class _Objective:
    """The penalised negative log-likelihood of G (r, O) for features with QᵀPQ = I."""

    def __init__(self, basis: FloatArray, weights: FloatArray, shrinkage: float) -> None:
        self.basis = basis
        self.weights = weights
        self.samples = weights.sum(axis=1)
        mean = self.samples @ basis
        self.penalty = shrinkage * (np.eye(len(mean)) - np.outer(mean, mean))

    def value(self, at: FloatArray) -> float:
        """−L, eq. (1): negative log-likelihood and penalty."""
        logits = self.basis @ at
        top = logits.max(axis=1)
        normaliser = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        likelihood = float((self.weights * logits).sum() - self.samples @ normaliser)
        return 0.5 * float((at * (self.penalty @ at)).sum()) - likelihood

    def gradient(self, at: FloatArray) -> FloatArray:
        """Slope of −L, (r, O): eq. (2)."""
        expected = self.samples[:, None] * softmax(self.basis @ at)
        slope: FloatArray = self.basis.T @ (expected - self.weights) + self.penalty @ at
        return slope

    def hessian(self, at: FloatArray) -> FloatArray:
        """Curvature of −L in G's columns one after the other, (O r, O r): eq. (3), made definite.

        Adding a vector to all columns changes nothing: along such moves the curvature is
        set to 1.
        """
        probabilities = softmax(self.basis @ at)
        count, size = at.shape[1], at.shape[0]
        blocks = np.empty((count, size, count, size))
        for i in range(count):
            for j in range(i + 1):
                share = self.samples * probabilities[:, i] * ((i == j) - probabilities[:, j])
                block = (self.basis.T * share) @ self.basis
                blocks[i, :, j] = blocks[j, :, i] = block
        for i in range(count):
            blocks[i, :, i] += self.penalty
        alike = np.kron(np.full((count, count), 1.0 / count), np.eye(size))
        return blocks.reshape(count * size, count * size) + alike
