"""The figures of a generation's elites, as strategies log them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from distes.population.records import Episodes
from distes.types import FloatArray, IntArray


@dataclass(frozen=True)
class EliteFigures:
    """What the elites of a generation amount to; NaN where there are none.

    Attributes:
        count: how many.
        return_mean: mean over them of a candidate's mean episode return.
        return_std: standard deviation over them (ddof 0).
        fitness_min: fitness of the worst of them, the threshold.
    """

    count: int = 0
    return_mean: float = math.nan
    return_std: float = math.nan
    fitness_min: float = math.nan

    @classmethod
    def of(cls, episodes: Episodes, fitness: FloatArray, chosen: IntArray) -> EliteFigures:
        """Sum up candidates ``chosen``, best first by fitness (n,), of a population's episodes."""
        if len(chosen) == 0:
            return cls()
        size = len(fitness)
        sums = np.bincount(episodes.candidate, episodes.episode_return, minlength=size)
        returns = sums[chosen] / np.bincount(episodes.candidate, minlength=size)[chosen]
        mean = float(returns.sum()) / len(chosen)
        beyond = returns - mean
        return cls(
            count=len(chosen),
            return_mean=mean,
            return_std=math.sqrt(float(beyond @ beyond) / len(chosen)),
            fitness_min=float(fitness[chosen[-1]]),
        )

    def metrics(self) -> dict[str, float]:
        """Name the figures for the generations log."""
        return {
            "elites": self.count,
            "elite_return_mean": self.return_mean,
            "elite_return_std": self.return_std,
            "elite_fitness_min": self.fitness_min,
        }
