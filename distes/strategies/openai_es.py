"""OpenAI-ES: climb the smoothed return with mirrored pairs, centred ranks and Adam.

Salimans, Ho, Chen, Sidor and Sutskever (2017), "Evolution strategies as a scalable alternative
to reinforcement learning" (arXiv:1703.03864), and the program that they published.

| name | paper |
|---|---|
| mean | θ |
| std | σ: candidates are θ ± σ ε |
| population/2 | number of pairs, P |
| utilities | u⁺, u⁻: ranks of all returns, from -0.5 to 0.5 |
| learning_rate | α of Adam |
| weight_decay | coefficient of ‖θ‖²/2 |

g = 1/(2P) Σ (u⁺ - u⁻) ε; Adam climbs g - weight_decay θ. As in their program, g is not divided
by σ: Adam does not mind, but weight_decay is measured beside it. For networks on MuJoCo they
took σ = 0.02 and α = 0.01; the defaults here suit linear policies that start at 0. Their actions
had noise of 0.01, which is a matter of the policy (``gaussian`` with ``std``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from distes.population.records import Episodes, Population
from distes.strategies.base import Problem
from distes.strategies.numerics import shaping
from distes.strategies.numerics.optimisers import AdamState
from distes.strategies.parts.mirrored_pairs import (
    MirroredPairs,
    PairsState,
    drop_broken_pairs,
)
from distes.types import FloatArray, NonNegativeFloat, PositiveFloat


@dataclass(frozen=True, eq=False)
class OpenAIESState(PairsState):
    """The mean and its optimiser.

    Attributes:
        adam: of the optimiser.
    """

    adam: AdamState


@dataclass(frozen=True)
class OpenAIES(MirroredPairs[OpenAIESState]):
    """Evolution strategy of Salimans et al. (2017).

    Schedules: see `MirroredPairs`.

    Attributes:
        std: σ, the standard deviation of every parameter, > 0.
        std_end: where it ends; none keeps it as it is.
        learning_rate: α of Adam, > 0.
        weight_decay: pulls parameters to 0, >= 0.
    """

    std: PositiveFloat = 0.2
    std_end: PositiveFloat | None = None
    learning_rate: PositiveFloat = 0.1
    weight_decay: NonNegativeFloat = 0.005

    def learning_rate_at(self, generation: int) -> float:
        """α of a generation."""
        return self.follow_schedule(generation, self.learning_rate, self.learning_rate_end)

    def deviations(self, state: OpenAIESState) -> FloatArray:
        """σ, (d,)."""
        std = self.follow_schedule(state.generation, self.std, self.std_end)
        return np.full(len(state.mean), std)

    def init(self, problem: Problem) -> OpenAIESState:
        """Start where the policy does."""
        mean = np.array(problem.start, dtype=np.float64)
        return OpenAIESState(0, mean, AdamState.begin(len(mean)))

    def tell(
        self, problem: Problem, state: OpenAIESState, population: Population, episodes: Episodes
    ) -> OpenAIESState:
        """Follow the gradient of the ranks, less the weight decay."""
        told = self.count_generation(state, episodes)
        fitness = drop_broken_pairs(episodes.fitness)
        utilities = shaping.centred_ranks(fitness)
        if not utilities.any():
            return told  # nothing is better than anything else: there is nothing to learn
        count = np.count_nonzero(~np.isnan(fitness))  # 2 P
        gradient = problem.weigh_noise(population, utilities)[0] / count
        change, adam = state.adam.step(
            gradient - self.weight_decay * state.mean, self.learning_rate_at(state.generation)
        )
        return replace(told, mean=state.mean + change, adam=adam)
