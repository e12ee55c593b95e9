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
from typing import Annotated

import numpy as np
from annotated_types import Ge

from distes.errors import UsageError
from distes.population.features import FeatureChoice
from distes.population.records import Episodes, Population, Purpose, Status
from distes.seeds import noise_key, strategy_generator
from distes.strategies.base import Problem
from distes.strategies.creps import CREPS
from distes.strategies.numerics import gaussian_process
from distes.strategies.numerics.gaussian_process import GaussianProcess
from distes.strategies.numerics.moments import symmetric_root
from distes.strategies.parts import model_rollouts, upper_level
from distes.strategies.parts.gaussian_refit import Refitting
from distes.strategies.parts.model_rollouts import Imagination, RewardModel, StartModel
from distes.strategies.parts.relative_entropy import RelativeEntropyState
from distes.strategies.parts.transitions import Transitions, collect_transitions
from distes.strategies.parts.upper_level import Samples
from distes.types import FloatArray, PositiveInt

_CONTEXTS = 4
"""Word that keys the generator of artificial contexts."""

_IMAGINED_NOISE = 1
"""Stream of the imagined candidates' noise, apart from the real ones'."""


@dataclass(frozen=True)
class ModelMetrics:
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
        upper: CREPS's state; its generation counts updates.
        contexts: (N, k) seen in real episodes.
        steps: real steps that the model knows.
        model: of a step; None before the first.
        metrics: of the last generation.
    """

    generation: int
    upper: RelativeEntropyState
    contexts: FloatArray
    steps: Transitions | None = None
    model: GaussianProcess | None = None
    metrics: ModelMetrics = field(default_factory=ModelMetrics)


@dataclass(frozen=True)
class GPREPS(Refitting[ModelBasedState]):
    """Contextual REPS in a model that Gaussian processes learn from few real episodes.

    A generation's ``population`` is its real episodes: one, unless asked otherwise. The
    observation has to be the environment's state. Artificial contexts come from the task's
    own range (context_low, context_high) or, without one, from a Gaussian fitted to those
    seen, which few episodes know poorly. Needs ``pip install 'distes[gp]'``. Settings besides
    those of `strategies.parts.gaussian_refit.Refitting`:

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
        dual_features: of the value function, as of CREPS.
        policy_features: of the policy's mean, as of CREPS.
    """

    reward: RewardModel = field(kw_only=True)
    first_observation: StartModel | None = None
    horizon: PositiveInt = 200
    samples: PositiveInt = 300
    trajectories: PositiveInt = 1
    updates: PositiveInt = 3
    max_steps: Annotated[int, Ge(2), "at least 2"] = 100
    dual_features: FeatureChoice = "quadratic"
    policy_features: FeatureChoice = "affine"

    @cached_property
    def _creps(self) -> CREPS:
        """The update, with the settings that it has here."""
        own = {each.name for each in fields(self)}
        shared = [each.name for each in fields(CREPS) if each.name in own]
        return CREPS(**{name: getattr(self, name) for name in shared})

    def check(self, problem: Problem) -> None:
        """Refuse a task without states to model, and what CREPS refuses."""
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
        super().check(problem)
        self.refuse_few(problem, self.samples, what="samples")

    def default_population(self, problem: Problem) -> int:
        """One real episode."""
        return 1

    def init(self, problem: Problem) -> ModelBasedState:
        """Start with CREPS's policy, and no model."""
        return ModelBasedState(
            generation=0,
            upper=self._creps.init(problem),
            contexts=np.empty((0, problem.num_contexts)),
        )

    def ask(self, problem: Problem, state: ModelBasedState) -> Population:
        """Try the upper policy in the environment, a few times."""
        # Keyed by the generation, not by updates: a failed try is not repeated as it was.
        policy = upper_level.build_policy(problem, state.upper, state.generation)
        return problem.population(policy, self.population_size(problem))

    def tell(
        self, problem: Problem, state: ModelBasedState, population: Population, episodes: Episodes
    ) -> ModelBasedState:
        """Learn the model from real episodes, then the policy from imagined ones."""
        state = replace(state, generation=state.generation + 1)
        rows = np.flatnonzero(episodes.status == Status.OK)
        trajectories = problem.trajectories(population, episodes, rows)
        fresh = collect_transitions(trajectories)
        if fresh is None or episodes.contexts is None:
            return state
        # A reward model that does not fit is refused here: workers would only see it fail.
        model_rollouts.call_reward_model(
            self.reward, fresh.observations, fresh.actions, fresh.following
        )
        whole = [i for i, trajectory in enumerate(trajectories) if len(trajectory.observations)]
        contexts = episodes.contexts[rows[whole]]
        firsts = np.stack([trajectories[i].observations[0] for i in whole])
        model_rollouts.refuse_other_starts(self.first_observation, contexts, firsts)
        steps = fresh if state.steps is None else state.steps.append(fresh)
        steps = steps.thin(self.max_steps)
        state = replace(
            state,
            contexts=np.concatenate([state.contexts, contexts]),
            steps=steps,
            metrics=_assess_model(state.model, fresh),
            # One step alone shows nothing that varies.
            model=gaussian_process.fit_processes(steps.inputs, steps.changes)
            if len(steps) > 1
            else None,
        )
        for _ in range(self.updates):
            state = self._update_policy(problem, state, population)
        return state

    def learn(self, state: ModelBasedState, samples: Samples) -> ModelBasedState:
        """Update the upper policy, as CREPS does."""
        return replace(state, upper=self._creps.learn(state.upper, samples))

    def _update_policy(
        self, problem: Problem, state: ModelBasedState, told: Population
    ) -> ModelBasedState:
        """Update the upper policy on an imagined population, with the real one's statistics."""
        if state.model is None:
            return state
        at = state.upper.generation
        contexts = self._draw_contexts(problem, state)
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
        policy = upper_level.build_policy(problem, state.upper, at)
        population = Population(
            replace(policy, key=noise_key(problem.seed, at, _IMAGINED_NOISE)),
            self.samples,
            contexts=contexts,
            task=model_rollouts.build_imagined_task(imagination, contexts),
            purpose=Purpose.MODEL,
        )
        episodes = problem.run(population)
        samples = upper_level.collect_samples(population, episodes, contextual=True)
        mean = float(samples.returns.mean()) if len(samples) else math.nan
        state = self.learn(state, samples)
        return replace(state, metrics=replace(state.metrics, imagined_return=mean))

    def _draw_contexts(self, problem: Problem, state: ModelBasedState) -> FloatArray:
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
        contexts: FloatArray = seen.mean(axis=0) + normals @ symmetric_root(covariance)
        return contexts

    def solution(self, problem: Problem, state: ModelBasedState) -> Population:
        """Deploy the mean: a function of the context."""
        return self._creps.solution(problem, state.upper)

    def metrics(self, state: ModelBasedState) -> dict[str, float]:
        """CREPS's diagnostics, those of the model, and what the policy is imagined to get."""
        return {
            **self._creps.metrics(state.upper),
            "model_log_likelihood": state.metrics.log_likelihood,
            "model_rmse": state.metrics.rmse,
            "model_steps": 0 if state.steps is None else len(state.steps),
            "imagined_return_mean": state.metrics.imagined_return,
        }

    def stop(self, state: ModelBasedState) -> str | None:
        """Stop where CREPS would."""
        return self._creps.stop(state.upper)


def _assess_model(model: GaussianProcess | None, steps: Transitions) -> ModelMetrics:
    """Tell how well the model foresaw steps that it has not learnt."""
    if model is None:
        return ModelMetrics()
    mean, variance = model.predict(steps.inputs)
    apart = (mean - steps.changes) / model.target_spread
    return ModelMetrics(
        log_likelihood=gaussian_process.log_likelihood(mean, variance, steps.changes),
        rmse=float(np.sqrt((apart**2).mean())),
    )
