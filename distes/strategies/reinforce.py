"""REINFORCE (Williams 1992): climb the gradient of the expected return.

| name | Williams 1992; Greensmith et al. 2004, "Variance reduction techniques" |
|---|---|
| learning_rate | α |
| discount | γ |
| baseline | b |
| score | ∇ log π(a_t | x_t) |

Δ = α/n Σ_i Σ_t ∇ log π(a_t | x_t) (G_t - b), over n episodes of one policy. The sums are
folded where the episodes run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from distes.distributions import Point
from distes.errors import UsageError, unknown
from distes.numerics.optimisers import AdamState
from distes.policies.scored import SquaredScores
from distes.population import Episodes, Population
from distes.score_sums import ScoreSums
from distes.strategies import scored
from distes.strategies.base import Problem, Strategy
from distes.types import FloatArray

BASELINES = ("none", "batch_mean", "per_time_step", "variance_optimal", "value")
RIDGE = 1e-5
SMALL = 1e-12


@dataclass(frozen=True, eq=False)
class ReinforceState:
    """The policy, the optimiser, and the baselines of the next generation.

    Attributes:
        generation: generations told, the index of the next one.
        parameters: (d,).
        adam: of the optimiser.
        by_time: (h,) mean return-to-go of each time step so far; empty before the first.
        by_value: (p,) of the value function; empty before the first.
        gradient_norm: of the last update.
        return_mean: mean of G_t - b_t over all steps of the last generation.
        return_std: its standard deviation.
    """

    generation: int
    parameters: FloatArray
    adam: AdamState
    by_time: FloatArray
    by_value: FloatArray
    gradient_norm: float = math.nan
    return_mean: float = math.nan
    return_std: float = math.nan


@dataclass(frozen=True)
class Reinforce(Strategy[ReinforceState]):
    """Policy gradient by the likelihood ratio, with returns-to-go.

    Attributes:
        learning_rate: α, > 0.
        optimiser: ``adam``, or ``sgd`` for plain steps.
        discount: γ, in (0, 1].
        baseline: subtracted from returns: ``none``; ``batch_mean`` of the generation;
            ``per_time_step`` means and a linear ``value`` function of the generation
            before; ``variance_optimal`` for each parameter.
        standardize: subtract the mean of the returns and divide by their deviation.
        entropy_bonus: weight of the policy's entropy in what is climbed, >= 0.
        horizon: time steps that the per_time_step baseline tells apart.
    """

    default_policy: ClassVar[str] = "softmax"

    learning_rate: float = 0.05
    optimiser: Literal["adam", "sgd"] = "adam"
    discount: float = 0.99
    baseline: Literal["none", "batch_mean", "per_time_step", "variance_optimal", "value"] = (
        "per_time_step"
    )
    standardize: bool = True
    entropy_bonus: float = 0.0
    horizon: int = 1000

    def __post_init__(self) -> None:
        """Refuse settings outside their ranges."""
        if self.optimiser not in ("adam", "sgd"):
            raise unknown("optimiser", self.optimiser, ("adam", "sgd"))
        if self.baseline not in BASELINES:
            raise unknown("baseline", self.baseline, BASELINES)
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"learning_rate {self.learning_rate} is not a finite number > 0")
        if not 0 < self.discount <= 1:
            raise UsageError(f"discount {self.discount} is not in (0, 1]")
        if not 0 <= self.entropy_bonus < math.inf:
            raise UsageError(f"entropy_bonus {self.entropy_bonus} is not a finite number >= 0")
        if self.horizon < 1:
            raise UsageError(f"horizon {self.horizon} is not at least 1")

    def check(self, problem: Problem) -> None:
        """Refuse policies that do not sample, or do not know how they depend on parameters."""
        policy = scored.policy_of(problem, "reinforce")
        if self.baseline == "variance_optimal" and not isinstance(policy, SquaredScores):
            raise UsageError(
                f"baseline 'variance_optimal' needs the squares of a policy's scores, which "
                f"{type(policy).__name__} does not give: use another baseline"
            )

    def init(self, problem: Problem) -> ReinforceState:
        """Start from the policy's own parameters, without a baseline."""
        return ReinforceState(
            0,
            np.array(problem.start, np.float64),
            AdamState.begin(problem.num_parameters),
            np.empty(0),
            np.empty(0),
        )

    def ask(self, problem: Problem, state: ReinforceState) -> Population:
        """One policy, many episodes that report sums of scores."""
        probe = ScoreSums(
            discount=self.discount,
            by_time=state.by_time if self.baseline == "per_time_step" else None,
            horizon=self.horizon if self.baseline == "per_time_step" else 0,
            by_value=state.by_value if len(state.by_value) else None,
            value=self.baseline == "value",
            squares=self.baseline == "variance_optimal",
            entropy=self.entropy_bonus > 0,
        )
        population = problem.population(Point(state.parameters), problem.population_size or 50)
        return replace(population, probes=(probe,))

    def tell(
        self, problem: Problem, state: ReinforceState, population: Population, episodes: Episodes
    ) -> ReinforceState:
        """Step along the gradient; fit the next generation's baseline."""
        state = replace(state, generation=state.generation + 1)
        valid = int(np.count_nonzero(~np.isnan(episodes.episode_return)))
        sums = episodes.sums
        steps = float(sums["return_count"][0])
        if not valid or not steps:
            return state
        mean = float(sums["return_sum"][0]) / steps
        variance = max(float(sums["return_square_sum"][0]) / steps - mean**2, 0.0)
        gradient = self._gradient(sums, mean, math.sqrt(variance)) / valid
        if not np.isfinite(gradient).all():
            return state
        change, adam = self.learning_rate * gradient, state.adam
        if self.optimiser == "adam":
            change, adam = adam.step(gradient, self.learning_rate)
        return replace(
            state,
            parameters=state.parameters + change,
            adam=adam,
            by_time=_by_time(sums) if self.baseline == "per_time_step" else state.by_time,
            by_value=_by_value(sums) if self.baseline == "value" else state.by_value,
            gradient_norm=float(np.linalg.norm(gradient)),
            return_mean=mean,
            return_std=math.sqrt(variance),
        )

    def _gradient(self, sums: Mapping[str, FloatArray], mean: float, std: float) -> FloatArray:
        """Sum over the generation of scores times returns less the baseline, (d,)."""
        score, score_return = sums["score"], sums["score_return"]
        gradient: FloatArray = score_return
        if self.baseline == "variance_optimal":
            square = sums["score_square"]
            best = sums["score_square_return"] / np.where(square > 0, square, 1.0)
            gradient = score_return - best * score
        elif self.baseline == "batch_mean" or self.standardize:
            gradient = score_return - mean * score
        if self.standardize and std > SMALL:
            gradient = gradient / std
        if self.entropy_bonus:
            gradient = gradient + self.entropy_bonus * sums["entropy_gradient"]
        return gradient

    def solution(self, problem: Problem, state: ReinforceState) -> Population:
        """Deploy the policy as it is, with its own sampling."""
        return Population(Point(state.parameters), 1)

    def metrics(self, state: ReinforceState) -> dict[str, float]:
        """Gradient and returns-to-go of the last generation."""
        return {
            "gradient_norm": state.gradient_norm,
            "advantage_mean": state.return_mean,
            "advantage_std": state.return_std,
        }


def _by_time(sums: Mapping[str, FloatArray]) -> FloatArray:
    """Mean return-to-go of every time step that was reached."""
    reached = sums["time_count"] > 0
    return sums["time_sum"][reached] / sums["time_count"][reached]


def _by_value(sums: Mapping[str, FloatArray]) -> FloatArray:
    """Ridge regression of returns-to-go on the value features."""
    gram = sums["value_gram"]
    ridge = RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram + ridge, sums["value_target"])
