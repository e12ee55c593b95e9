"""Imagined episodes: a policy acts in a learnt forward model instead of an environment.

A state's successor is drawn from what the model predicts, step by step ("trajectory
sampling": Kupcsik et al. 2013), with noise that the episode's seed decides. So an imagined
episode is a pure function of parameters, context and seed, like any other, and workers
evaluate it like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from distes.errors import UsageError
from distes.policies import products
from distes.policies.base import Policy
from distes.seeds import model_generator, policy_generator, splitmix
from distes.strategies.numerics.gaussian_process import GaussianProcess
from distes.strategies.parts.transitions import build_model_inputs
from distes.tasks.function import FunctionTask
from distes.types import Array, FloatArray, IntArray

RewardModel = Callable[[FloatArray, Array, FloatArray], Any]
"""(observations (m, o), actions (m, ...), next observations (m, o)) -> rewards (m,) and
whether each ends its episode (m,)."""

StartModel = Callable[[FloatArray], Any]
"""Contexts (m, k) -> first observations (m, o)."""


@dataclass(frozen=True, eq=False)
class Imagination:
    """Returns of policies in a learnt model: a vectorised, noisy function with contexts.

    Attributes:
        model: predicts changes of the observation from observation and action.
        policy: the lower-level policy.
        reward: the reward model.
        first_observation: contexts to first observations; None where they are the same.
        horizon: steps after which an episode ends.
        trajectories: drawn for each episode; their mean return is its own.
        observation_mean: (o,) what policies have subtracted from observations.
        observation_std: (o,) and what they are divided by.
    """

    model: GaussianProcess
    policy: Policy
    reward: RewardModel
    first_observation: StartModel | None
    horizon: int
    trajectories: int
    observation_mean: FloatArray
    observation_std: FloatArray

    def __call__(self, parameters: FloatArray, contexts: FloatArray, seeds: IntArray) -> FloatArray:
        """Mean returns of episodes, (m,), from (m, d), (m, k) and (m,)."""
        count, each = len(parameters), self.trajectories
        # Apart by their own seeds: trajectories of an episode meet different noise.
        words = np.repeat(seeds, each).astype(np.uint64)
        own = splitmix(words, np.tile(np.arange(each, dtype=np.uint64), count)) >> np.uint64(1)
        noise = [model_generator(int(seed)) for seed in own]
        samplers = [policy_generator(int(s)) if self.policy.stochastic else None for s in own]
        acts = [self.policy.bind(row) for row in parameters for _ in range(each)]
        first = find_first_observations(self.first_observation, contexts)
        observations = np.repeat(first, each, axis=0)
        returns = np.zeros(count * each)
        alive = np.arange(count * each)
        for _ in range(self.horizon):
            seen = (observations - self.observation_mean) / self.observation_std
            actions = np.array(
                [acts[i](row, samplers[i]) for i, row in zip(alive.tolist(), seen, strict=True)]
            )
            mean, variance = self.model.predict(build_model_inputs(observations, actions))
            # Trajectory sampling: x' = x + Δ with Δ ~ N(mean, variance) of the model at (x, u).
            normals = np.array([noise[i].standard_normal(mean.shape[1]) for i in alive.tolist()])
            following = observations + mean + np.sqrt(variance) * normals
            rewards, terminated = call_reward_model(self.reward, observations, actions, following)
            returns[alive] += rewards
            alive, observations = alive[~terminated], following[~terminated]
            if not len(alive):
                break
        table, ones = returns.reshape(count, each), products.lay_out(np.ones((each, 1)))
        return products.multiply(table, ones)[:, 0] / each


def build_imagined_task(imagination: Imagination, contexts: FloatArray) -> FunctionTask:
    """Make the task whose episodes are imagined, with contexts (m, k) that populations impose."""
    return FunctionTask(
        imagination,
        imagination.policy.num_parameters,
        noisy=True,
        vectorised=True,
        context="uniform",
        context_low=tuple(contexts.min(axis=0).tolist()),
        context_high=tuple(contexts.max(axis=0).tolist()),
    )


def call_reward_model(
    reward: RewardModel, observations: FloatArray, actions: Array, following: FloatArray
) -> tuple[FloatArray, Array]:
    """Call a user's reward model on m steps: rewards (m,), and whether episodes end, (m,).

    Raises:
        UsageError: it gives something else.
    """
    answer = reward(observations, actions, following)
    due = (len(observations),)
    try:
        rewards, terminated = answer
        found = np.asarray(rewards, dtype=np.float64), np.asarray(terminated, dtype=bool)
    except (TypeError, ValueError):
        found = np.empty(0), np.empty(0)
    if found[0].shape != due or found[1].shape != due:
        shown = " ".join(repr(answer).split())[:60]
        raise UsageError(
            f"the reward model gave {shown} for {due[0]} steps: it must give rewards and "
            f"whether each step ends its episode, each of shape {due}"
        )
    return found


def find_first_observations(model: StartModel | None, contexts: FloatArray) -> FloatArray:
    """Tell where episodes with these contexts (m, k) start, (m, o)."""
    return contexts if model is None else np.asarray(model(contexts), dtype=np.float64)


def refuse_other_starts(
    model: StartModel | None, contexts: FloatArray, observations: FloatArray
) -> None:
    """Refuse imagined episodes that start elsewhere than real ones, of contexts (m, k).

    Raises:
        UsageError: a first observation, of (m, o), is of another length or, without a model, not
            the context.
    """
    starts = find_first_observations(model, contexts)
    if starts.shape != observations.shape:
        raise UsageError(
            f"first_observation gave shape {starts.shape} for {len(contexts)} contexts: "
            f"{observations.shape} is due"
        )
    if model is None and not np.allclose(starts, observations, rtol=1e-4, atol=1e-6):
        raise UsageError(
            f"the context {contexts[0].tolist()} is not the first observation "
            f"{observations[0].tolist()} of its episode: give first_observation, a function of "
            "contexts"
        )
