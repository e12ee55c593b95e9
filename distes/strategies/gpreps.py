"""Gaussian process relative entropy policy search (Kupcsik et al. 2013).

Real episodes teach a forward model; the upper-level policy learns from many imagined ones.

| name | Kupcsik, Deisenroth, Peters & Neumann 2013, "Data-efficient generalization of robot skills with contextual policy search" |
|---|---|
| parameters | ω, of the lower-level policy |
| samples | M, artificial pairs of context and parameters |
| trajectories | L, for each pair |
| model | p(x' | x, u), a Gaussian process for each component |
| epsilon | ε |
"""  # noqa: E501 - a title

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np

from distes.errors import UsageError, require_at_least
from distes.population.features import FeatureChoice
from distes.population.records import Episodes, Population, Purpose, Status
from distes.seeds import noise_key, strategy_generator
from distes.strategies.base import Problem, Strategy
from distes.strategies.creps import CREPS
from distes.strategies.numerics import gaussian_process
from distes.strategies.numerics.gaussian_process import GaussianProcess
from distes.strategies.numerics.moments import symmetric_root
from distes.strategies.parts import model_rollouts, upper_level
from distes.strategies.parts.model_rollouts import Imagination, RewardModel, StartModel
from distes.strategies.parts.relative_entropy import UpperState
from distes.strategies.parts.transitions import Transitions, transitions_of
from distes.types import FloatArray

_CONTEXTS = 4
"""Word that keys the generator of artificial contexts."""

_IMAGINED_NOISE = 1
"""Stream of the imagined candidates' noise, apart from the real ones'."""


@dataclass(frozen=True)
class ModelFigures:
    """Diagnostics of the model and of what was imagined last; NaN before the first.

    Attributes:
        log_likelihood: of a step of the newest episodes, before they were learnt, in nats.
        rmse: of its prediction, in units of the changes' spread.
        imagined_return: mean over the last imagined population.
    """

    log_likelihood: float = math.nan
    rmse: float = math.nan
    imagined_return: float = math.nan


@dataclass(frozen=True, eq=False)
class ModelBasedState:
    """The upper-level policy, the model, and what both were learnt from.

    Attributes:
        generation: generations told, the index of the next one.
        upper: the policy's own state; its generation counts updates.
        contexts: (N, k) seen in real episodes.
        steps: real steps that the model knows.
        model: of a step; None before the first.
        figures: of the last generation.
    """

    generation: int
    upper: UpperState
    contexts: FloatArray
    steps: Transitions | None = None
    model: GaussianProcess | None = None
    figures: ModelFigures = field(default_factory=ModelFigures)


@dataclass(frozen=True)
class GPREPS(Strategy[ModelBasedState]):
    """Contextual REPS in a model that Gaussian processes learn from few real episodes.

    A generation's ``population`` is its real episodes: one, unless asked otherwise. The
    observation has to be the environment's state. Artificial contexts come from the task's
    own range (context_low, context_high) or, without one, from a Gaussian fitted to those
    seen, which few episodes know poorly. Needs ``pip install 'distes[gp]'``.

    Attributes:
        reward: module:function of the reward, (observations (m, o), actions (m, ...), next
            observations (m, o)) -> (rewards (m,), whether the episode ends (m,)), for
            example distes.tasks.envs.rewards:cart_pole.
        first_observation: module:function of where episodes start, contexts (m, k) ->
            observations (m, o); none where the context is the first observation.
        horizon: steps after which an imagined episode ends; as the environment's limit.
        samples: artificial pairs of context and parameters for each update.
        trajectories: imagined for each pair; their mean return counts.
        updates: of the policy in each generation, each on a new imagined population.
        max_steps: real steps that the model learns from at most; of more, those far from
            each other are kept. Time grows with its square.
        epsilon: bound on the KL divergence of an update, in nats, > 0.
        update: constrained keeps the fitted Gaussian itself within the bound; ml is plain
            weighted maximum likelihood.
        entropy_loss: with constrained, most entropy that an update takes, in nats, >= 0;
            none for no limit.
        covariance: full or diagonal.
        initial_mean: where to start, one number for each parameter; none is where the
            policy starts.
        initial_std: at the start, one number or one for each parameter; a parameter with 0
            is frozen where it starts.
        min_std: least standard deviation of what is not frozen, >= 0.
        dual_features: of the value function, as of CREPS.
        policy_features: of the policy's mean, as of CREPS.
    """

    reward: RewardModel = field(kw_only=True)
    first_observation: StartModel | None = None
    horizon: int = 200
    samples: int = 300
    trajectories: int = 1
    updates: int = 3
    max_steps: int = 100
    epsilon: float = 0.5
    update: Literal["constrained", "ml"] = "constrained"
    entropy_loss: float | None = None
    covariance: Literal["full", "diagonal"] = "full"
    initial_mean: tuple[float, ...] | None = None
    initial_std: float | tuple[float, ...] = 1.0
    min_std: float = 0.0
    dual_features: FeatureChoice = "quadratic"
    policy_features: FeatureChoice = "affine"

    def __post_init__(self) -> None:
        """Refuse settings outside their ranges."""
        for name in ("horizon", "samples", "trajectories", "updates"):
            require_at_least(name, getattr(self, name), 1)
        require_at_least("max_steps", self.max_steps, 2)
        _ = self._creps

    @cached_property
    def _creps(self) -> CREPS:
        """The update, with the settings that it has here."""
        own = {each.name for each in fields(self)}
        shared = [each.name for each in fields(CREPS) if each.name in own]
        return CREPS(**{name: getattr(self, name) for name in shared})

    def check(self, problem: Problem) -> None:
        """Refuse a task without states to model, and what CREPS refuses.

        Raises:
            UsageError: one sentence with what was given and what is accepted.
        """
        if not problem.has_trajectories:
            raise UsageError(
                "gpreps learns a model of an environment's steps, and the task is a function "
                "without any: use creps"
            )
        if not problem.num_contexts:
            raise UsageError(
                "gpreps imagines episodes from their contexts, and the task has none: say where "
                "they come from, for example context = observation"
            )
        size = problem.policy.observation_size
        if self.first_observation is None and problem.num_contexts != size:
            raise UsageError(
                f"a context has {problem.num_contexts} components and an observation {size}: give "
                "first_observation, a function of contexts"
            )
        if not gaussian_process.available():
            raise UsageError(
                "gpreps fits its model with scikit-learn, which is not installed: "
                "pip install 'distes[gp]'"
            )
        imagining = self._imagining(problem)
        self._creps.check_start(imagining)
        self._creps.refuse_few(imagining, self.samples, "samples", "policy_features")

    def init(self, problem: Problem) -> ModelBasedState:
        """Start with CREPS's policy, and no model."""
        return ModelBasedState(
            generation=0,
            upper=self._creps.init(problem),
            contexts=np.empty((0, problem.num_contexts)),
        )

    def ask(self, problem: Problem, state: ModelBasedState) -> Population:
        """Try the upper policy in the environment, a few times."""
        own = state.upper
        # Keyed by the generation, not by updates: a failed try is not repeated as it was.
        at = state.generation
        drawn = upper_level.gaussian(problem, own.weights, own.covariance, own.features, at)
        return problem.population(drawn, problem.population_size or 1)

    def tell(
        self,
        problem: Problem,
        state: ModelBasedState,
        population: Population,
        episodes: Episodes,
    ) -> ModelBasedState:
        """Learn the model from real episodes, then the policy from imagined ones."""
        state = replace(state, generation=state.generation + 1)
        rows = np.flatnonzero(episodes.status == Status.OK)
        trajectories = problem.trajectories(population, episodes, rows)
        fresh = transitions_of(trajectories)
        if fresh is None or episodes.contexts is None:
            return state
        model_rollouts.check_reward(self.reward, fresh)
        whole = [i for i, trajectory in enumerate(trajectories) if len(trajectory.observations)]
        contexts = episodes.contexts[rows[whole]]
        firsts = np.stack([trajectories[i].observations[0] for i in whole])
        model_rollouts.refuse_other_starts(self.first_observation, contexts, firsts)
        state = replace(
            state,
            contexts=np.concatenate([state.contexts, contexts]),
            figures=_predicted(state.model, fresh),
        )
        steps = fresh if state.steps is None else state.steps.joined(fresh)
        state = replace(state, steps=steps.thinned(self.max_steps))
        state = replace(state, model=_fitted(state.steps))
        for _ in range(self.updates):
            state = self._updated(problem, state, population)
        return state

    def _updated(
        self, problem: Problem, state: ModelBasedState, told: Population
    ) -> ModelBasedState:
        """Update the upper policy on an imagined population."""
        if state.model is None:
            return state
        own, at = state.upper, state.upper.generation
        contexts = self._contexts(problem, state)
        size = problem.policy.observation_size
        imagination = Imagination(
            model=state.model,
            policy=problem.policy,
            reward=self.reward,
            first_observation=self.first_observation,
            horizon=self.horizon,
            trajectories=self.trajectories,
            observation_mean=told.frozen.get("observation_mean", np.zeros(size)),
            observation_std=told.frozen.get("observation_std", np.ones(size)),
        )
        drawn = upper_level.gaussian(problem, own.weights, own.covariance, own.features, at)
        population = Population(
            replace(drawn, key=noise_key(problem.seed, at, _IMAGINED_NOISE)),
            self.samples,
            contexts=contexts,
            task=model_rollouts.imagined_task(imagination, contexts),
            purpose=Purpose.MODEL,
        )
        samples = upper_level.samples_of(population, problem.run(population), contextual=True)
        mean = float(samples.returns.mean()) if len(samples) else math.nan
        return replace(
            state,
            upper=self._creps.learn(own, samples),
            figures=replace(state.figures, imagined_return=mean),
        )

    def _contexts(self, problem: Problem, state: ModelBasedState) -> FloatArray:
        """Draw artificial contexts, (M, k): from the task's range, else as those seen."""
        generator = strategy_generator(problem.seed, _CONTEXTS, state.upper.generation)
        known = problem.context_range
        if known is not None:
            low, high = known
            return low + (high - low) * generator.random((self.samples, len(low)))
        seen = state.contexts
        count, width = seen.shape
        apart = seen - seen.mean(axis=0)
        scatter = apart.T @ apart / max(count - 1, 1)
        # With few contexts correlations are chance: shrunk towards none.
        share = count / (count + width + 1)
        covariance = share * scatter + (1 - share) * np.diag(np.diag(scatter))
        normals = generator.standard_normal((self.samples, width))
        drawn: FloatArray = seen.mean(axis=0) + normals @ symmetric_root(covariance)
        return drawn

    def solution(self, problem: Problem, state: ModelBasedState) -> Population:
        """Deploy the mean: a function of the context."""
        return self._creps.solution(problem, state.upper)

    def metrics(self, state: ModelBasedState) -> dict[str, float]:
        """CREPS's diagnostics, those of the model, and what the policy is imagined to get."""
        return {
            **self._creps.metrics(state.upper),
            "model_log_likelihood": state.figures.log_likelihood,
            "model_rmse": state.figures.rmse,
            "model_steps": 0 if state.steps is None else len(state.steps),
            "imagined_return_mean": state.figures.imagined_return,
        }

    def stop(self, state: ModelBasedState) -> str | None:
        """As CREPS."""
        return self._creps.stop(state.upper)

    def _imagining(self, problem: Problem) -> Problem:
        return cast("Problem", _Imagining(problem, self.samples))


class _Imagining:
    """A problem whose populations are as large as imagined ones."""

    def __init__(self, problem: Problem, samples: int) -> None:
        self._problem = problem
        self.population_size = samples

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)


def _fitted(steps: Transitions | None) -> GaussianProcess | None:
    """A model of the steps; one step alone shows nothing that varies."""
    if steps is None or len(steps) < 2:
        return None
    return gaussian_process.fit(steps.inputs, steps.changes)


def _predicted(model: GaussianProcess | None, steps: Transitions) -> ModelFigures:
    """How well the model foresaw steps that it has not learnt."""
    if model is None:
        return ModelFigures()
    mean, variance = model.predict(steps.inputs)
    apart = (mean - steps.changes) / model.target_spread
    return ModelFigures(
        log_likelihood=gaussian_process.log_likelihood(mean, variance, steps.changes),
        rmse=float(np.sqrt((apart**2).mean())),
    )
