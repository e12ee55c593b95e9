"""Deep CEM (after de Boer et al. 2005): imitate the best of a generation's episodes.

| name | the method's usual listing |
|---|---|
| population | sessions per iteration: here, episodes |
| percentile | percentile of the returns from which they are elite |
| epochs, learning_rate, batch_size, l2 | of the fit to the elites' (observation, action) pairs |

The cross-entropy method over policies instead of parameter vectors. The cross entropy from
the elites' actions to the policy's is -1/T Σ_t log π_θ(a_t | x_t), so that minimising it is
climbing their log-likelihood. With a `gaussian` policy that is regression, and the policy's
own noise explores.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from distes.errors import Notice
from distes.population.distributions import Point
from distes.population.records import Episodes, Population, Trajectory, normalise
from distes.seeds import strategy_generator
from distes.strategies.base import Problem
from distes.strategies.numerics.optimisers import AdamState
from distes.strategies.parts import policy_checks
from distes.strategies.parts.elite_episodes import (
    EliteEpisodes,
    pick_by_percentile,
    rows_of_candidates,
)
from distes.strategies.parts.elite_figures import EliteFigures
from distes.types import (
    Array,
    FloatArray,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

_SHUFFLE = 3
"""Word that keys the order of the pairs within an epoch."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """What elites saw and chose, in original order.

    Attributes:
        observations: (T, k) before normalisation: its statistics change between
            generations, and elites may be used in several.
        choices: (T,) or (T, a).
    """

    observations: FloatArray
    choices: Array


@dataclass(frozen=True, eq=False)
class DeepCEMState:
    """The policy, the optimiser, and elites that are used again.

    Attributes:
        generation: generations told, the index of the next one.
        parameters: (d,).
        adam: of the optimiser.
        memory: elites of earlier generations, newest first.
        elites: figures of the last generation's elites.
        loss: mean negative log-likelihood of the last generation's fit, before it; NaN
            where there was none.
        pairs: of that fit.
    """

    generation: int
    parameters: FloatArray
    adam: AdamState
    memory: tuple[Pairs, ...] = ()
    elites: EliteFigures = field(default_factory=EliteFigures)
    loss: float = math.nan
    pairs: int = 0


@dataclass(frozen=True)
class DeepCEM(EliteEpisodes[DeepCEMState]):
    """Fits a stochastic policy to the actions of the best episodes, again and again.

    Attributes:
        epochs: passes over the elites' pairs in each generation.
        learning_rate: of Adam, > 0.
        batch_size: pairs of one step.
        l2: weight of half the squared parameters, biases included, in a batch's summed
            loss, >= 0.
        reuse: generations whose elites are used again.
    """

    default_policy: ClassVar[str] = "sampled"

    epochs: PositiveInt = 1
    learning_rate: PositiveFloat = 1e-3
    batch_size: PositiveInt = 200
    l2: NonNegativeFloat = 1e-4
    reuse: NonNegativeInt = 0

    def check(self, problem: Problem) -> None:
        """Refuse policies that do not sample, or do not know how they depend on parameters."""
        super().check(problem)
        policy_checks.policy_of(problem, "deep_cem")

    def init(self, problem: Problem) -> DeepCEMState:
        """Start from the policy's own parameters."""
        size = problem.num_parameters
        return DeepCEMState(0, np.array(problem.start, np.float64), AdamState.begin(size))

    def ask(self, problem: Problem, state: DeepCEMState) -> Population:
        """One policy, many episodes."""
        return self.sample_episodes(problem, Point(state.parameters))

    def tell(
        self, problem: Problem, state: DeepCEMState, population: Population, episodes: Episodes
    ) -> DeepCEMState:
        """Fit the policy to what the elites did."""
        chosen = pick_by_percentile(episodes.fitness, self.percentile, self.elites_are)
        state = replace(
            state,
            generation=state.generation + 1,
            elites=EliteFigures.of(episodes, episodes.fitness, chosen),
            loss=math.nan,
            pairs=0,
        )
        if len(chosen) == 0:
            return state
        rows = rows_of_candidates(episodes, chosen)
        trajectories = problem.trajectories(population, episodes, rows, ("observations", "actions"))
        new = _collect_pairs(trajectories)
        if new is None:
            return state
        used = (new, *state.memory)
        learnt = self._fit(problem, state, used, population.frozen)
        if learnt is None:
            warnings.warn(
                "the fit to the elites ended in numbers that are not finite: nothing is learnt "
                "of them (use normalize_observations where observations are large)",
                Notice,
                stacklevel=2,
            )
            return state
        return replace(learnt, memory=used[: self.reuse])

    def _fit(
        self,
        problem: Problem,
        state: DeepCEMState,
        used: tuple[Pairs, ...],
        frozen: Mapping[str, FloatArray],
    ) -> DeepCEMState | None:
        """Climb the log-likelihood of pairs; None where that leads to infinity."""
        policy = policy_checks.policy_of(problem, "deep_cem")
        observations = normalise(np.concatenate([each.observations for each in used]), frozen)
        choices = np.concatenate([each.choices for each in used])
        count = len(observations)
        parameters, adam = state.parameters, state.adam
        values = policy.log_prob(parameters, observations, choices)
        loss = -float(values.mean())
        shuffle = strategy_generator(problem.seed, _SHUFFLE, state.generation)
        for _ in range(self.epochs):
            order = shuffle.permutation(count)
            for start in range(0, count, self.batch_size):
                batch = order[start : start + self.batch_size]
                share = np.full(len(batch), 1.0 / len(batch))
                gradient = policy.log_prob_grad(
                    parameters, observations[batch], choices[batch], share
                )
                # Of 1/B [Σ_b log π_θ(a_b | x_b) - l2/2 ‖θ‖²]: the penalty is divided by the
                # batch B, too, as scikit-learn's networks have it.
                gradient -= self.l2 * parameters / len(batch)
                change, adam = adam.step(gradient, self.learning_rate)
                parameters = parameters + change
        if not (np.isfinite(parameters).all() and math.isfinite(loss)):
            return None
        return replace(state, parameters=parameters, adam=adam, loss=loss, pairs=count)

    def solution(self, problem: Problem, state: DeepCEMState) -> Population:
        """Deploy the policy as it is, with its own sampling."""
        return Population(Point(state.parameters), 1)

    def metrics(self, state: DeepCEMState) -> dict[str, float]:
        """Elites, and how well the policy explained them."""
        return {**state.elites.metrics(), "loss": state.loss, "pairs": state.pairs}


def _collect_pairs(trajectories: Sequence[Trajectory]) -> Pairs | None:
    """Put together what can be learnt from; None where there is nothing."""
    found = [trajectory for trajectory in trajectories if len(trajectory.observations)]
    finite = [each for each in found if np.isfinite(each.observations).all()]
    finite = [each for each in finite if np.isfinite(each.actions).all()]
    if len(finite) < len(found):
        warnings.warn(
            f"{len(found) - len(finite)} of {len(found)} elite episodes saw or chose numbers "
            "that are not finite: nothing is learnt of them",
            Notice,
            stacklevel=3,
        )
    if not finite:
        return None
    return Pairs(
        np.concatenate([trajectory.observations for trajectory in finite]),
        np.concatenate([trajectory.actions for trajectory in finite]),
    )
