"""REINFORCE (Williams 1992): climb the gradient of the expected return.

| name | Williams 1992; Greensmith et al. 2004, "Variance reduction techniques" |
|---|---|
| learning_rate | α |
| discount | γ |
| baseline | b |
| log-prob gradient | s_t = ∇ log π(a_t | x_t) |

Δ = α/n Σ_i Σ_t s_t (G_t - b), over n episodes of one policy (Williams 1992, section 4: Δw =
α (r - b) ∂ log g/∂w), with the return from each step on in place of the whole: what came
before an action does not depend on it. The sums are folded where the episodes run.

The baseline ``variance_optimal`` is b_j = Σ s_j² G / Σ s_j² over all steps of the generation,
one for each parameter j. It makes the second moment of s_j (G - b_j) at one step least: the
derivative of E[s_j² (G - b_j)²] by b_j is 0 there. Gradients at different steps of an episode
go together through the returns, which it leaves aside; so it is not the least variance of an
episode's whole sum.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from distes.errors import Notice, UsageError
from distes.policies.log_probs import LogProbGradSummer
from distes.population.distributions import Point
from distes.population.policy_gradient_sums import PolicyGradientSums
from distes.population.records import Episodes, Population
from distes.strategies.base import Problem, Strategy
from distes.strategies.numerics.optimisers import AdamState
from distes.strategies.parts import policy_checks
from distes.types import FloatArray, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt

RIDGE = 1e-5
ROUNDING, CANCELLED = 1e-12, 1e-7
"""A spread below the first share of the returns, or below the second share of what their sums
of squares are shifted by, is rounding error."""


@dataclass(frozen=True, eq=False)
class ReinforceState:
    """The policy, the optimiser, and the baselines of the next generation.

    Attributes:
        generation: generations told, the index of the next one.
        parameters: (d,).
        adam: of the optimiser.
        by_time: (h,) mean return-to-go of each time step so far; empty before the first.
        by_value: (p,) of the value function; empty before the first.
        horizon: time steps that the per_time_step baseline tells apart.
        gradient_norm: of the last update.
        return_mean: mean of G_t - b_t over all steps of the last generation.
        return_std: its standard deviation.
    """

    generation: int
    parameters: FloatArray
    adam: AdamState
    by_time: FloatArray
    by_value: FloatArray
    horizon: int
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
            before; ``variance_optimal`` makes each parameter's squared terms least, step by
            step.
        standardize: divide by the deviation of the returns; with a baseline, subtract what
            it leaves of their mean, too.
        entropy_bonus: weight of the policy's entropy in what is climbed, >= 0.
        horizon: time steps that the per_time_step baseline tells apart, at most as many as
            an episode may have.
    """

    default_policy: ClassVar[str] = "softmax"

    learning_rate: PositiveFloat = 0.05
    optimiser: Literal["adam", "sgd"] = "adam"
    discount: Fraction = 0.99
    baseline: Literal["none", "batch_mean", "per_time_step", "variance_optimal", "value"] = (
        "per_time_step"
    )
    standardize: bool = True
    entropy_bonus: NonNegativeFloat = 0.0
    horizon: PositiveInt = 1000

    def population_size(self, problem: Problem) -> int:
        """As asked, else 50."""
        return problem.population_size or 50

    def check(self, problem: Problem) -> None:
        """Refuse policies without log-prob gradients, and settings that would do nothing."""
        policy = policy_checks.policy_of(problem, "reinforce")
        policy_checks.refuse_common_seeds(problem, "reinforce")
        name, task = type(policy).__name__, problem.task
        summer = policy if isinstance(policy, LogProbGradSummer) else None
        if self.baseline == "variance_optimal" and summer is None:
            raise UsageError(
                "baseline 'variance_optimal' needs the squares of a policy's log-prob gradients, "
                f"which {name} does not give: use another baseline"
            )
        if self.entropy_bonus and (summer is None or not summer.entropy_varies):
            raise UsageError(
                f"entropy_bonus {self.entropy_bonus:g} needs a policy whose entropy depends on "
                f"its parameters, and that of {name} does not: leave it out"
            )
        if task.fitness != "mean" or task.reward_shift:
            given = (
                f"reward_shift {task.reward_shift:g}"
                if task.reward_shift
                else f"fitness {getattr(task.fitness, '__name__', repr(task.fitness))}"
            )
            raise UsageError(
                f"{given} does nothing with reinforce, which climbs the mean of the "
                "environment's own discounted rewards: leave it out"
            )

    def init(self, problem: Problem) -> ReinforceState:
        """Start from the policy's own parameters, without a baseline."""
        start, none = np.array(problem.start, np.float64), np.empty(0)
        limit = problem.task.step_limit()
        horizon = self.horizon if limit is None else min(self.horizon, limit)
        return ReinforceState(0, start, AdamState.begin(len(start)), none, none, horizon)

    def ask(self, problem: Problem, state: ReinforceState) -> Population:
        """One policy, many episodes that report sums of log-prob gradients."""
        probe = PolicyGradientSums(
            discount=self.discount,
            by_time=state.by_time if self.baseline == "per_time_step" else None,
            horizon=state.horizon if self.baseline == "per_time_step" else 0,
            by_value=state.by_value if len(state.by_value) else None,
            value=self.baseline == "value",
            squares=self.baseline == "variance_optimal",
            entropy=self.entropy_bonus > 0,
            center=_expected_return(state),
        )
        population = problem.population(Point(state.parameters), self.population_size(problem))
        return replace(population, probes=(probe,))

    def tell(
        self, problem: Problem, state: ReinforceState, population: Population, episodes: Episodes
    ) -> ReinforceState:
        """Step along the gradient; fit the next generation's baseline."""
        center = _expected_return(state)
        state = replace(
            state,
            generation=state.generation + 1,
            gradient_norm=math.nan,
            return_mean=math.nan,
            return_std=math.nan,
        )
        sums = episodes.sums
        valid = int(sums["episode_count"][0])
        left_out = int(np.count_nonzero(~np.isnan(episodes.episode_return))) - valid
        if left_out:
            warnings.warn(
                f"reinforce leaves {left_out} of {len(episodes.episode_return)} episodes out: an "
                "observation or a sum of returns in them is not finite",
                Notice,
                stacklevel=2,
            )
        if not valid:
            return state
        returns = Returns.of(sums, center)
        with np.errstate(over="ignore", invalid="ignore"):
            gradient = self._gradient(sums, returns) / valid
            norm = float(np.linalg.norm(gradient))
        if not math.isfinite(norm) or not math.isfinite(returns.std):
            warnings.warn(
                "nothing is learnt of a generation: the sums of its returns are too large",
                Notice,
                stacklevel=2,
            )
            return state
        change, adam = self.learning_rate * gradient, state.adam
        if self.optimiser == "adam":
            change, adam = adam.step(gradient, self.learning_rate)
        return replace(
            state,
            parameters=state.parameters + change,
            adam=adam,
            by_time=_mean_by_time(sums) if self.baseline == "per_time_step" else state.by_time,
            by_value=_fit_value(sums) if self.baseline == "value" else state.by_value,
            gradient_norm=norm,
            return_mean=returns.mean,
            return_std=returns.std,
        )

    def _gradient(self, sums: Mapping[str, FloatArray], returns: Returns) -> FloatArray:
        """Σ_i Σ_t s_t (G_t - b), of the sums Σ s_t and Σ s_t A_t about a centre c, (d,).

        With A_t = G_t - b_t - c, where b_t is a baseline of the generation before or 0,
        Σ s_t (G_t - b_t - b) = Σ s_t A_t - (b - c) Σ s_t for any further baseline b.
        """
        grad, grad_return = sums["grad"], sums["grad_return"]
        centered = self.baseline in ("batch_mean", "variance_optimal") or (
            self.standardize and self.baseline != "none"
        )
        gradient: FloatArray
        # How far returns are from their mean, or from 0: the root of the mean square.
        spread = returns.std if centered else math.hypot(returns.std, returns.mean)
        if spread <= returns.rounding:
            # Without this Adam would walk as far on rounding errors as on anything else.
            gradient = np.zeros_like(grad)
        elif self.baseline == "variance_optimal":
            square = sums["grad_square"]
            # b_j - c = Σ s_j² A/Σ s_j²
            best = sums["grad_square_return"] / np.where(square > 0, square, 1.0)
            gradient = grad_return - best * grad
        elif centered:  # b the mean
            gradient = grad_return - (returns.mean - returns.center) * grad
        else:  # b = 0
            gradient = grad_return + returns.center * grad
        if self.standardize and returns.std > returns.rounding:
            gradient = gradient / returns.std
        if self.entropy_bonus:
            gradient = gradient + self.entropy_bonus * sums["entropy_grad"]
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


@dataclass(frozen=True)
class Returns:
    """G_t - b_t over all steps of a generation.

    Attributes:
        mean: of them.
        std: their standard deviation.
        center: about which their sums were taken.
        size: mean of |G_t|.
    """

    mean: float
    std: float
    center: float
    size: float

    @classmethod
    def of(cls, sums: Mapping[str, FloatArray], center: float) -> Returns:
        """From the sums about a centre."""
        steps = sums["return_count"][0]
        with np.errstate(over="ignore", invalid="ignore"):
            shift = sums["return_sum"][0] / steps
            # E[(A - E A)²] = E[A²] - (E A)², exact enough about a centre near the mean.
            variance = sums["return_square_sum"][0] / steps - np.square(shift)
            std = np.sqrt(np.maximum(variance, 0.0))
            size = sums["return_size"][0] / steps
        return cls(center + float(shift), float(std), center, float(size))

    @property
    def rounding(self) -> float:
        """What a spread must exceed to be more than rounding error."""
        return max(ROUNDING * self.size, CANCELLED * abs(self.mean - self.center))


def _expected_return(state: ReinforceState) -> float:
    """Where the next returns less their baseline are expected."""
    if len(state.by_time) or len(state.by_value) or not math.isfinite(state.return_mean):
        return 0.0
    return state.return_mean


def _mean_by_time(sums: Mapping[str, FloatArray]) -> FloatArray:
    """Mean return-to-go of every time step that was reached."""
    reached = sums["time_count"] > 0
    return sums["time_sum"][reached] / sums["time_count"][reached]


def _fit_value(sums: Mapping[str, FloatArray]) -> FloatArray:
    """Ridge regression of returns-to-go on the value features, each scaled to length 1.

    (D⁻¹ΦᵀΦD⁻¹ + λI) D w = D⁻¹ΦᵀG, where D holds the lengths of the columns of Φ. Unscaled,
    the cube of the time would leave nothing of the others beside the ridge.
    """
    gram = sums["value_gram"]
    lengths = np.sqrt(np.diag(gram))
    scale = np.where(lengths > 0, lengths, 1.0)
    scaled = gram / np.outer(scale, scale) + RIDGE * np.eye(len(gram))
    return np.linalg.solve(scaled, sums["value_target"] / scale) / scale
