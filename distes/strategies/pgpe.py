"""PGPE: climb the gradient of the expected return by mean and standard deviations.

Sehnke et al. (2010), "Parameter-exploring policy gradients", with symmetric sampling; with
centred ranks and ClipUp as Toklu, Liskowski and Srivastava (2020), "ClipUp: a simple and
powerful optimizer for distribution-based policy evolution" (arXiv:2008.02387).

| name | Sehnke 2010; Toklu 2020 |
|---|---|
| mean, std | μ, σ: candidates are μ ± ε with ε = σ z |
| population/2 | number of directions, P |
| shaped fitness | f⁺, f⁻ of a direction, with mean 0 over all |
| learning_rate, max_speed | α, v^max of ClipUp |
| radius | r: the greatest speed is r/15, and σ₀ = r/√d |
| std_rate | learning rate of σ |
| std_change | largest relative change of σ in a generation |

∇μ = 1/P Σ (f⁺ - f⁻)/2 ε and ∇σ = 1/P Σ (f⁺ + f⁻)/2 (ε² - σ²)/σ. The mean of all returns is
the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Interval

from distes.errors import UsageError
from distes.population.records import Episodes, Population
from distes.strategies.base import Problem
from distes.strategies.numerics import shaping
from distes.strategies.numerics.optimisers import AdamState, ClipUpState, MomentumState
from distes.strategies.parts import spreads
from distes.strategies.parts.mirrored_pairs import (
    MirroredPairs,
    PairsState,
    drop_broken_pairs,
)
from distes.types import FloatArray, NonNegativeFloat, PositiveFloat

SHAPES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "ranks": shaping.centred_ranks,
    "standardised": shaping.standardise,
}


@dataclass(frozen=True, eq=False)
class PGPEState(PairsState):
    """The search distribution and the optimiser of its mean.

    Attributes:
        std: σ, (d,).
        optimiser: of μ.
    """

    std: FloatArray
    optimiser: ClipUpState | AdamState | MomentumState

    @property
    def spread(self) -> FloatArray:
        """σ, (d,)."""
        return self.std


@dataclass(frozen=True)
class PGPE(MirroredPairs[PGPEState]):
    """Policy gradients with parameter-based exploration (Sehnke et al. 2010).

    Schedules: see `MirroredPairs`.

    Attributes:
        radius: how far candidates lie from the start at first, > 0: the standard deviation
            of every parameter is radius/√d.
        optimiser: of the mean: ``clipup``, ``adam``, or ``sgd`` with momentum.
        learning_rate: of the mean, > 0; none is 0.75 of the greatest speed, for clipup.
        max_speed: greatest length of a step of clipup, > 0; none is radius/15. It goes with
            the learning rate where that has an end.
        std_rate: learning rate of the standard deviations, >= 0.
        std_change: largest relative change of a standard deviation in a generation.
        fitness_shaping: ``ranks`` from -0.5 to 0.5, or returns ``standardised``.
    """

    takes_spread: ClassVar[bool] = True

    radius: PositiveFloat = 4.5
    optimiser: Literal["clipup", "adam", "sgd"] = "clipup"
    learning_rate: PositiveFloat | None = None
    max_speed: PositiveFloat | None = None
    std_rate: NonNegativeFloat = 0.1
    std_change: Annotated[float, Interval(gt=0, lt=1), "in (0, 1)"] = 0.2
    fitness_shaping: Literal["ranks", "standardised"] = "ranks"

    def check(self, problem: Problem) -> None:
        """Refuse odd populations, and settings of another optimiser."""
        super().check(problem)
        if self.optimiser == "clipup":
            return
        if self.learning_rate is None:
            raise UsageError(
                f"optimiser {self.optimiser} has no learning rate of its own: give "
                "strategy.learning_rate"
            )
        if self.max_speed is not None:
            raise UsageError(
                f"max_speed {self.max_speed:g} does nothing with optimiser {self.optimiser}: "
                "leave it out"
            )

    @property
    def greatest_speed(self) -> float:
        """v^max of ClipUp at the start."""
        return self.max_speed or self.radius / 15

    def learning_rate_at(self, generation: int) -> float:
        """α of a generation."""
        start = self.learning_rate or 0.75 * self.greatest_speed
        return self.follow_schedule(generation, start, self.learning_rate_end)

    def deviations(self, state: PGPEState) -> FloatArray:
        """σ, (d,)."""
        return state.std

    def init(self, problem: Problem) -> PGPEState:
        """Start where the policy does, alike in all directions."""
        size = problem.num_parameters
        optimiser: ClipUpState | AdamState | MomentumState
        if self.optimiser == "clipup":
            optimiser = ClipUpState.begin(size, self.greatest_speed / self.learning_rate_at(0))
        else:
            optimiser = (AdamState if self.optimiser == "adam" else MomentumState).begin(size)
        std = np.full(size, self.radius / math.sqrt(size))
        if problem.start_spread is not None:
            std = spreads.to_deviations(problem.start_spread)
        return PGPEState(
            generation=0,
            mean=np.array(problem.start, dtype=np.float64),
            std=std,
            optimiser=optimiser,
        )

    def tell(
        self, problem: Problem, state: PGPEState, population: Population, episodes: Episodes
    ) -> PGPEState:
        """Follow both gradients."""
        told = self.count_generation(state, episodes)
        fitness = drop_broken_pairs(episodes.fitness)
        shaped = SHAPES[self.fitness_shaping](fitness)
        if not shaped.any():
            return told  # nothing is better than anything else: there is nothing to learn
        count = np.count_nonzero(~np.isnan(fitness))  # 2 P
        pull, stretch = problem.weigh_noise(population, shaped, shaped)
        # Σ (f⁺ - f⁻) z and Σ (f⁺ + f⁻) z² are sums over candidates, whose f sum to 0.
        gradient = state.std * pull / count
        std_gradient = state.std * stretch / count
        rate = self.learning_rate_at(state.generation)
        change, optimiser = state.optimiser.step(gradient, rate)
        bound = self.std_change * state.std
        widening = np.clip(self.std_rate * std_gradient, -bound, bound)
        return replace(
            told, mean=state.mean + change, std=state.std + widening, optimiser=optimiser
        )
