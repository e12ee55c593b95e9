"""Augmented random search: step along the best of random directions.

Mania, Guy and Recht (2018), "Simple random search provides a competitive approach to
reinforcement learning" (arXiv:1803.07055), algorithm 2.

| name | paper |
|---|---|
| mean | M, row after row |
| population/2 | N, directions of an iteration |
| top_directions | b: V1-t and V2-t have b < N |
| learning_rate | α, the step size |
| std | ν: candidates are M ± ν δ |
| normalize_observations of the run | V2; without it V1 |
| reward_shift of the task | the survival bonus that is subtracted |

M ← M + α/(b σ_R) Σ (r⁺ - r⁻) δ over the b directions with the greatest max(r⁺, r⁻), where σ_R
is the standard deviation (ddof 0) of their 2b returns. On MuJoCo they took ν and α between
0.0075 and 0.03, with normalised observations; the defaults here suit smaller tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from distes.errors import UsageError
from distes.population.records import Episodes, Population
from distes.strategies.base import Problem
from distes.strategies.numerics import ranking
from distes.strategies.parts.mirrored_pairs import (
    MirroredPairs,
    PairsState,
    drop_broken_pairs,
)
from distes.types import FloatArray, PositiveFloat, PositiveInt


@dataclass(frozen=True)
class ARS(MirroredPairs[PairsState]):
    """Augmented random search (Mania et al. 2018); ``normalize_observations`` makes it V2.

    Schedules: see `MirroredPairs`.

    Attributes:
        top_directions: b, how many of the directions move the mean; none is all.
        std: ν, the standard deviation of every parameter, > 0.
        std_end: where it ends; none keeps it as it is.
        learning_rate: α, > 0.
    """

    top_directions: PositiveInt | None = None
    std: PositiveFloat = 0.2
    std_end: PositiveFloat | None = None
    learning_rate: PositiveFloat = 0.2

    def check(self, problem: Problem) -> None:
        """Refuse odd populations, and more directions than there are."""
        super().check(problem)
        size = self.population_size(problem)
        if self.top_directions is not None and self.top_directions > size // 2:
            raise UsageError(
                f"top_directions {self.top_directions} is more than the {size // 2} directions "
                f"of a population of {size}"
            )

    def learning_rate_at(self, generation: int) -> float:
        """α of a generation."""
        return self.follow_schedule(generation, self.learning_rate, self.learning_rate_end)

    def deviations(self, state: PairsState) -> FloatArray:
        """ν, (d,)."""
        std = self.follow_schedule(state.generation, self.std, self.std_end)
        return np.full(len(state.mean), std)

    def init(self, problem: Problem) -> PairsState:
        """Start where the policy does: at 0 if it is linear."""
        return PairsState(0, np.array(problem.start, dtype=np.float64))

    def tell(
        self, problem: Problem, state: PairsState, population: Population, episodes: Episodes
    ) -> PairsState:
        """Step along the best directions."""
        told = self.count_generation(state, episodes)
        pairs = drop_broken_pairs(episodes.fitness).reshape(-1, 2)
        kept = ranking.pick_elites(pairs.max(axis=1), self.top_directions or len(pairs))
        spread = pairs[kept].std() if len(kept) else 0.0  # σ_R
        if spread == 0:
            return told  # all returns are equal, or there are none
        weights = np.zeros_like(pairs)
        weights[kept] = pairs[kept] / spread
        step = problem.weigh_noise(population, weights.ravel())[0] / len(kept)
        rate = self.learning_rate_at(state.generation)
        return replace(told, mean=state.mean + rate * step)
