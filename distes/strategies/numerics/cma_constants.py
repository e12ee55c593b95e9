"""Weights and learning rates of CMA-ES, functions of the numbers of samples and parameters.

Equation numbers are those of Hansen (2016), "The CMA evolution strategy: a tutorial".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from distes.strategies.numerics import shaping
from distes.types import FloatArray


@dataclass(frozen=True, eq=False)
class CMAConstants:
    """Weights and learning rates of an update.

    Attributes:
        weights: w, (λ,) by rank: the positive half sums to 1, the rest is negative or 0.
        effective: μ_eff of the positive ones.
        step_rate: c_σ.
        step_damping: d_σ.
        path_rate: c_c.
        rank_one: c_1.
        rank_mu: c_μ.
    """

    weights: FloatArray
    effective: float
    step_rate: float
    step_damping: float
    path_rate: float
    rank_one: float
    rank_mu: float

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, samples: int, size: int, *, separable: bool, active: bool) -> CMAConstants:
        """Compute them.

        Args:
            samples: λ >= 2, those that did not fail.
            size: n, the number of parameters.
            separable: for a diagonal covariance, which can be learnt faster.
            active: whether bad samples count, with negative weights.
        """
        raw = shaping.log_rank_weights(samples)  # eq. 49
        half = samples // 2
        best, worst = raw[:half], raw[half:]
        effective = float(best.sum() ** 2 / np.sum(best**2))  # eq. 8, Table 1
        step_rate = (effective + 2) / (size + effective + 5)  # eq. 55
        excess = math.sqrt((effective - 1) / (size + 1)) - 1
        damping = 1 + 2 * max(0.0, excess) + step_rate  # eq. 55
        share = effective / size
        if separable:
            # Learning rates of a diagonal, whose n numbers need fewer samples than n²/2.
            root = math.sqrt(size)
            path_rate = (1 + 1 / size + share) / (root + 1 / size + 2 * share)
            rank_one = 1 / (size + 2 * root + share)
            rank_mu = (0.25 + effective + 1 / effective - 2) / (size + 4 * root + effective / 2)
        else:
            path_rate = (4 + share) / (size + 4 + 2 * share)  # eq. 56
            rank_one = min(1.0, samples / 6) * 2 / ((size + 1.3) ** 2 + effective)  # eq. 57
            rank_mu = 2 * (0.25 + effective + 1 / effective - 2)
            rank_mu /= (size + 2) ** 2 + effective  # eq. 58 with α_cov = 2
        rank_mu = min(1 - rank_one, rank_mu)
        weights = np.concatenate([best / best.sum(), np.zeros_like(worst)])  # eq. 53, w >= 0
        negative = float(-worst.sum())
        if active and negative > 0 and rank_mu > 0:
            against = worst.sum() ** 2 / np.sum(worst**2)  # μ_eff⁻, Table 1
            bound = min(
                1 + rank_one / rank_mu,  # eq. 50: the update of C keeps its scale
                1 + 2 * against / (effective + 2),  # eq. 51
                (1 - rank_one - rank_mu) / (size * rank_mu),  # eq. 52: C stays positive definite
            )
            weights[half:] = bound * worst / negative  # eq. 53, w < 0
        weights.flags.writeable = False
        return cls(weights, effective, step_rate, damping, path_rate, rank_one, rank_mu)


@lru_cache(maxsize=64)
def expected_length(size: int) -> float:
    """Mean length χ_n of n standard normals, exactly; some programs expand it in 1/n.

    >>> round(expected_length(1), 12) == round(math.sqrt(2 / math.pi), 12)
    True
    """
    return math.sqrt(2) * math.exp(math.lgamma((size + 1) / 2) - math.lgamma(size / 2))


def share_among_equal(weights: FloatArray, ordered: FloatArray) -> FloatArray:
    """Give equal returns, which are neighbours by rank, the mean of their weights.

    Args:
        weights: (n,) by rank.
        ordered: (n,) returns, best first.

    >>> share_among_equal(np.array([3.0, 1.0, 0.0]), np.array([9.0, 9.0, 5.0]))
    array([2., 2., 0.])
    """
    differs = ordered[1:] != ordered[:-1]
    if differs.all():
        return weights
    starts = np.flatnonzero(np.r_[True, differs])
    counts = np.diff(np.r_[starts, len(ordered)])
    return np.repeat(np.add.reduceat(weights, starts) / counts, counts)
