"""Gaussian process regression: fitted by scikit-learn, predicted by a few lines of our own.

One process for each output, with a squared-exponential kernel whose length scales tell
inputs apart, and white noise (Rasmussen and Williams 2006, "Gaussian processes for machine
learning"). A fitted model is plain arrays, and a row's prediction depends on that row
alone, to the last bit: it can be saved, and evaluated by anyone in any batch.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from distes.errors import UsageError
from distes.policies import products
from distes.population import coverage
from distes.types import FloatArray

LENGTH_SCALES = (5e-2, 1e2)
SIGNAL_VARIANCES = (1e-2, 1e3)
NOISE_VARIANCES = (1e-6, 1e1)
"""Bounds, in units of the inputs' and targets' own spread. They keep the kernel matrix
of noiseless data, which a long length scale makes nearly singular, well within doubles."""

NEGLIGIBLE = 1e-3
"""Share of the noise's variance below which an eigenvalue of the kernel matrix adds nothing
to what the data explain: at a known input less than this share squared of the noise. Smooth
functions leave a third of the columns or less, and predictions cost as much less."""

STARTS = ((2.0, 1.0, 1e-2), (10.0, 100.0, 1e-4))
"""Where the evidence is climbed from: (length scales, signal variance, noise variance).
Curved and noisy; nearly linear and nearly exact."""

MAX_ITERATIONS = 60
"""Steps of L-BFGS from each start."""

Objective = Callable[[FloatArray], tuple[float, FloatArray]]


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """Posterior of o independent processes over the same n inputs.

    Inputs and targets are standardised; hyper-parameters are in those units.

    Attributes:
        center: (i,) of the inputs.
        spread: (i,) of the inputs.
        target_center: (o,).
        target_spread: (o,).
        inputs: X, (n, i) standardised.
        length_scales: ℓ, (o, i).
        signal_variance: σ_f², (o,).
        noise_variance: σ_n², (o,).
        solvers: for each output (n, 1 + r): the weights α = (K + σ_n² I)⁻¹ y, and beside them
            a factor F with F Fᵀ ≈ (K + σ_n² I)⁻¹ (see `NEGLIGIBLE`).
    """

    center: FloatArray
    spread: FloatArray
    target_center: FloatArray
    target_spread: FloatArray
    inputs: FloatArray
    length_scales: FloatArray
    signal_variance: FloatArray
    noise_variance: FloatArray
    solvers: tuple[FloatArray, ...]

    def predict(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Predict new observations; Rasmussen and Williams 2006, eqs. (2.25) and (2.26).

        Args:
            rows: (m, i).

        Returns:
            Means (m, o) and variances (m, o), noise included.
        """
        standard = (rows - self.center) / self.spread
        means = np.empty((len(rows), len(self.solvers)))
        variances = np.empty_like(means)
        kernels = _compute_kernels(standard, self.inputs, self.length_scales, self.signal_variance)
        for o, (kernel, solver) in enumerate(zip(kernels, self.solvers, strict=True)):
            found = products.multiply(kernel, solver)
            # eq. (2.25): k*ᵀα
            means[:, o] = found[:, 0]
            # eq. (2.26): k** − k*ᵀ(K + σ_n² I)⁻¹k*, where the last is ‖Fᵀk*‖²
            apart = np.ascontiguousarray(found[:, 1:])
            ones = products.lay_out(np.ones((apart.shape[1], 1)))
            explained = products.multiply(apart * apart, ones)[:, 0]
            variances[:, o] = np.maximum(self.signal_variance[o] - explained, 0.0)
        variances += self.noise_variance
        return (self.target_center + self.target_spread * means, self.target_spread**2 * variances)


def available() -> bool:
    """Whether what `fit_processes` needs is installed."""
    return importlib.util.find_spec("sklearn") is not None


def fit_processes(rows: FloatArray, targets: FloatArray) -> GaussianProcess:
    """Fit processes, with the hyper-parameters that make the data likeliest.

    Deterministic: fixed starts, fixed limits, one thread.

    Args:
        rows: (n, i) inputs, finite.
        targets: (n, o), finite.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    if not available():
        raise UsageError(
            "Gaussian processes are fitted with scikit-learn, which is not installed: "
            "pip install 'distes[gp]'"
        )
    center, spread = coverage.mean_and_spread(rows)
    target_center, target_spread = coverage.mean_and_spread(targets)
    inputs = np.ascontiguousarray((rows - center) / spread)
    outputs = (targets - target_center) / target_spread
    with products.one_blas_thread():
        chosen = np.array([_find_likeliest(inputs, outputs[:, o]) for o in range(targets.shape[1])])
        return GaussianProcess(
            center=center,
            spread=spread,
            target_center=target_center,
            target_spread=target_spread,
            inputs=inputs,
            length_scales=np.ascontiguousarray(chosen[:, 1:-1]),
            signal_variance=chosen[:, 0].copy(),
            noise_variance=chosen[:, -1].copy(),
            solvers=tuple(
                _build_solver(inputs, outputs[:, o], row) for o, row in enumerate(chosen)
            ),
        )


def log_likelihood(mean: FloatArray, variance: FloatArray, values: FloatArray) -> float:
    """Mean over rows of log Π_o N(value | mean, variance), all (m, o), in nats."""
    logs = -0.5 * (np.log(2 * np.pi * variance) + (values - mean) ** 2 / variance)
    return float(logs.sum(axis=1).mean())


def choose_spread_out(rows: FloatArray, count: int) -> list[int]:
    """Choose at most ``count`` of rows (n, i) far from each other: their numbers, ascending.

    Distances are in units of the columns' spread; see `coverage.choose_farthest`.
    """
    if len(rows) <= count:
        return list(range(len(rows)))
    center, spread = coverage.mean_and_spread(rows)
    return sorted(coverage.choose_farthest((rows - center) / spread, count))


def _compute_kernels(
    rows: FloatArray, inputs: FloatArray, length_scales: FloatArray, signals: FloatArray
) -> FloatArray:
    """Evaluate σ_f² exp(−½ Σ ((a − b)/ℓ)²), (o, m, n): eq. (5.1), a length scale for each input.

    Summed input by input, in order: a row's result is the same in any batch.
    """
    squared = np.zeros((len(signals), len(rows), len(inputs)))
    apart = np.empty_like(squared)
    for j, scales in enumerate(length_scales.T[:, :, None]):
        ours, known = rows[:, j] / scales, inputs[:, j] / scales
        np.subtract(ours[:, :, None], known[:, None, :], out=apart)
        apart *= apart
        squared += apart
    squared *= -0.5
    np.exp(squared, out=squared)
    squared *= signals[:, None, None]
    return squared


def _build_solver(inputs: FloatArray, output: FloatArray, chosen: FloatArray) -> FloatArray:
    """Compute α and F side by side, (n, 1 + r), of eqs. (2.25) and (2.26)."""
    signals, length_scales, noise = chosen[:1], chosen[None, 1:-1], chosen[-1]
    kernel = _compute_kernels(inputs, inputs, length_scales, signals)[0]
    values, axes = np.linalg.eigh(kernel)
    values = np.maximum(values, 0.0)
    # With K = V Λ Vᵀ: (K + σ_n² I)⁻¹ = V (Λ + σ_n² I)⁻¹ Vᵀ.
    weights = (axes / (values + noise)) @ (axes.T @ output)
    kept = values > NEGLIGIBLE * noise
    factor = axes[:, kept] / np.sqrt(values[kept] + noise)
    # Row by row in memory: `products.multiply` sums in the order of what lies there.
    return np.ascontiguousarray(np.column_stack([weights, factor]))


def _find_likeliest(inputs: FloatArray, output: FloatArray) -> FloatArray:
    """Find the hyper-parameters of greatest evidence, eq. (5.8), (i + 2,).

    Signal variance, length scales, noise variance; gradients by eq. (5.9).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    width = inputs.shape[1]
    kernel = ConstantKernel(1.0, SIGNAL_VARIANCES) * RBF(
        np.ones(width), LENGTH_SCALES
    ) + WhiteKernel(1.0, NOISE_VARIANCES)
    regressor = GaussianProcessRegressor(kernel, alpha=0.0, optimizer=_climb)
    with warnings.catch_warnings():
        # A length scale at its bound belongs to an input that does not matter.
        warnings.simplefilter("ignore", ConvergenceWarning)
        regressor.fit(inputs, output)
    found: FloatArray = np.exp(regressor.kernel_.theta)
    return found


def _climb(objective: Objective, _theta: FloatArray, bounds: Any) -> tuple[FloatArray, float]:
    """Minimise from each fixed start, and take the best."""
    from scipy.optimize import minimize

    width = len(bounds) - 2
    found = [
        minimize(
            objective,
            np.log([signal, *[length] * width, noise]),
            jac=True,
            bounds=bounds,
            method="L-BFGS-B",
            options={"maxiter": MAX_ITERATIONS},
        )
        for length, signal, noise in STARTS
    ]
    best = min(found, key=lambda each: each.fun)
    return best.x, float(best.fun)
