"""Fitness shaped for an update: by rank, from the order of the returns alone, or standardised."""

from __future__ import annotations

import numpy as np

from distes.types import FloatArray

ROUNDING = 1e-12
"""Share of the fitness below which its spread is rounding error."""


def ranks(fitness: FloatArray) -> FloatArray:
    """Rank candidates from the best, 1; ties share their mean rank, NaN stays NaN.

    Args:
        fitness: (n,) higher is better; NaN = failed.

    Returns:
        (n,) ranks from 1.

    >>> ranks(np.array([3.0, np.nan, 1.0, 3.0]))
    array([1.5, nan, 3. , 1.5])
    """
    valid = ~np.isnan(fitness)
    # The r-th of k equal values has ranks r .. r + k - 1: their mean keeps the sum of all.
    _, place, counts = np.unique(-fitness[valid], return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found = np.full(len(fitness), np.nan)
    found[valid] = (last - (counts - 1) / 2)[place]
    return found


def centred_ranks(fitness: FloatArray) -> FloatArray:
    """Map ranks to [-0.5, 0.5], the best to 0.5; failed candidates to 0.

    Salimans et al. (2017), "Evolution strategies as a scalable alternative to reinforcement
    learning", section 2.1.

    Args:
        fitness: (n,) higher is better; NaN = failed.

    Returns:
        (n,) that sum to 0.

    >>> centred_ranks(np.array([10.0, 30.0, 20.0]))
    array([-0.5,  0.5,  0. ])
    """
    found = ranks(fitness)
    valid = int(np.count_nonzero(~np.isnan(found)))
    if valid < 2:
        return np.zeros(len(fitness))
    return np.nan_to_num(0.5 - (found - 1) / (valid - 1), nan=0.0)


def standardise(fitness: FloatArray) -> FloatArray:
    """Subtract the mean and divide by the standard deviation (ddof 0); failed candidates get 0.

    Fitness that is equal but for rounding is all 0.

    Args:
        fitness: (n,) higher is better; NaN = failed.

    Returns:
        (n,) that sum to 0, their squares to the number of valid candidates.

    >>> standardise(np.array([1.0, np.nan, 3.0])).tolist()
    [-1.0, 0.0, 1.0]
    """
    valid = fitness[~np.isnan(fitness)]
    spread = valid.std() if len(valid) else 0.0
    if spread <= ROUNDING * np.abs(valid).max(initial=0.0):
        return np.zeros(len(fitness))
    shaped: FloatArray = np.nan_to_num((fitness - valid.mean()) / spread, nan=0.0)
    return shaped


def log_rank_weights(size: int) -> FloatArray:
    """Weigh ranks 1 .. size as CMA-ES does, ln((λ+1)/2) - ln i, not normalised.

    Hansen (2016), "The CMA evolution strategy: a tutorial", eq. 49.
    """
    weights: FloatArray = np.log((size + 1) / 2) - np.log(np.arange(1, size + 1))
    return weights


def nes_utilities(fitness: FloatArray) -> FloatArray:
    """Utilities of the natural evolution strategies; failed candidates have none.

    u = max(0, ln(λ/2 + 1) - ln rank)/Σ - 1/λ over the λ valid candidates (Wierstra et al.
    2014, "Natural evolution strategies", section 3.1). Equal returns share their utilities.

    Args:
        fitness: (n,) higher is better; NaN = failed.

    Returns:
        (n,) that sum to 0.

    >>> nes_utilities(np.array([1.0, 5.0])).tolist()
    [-0.5, 0.5]
    """
    valid = np.flatnonzero(~np.isnan(fitness))
    count = len(valid)
    shaped = np.zeros(len(fitness))
    if count == 0:
        return shaped
    raw = np.maximum(0.0, np.log(count / 2 + 1) - np.log(np.arange(1, count + 1)))
    by_rank = raw / raw.sum() - 1 / count
    # Means over equal returns: what is equal must not pull the mean by its order.
    _, place, counts = np.unique(-fitness[valid], return_inverse=True, return_counts=True)
    sums = np.add.reduceat(by_rank, np.cumsum(counts) - counts)
    shaped[valid] = (sums / counts)[place]
    return shaped
