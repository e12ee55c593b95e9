"""Quadratic models of the return, fitted by ridge regression around a search distribution.

| name | Abdolmaleki et al. 2015, "Model-based relative entropy stochastic search"; Tangkaratt et al. 2017 |
|---|---|
| whitened | z = A⁻¹(θ − ψ(s) W): parameters as the search distribution A Aᵀ sees them |
| features | ψ(s), of the policy's mean |
| quadratic | R, of zᵀ R z |
| linear | r + R_s ψ(s), here one matrix, of z · (ψ(s) B) |
| baseline | the function of the context alone |

Over z the model's terms are orthonormal under the search distribution, and the penalty is
the same however θ is moved, scaled or turned.

Equations, by this file's numbers, for columns X of N samples (Golub, Heath & Wahba 1979, "Generalized
cross-validation as a method for choosing a good ridge parameter"), with X = U S Vᵀ and a
penalty λ per sample:

(1) b = Σ_j v_j s_j/(s_j² + Nλ) u_jᵀy, the minimum of ‖y − X b‖² + Nλ‖b‖²
(2) A = U diag(s_j²/(s_j² + Nλ)) Uᵀ, the fit's ŷ = A y
(3) GCV(λ) = ‖(I − A) y‖²/tr(I − A)²
(4) leaving sample i out, its error is (y_i − ŷ_i)/(1 − A_ii)
"""  # noqa: E501 - a table row

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from distes.strategies.numerics.regression import orthonormalise
from distes.types import FloatArray

RANK_TOLERANCE = 1e-9
"""Share of the largest singular value below which columns depend on others."""

GRAM_TOLERANCE = 1e-13
"""The same of squared singular values, which are known to that share of the largest."""

EXPLAINED = 1e-12
"""Share of the returns' spread below which what is left of them is rounding."""

EPSILON = 4e-16
"""Share of the returns' size below which their spread is rounding."""

PENALTIES = np.logspace(-10, 3, 53)
"""Candidates for the penalty, per sample, in units of a feature's variance."""


CURVED = (1.0, 0.3, 0.1, 0.0)
"""How large the quadratic terms may be expected beside the linear ones; 0 is a linear model."""

SPARE = 2
"""Samples for each term from which on there is nothing to be chosen."""


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """A ridge regression.

    Attributes:
        coefficients: (c,) of the penalised columns.
        residuals: (N,) of the targets.
        penalty: that was chosen, per sample.
        criterion: GCV, eq. (3), lower is better.
        r2: share of the variance, beyond the free columns, that leaving each sample out
            predicts; 0 or less where nothing is learnt, 1 where everything is.
    """

    coefficients: FloatArray
    residuals: FloatArray
    penalty: float
    criterion: float
    r2: float


def fit_ridge(
    columns: FloatArray, free: FloatArray, targets: FloatArray, weights: FloatArray
) -> RidgeFit | None:
    """Regress with a penalty that generalised cross-validation chooses (Golub et al. 1979).

    It is sound with fewer samples than columns.

    Args:
        columns: (N, c) penalised, all alike.
        free: (N, q) without penalty; dependent columns are harmless.
        targets: (N,).
        weights: (N,) >= 0 with a positive sum.

    Returns:
        None where the free columns explain the targets up to rounding.
    """
    count = len(targets)
    root = np.sqrt(weights * (count / weights.sum()))[:, None]
    scale = np.sqrt((free**2).sum(axis=0))
    basis, sizes, _ = np.linalg.svd(
        root * free / np.where(scale > 0, scale, 1), full_matrices=False
    )
    basis = basis[:, sizes > RANK_TOLERANCE * sizes.max(initial=0.0)]
    # Shifted first: rounding is that of the targets' spread, and not of their size.
    middle = float(weights @ targets) / float(weights.sum())
    centred = root[:, 0] * (targets - middle)
    rest = centred - basis @ (basis.T @ centred)
    spread = math.sqrt(float(rest @ rest) / count)
    if not spread > EXPLAINED * math.sqrt(float(centred @ centred) / count):
        return None
    if not spread > EPSILON * float(np.abs(targets).max(initial=0.0)):
        return None
    rows = root * columns
    rows = rows - basis @ (basis.T @ rows)
    left, squares = _find_directions(rows)
    along = left.T @ rest
    beyond = max(float(rest @ rest) - float(along @ along), 0.0)
    # (penalties, rank): what each direction keeps of the targets, eq. (2).
    shares = squares / (squares + count * PENALTIES[:, None])
    misfit = (((1 - shares) * along) ** 2).sum(axis=1) + beyond
    freedom = count - basis.shape[1] - shares.sum(axis=1)
    # eq. (3), for all penalties at once; nearly without freedom it says nothing.
    usable = freedom > 0.5
    criterion = np.where(usable, misfit / np.where(usable, freedom, 1.0) ** 2, np.inf)
    best = int(np.argmin(criterion))
    share = shares[best] if usable[best] else np.zeros(len(squares))
    # eq. (1), with X = rows: v_j s_j = Xᵀu_j
    coefficients = rows.T @ (left @ (share * along / squares))
    remaining = rest - left @ (share * along)
    leverage = (basis**2).sum(axis=1) + (left**2) @ share
    # eq. (4), with the columns and without: r² of samples left out
    before = rest / np.maximum(1 - (basis**2).sum(axis=1), 1e-9)
    left_out = remaining / np.maximum(1 - leverage, 1e-9)
    r2 = 1 - float(left_out @ left_out) / float(before @ before)
    nonzero = np.where(root[:, 0] > 0, root[:, 0], 1.0)
    return RidgeFit(
        coefficients, remaining / nonzero, float(PENALTIES[best]), float(criterion[best]), r2
    )


def _find_directions(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Find left singular vectors, and squares of singular values that are not rounding."""
    if len(rows) < rows.shape[1]:
        # An eigenproblem of that size takes a fraction of the decomposition's time.
        squares, left = np.linalg.eigh(rows @ rows.T)
        kept = squares > GRAM_TOLERANCE * squares.max(initial=0.0)
        return left[:, kept], squares[kept]
    left, sizes, _ = np.linalg.svd(rows, full_matrices=False)
    kept = sizes > RANK_TOLERANCE * sizes.max(initial=0.0)
    return left[:, kept], sizes[kept] ** 2


@dataclass(frozen=True, eq=False)
class Surrogate:
    """R(s, z) = zᵀ R z + z · (ψ(s) B) + a function of the context.

    Attributes:
        quadratic: R, (d, d) symmetric, no eigenvalue above 0.
        linear: B, (p, d).
        r2: share of the variance, beyond the function of the context, that leaving each
            sample out predicts.
        penalty: of the regression, per sample.
    """

    quadratic: FloatArray
    linear: FloatArray
    r2: float
    penalty: float


def fit_surrogate(
    whitened: FloatArray,
    features: FloatArray,
    baseline: FloatArray,
    returns: FloatArray,
    weights: FloatArray,
) -> Surrogate | None:
    """Fit the model to samples.

    Args:
        whitened: z, (N, d).
        features: ψ, (N, p).
        baseline: (N, q) columns of the function of the context, a constant among them.
        returns: (N,).
        weights: (N,) >= 0 with a positive sum.

    Returns:
        None where returns are constant, or the context explains them.
    """
    count, size = whitened.shape
    basis, back = orthonormalise(features)
    linear = (basis[:, :, None] * whitened[:, None, :]).reshape(count, -1)
    first, second = np.triu_indices(size)
    products = whitened[:, first] * whitened[:, second]
    square = first == second
    # (z² − 1)/√2 and z_i z_j are orthonormal under N(0, I), and orthogonal to 1 and z.
    products[:, square] = (products[:, square] - 1) / math.sqrt(2)
    best, share = None, 1.0
    # With samples to spare all terms are penalised alike.
    shares = CURVED if count < SPARE * (linear.shape[1] + products.shape[1]) else CURVED[:1]
    for tried in shares:
        found = fit_ridge(np.hstack([linear, tried * products]), baseline, returns, weights)
        if found is None:
            return None
        if best is None or found.criterion < best.criterion:
            best, share = found, tried
    assert best is not None  # noqa: S101 - there is one share at least
    slopes, curvature = np.split(best.coefficients, [linear.shape[1]])
    # A cross term stands for two entries of the matrix: each gets half of it.
    matrix = np.zeros((size, size))
    matrix[first, second] = share * curvature * np.where(square, 1 / math.sqrt(2), 0.5)
    matrix[second, first] = matrix[first, second]
    return Surrogate(
        cut_convex_part(matrix), back @ slopes.reshape(-1, size), best.r2, best.penalty
    )


def cut_convex_part(matrix: FloatArray) -> FloatArray:
    """Cut eigenvalues above 0: the nearest concave quadratic, (d, d).

    >>> cut_convex_part(np.diag([1.0, -2.0])) + 0
    array([[ 0.,  0.],
           [ 0., -2.]])
    """
    # The nearest in the Frobenius norm (Higham 1988).
    values, axes = np.linalg.eigh(matrix)
    cut = (axes * np.minimum(values, 0.0)) @ axes.T
    return np.asarray((cut + cut.T) / 2)
