"""What a search is made of where its user leaves that open: it follows from the task.

The choices are those that did best in measurements (docs/decisions/019). They are made before a
run begins and written down with it: another version's choices change no run that has begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

from distes.policies.base import Policy, PolicySpec
from distes.policies.linear import Linear
from distes.policies.mlp import MLP
from distes.policies.network import NetworkPolicy
from distes.policies.spaces import ObservationEncoder, has_bounds
from distes.policies.tabular import LARGEST, Tabular, TabularPolicy
from distes.strategies.ars import ARS
from distes.strategies.base import Strategy
from distes.strategies.cmaes import CMAES
from distes.strategies.creps import CREPS
from distes.strategies.pgpe import PGPE
from distes.strategies.tabular_cem import TabularCEM
from distes.tasks.base import AnyTask
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask

Spaces = tuple[gym.Space[Any], gym.Space[Any]]

FEW_OBSERVATIONS = 3
"""A linear policy of no more numbers can do too little: it cannot swing a pendulum up."""

HIDDEN = (16, 16)
"""The network in its place: with so few inputs it has few parameters."""

FULL_COVARIANCE = 500
"""Most parameters of which a full covariance is learnt: its cost is below that of episodes."""

POPULATION = 32
"""Of `CMAES`, whose own number is meant for returns without noise."""

NETWORK_POPULATION = 40
"""The same for networks: of fewer candidates some searches never swing a pendulum up."""

GENERATION_ENV_STEPS = 5_000
"""While policies fail at once, more of them cost next to nothing, and find a better start."""

INITIAL_STD = 0.3
"""Of `CMAES` with a policy: of 1, controls are at their bounds at once, and stay there."""

UNSCALED = (1.0, 20.0)
"""Least and greatest range of observations that `HIDDEN` takes as they are: it hardly sees what
moves less, and sees nothing else beside what moves more."""

MANY_OBSERVATIONS = 10
"""From which on `ARS`, which learns no scales, has observations normalised."""


@dataclass(frozen=True)
class Method:
    """A strategy, and how its candidates are tried, in the words of `Settings`."""

    strategy: Strategy[Any]
    population: int | None = None
    common_seeds: bool = False
    generation_env_steps: int | None = None
    normalize_observations: bool = False
    deploy: Literal["best-heldout"] | None = None


def choose_policy(task: Task, spaces: Spaces, *, may_be_table: bool) -> PolicySpec:
    """Choose a policy for an environment.

    Args:
        task: the environment.
        spaces: of its observations and of its actions.
        may_be_table: whether the strategy is open, too, and can be one that fills tables.

    Raises:
        UsageError: no policy takes these observations.
    """
    seen, done = spaces
    if task.num_contexts:  # a rule over contexts is learnt for each parameter: they are to be few
        return Linear()
    if may_be_table and isinstance(seen, Discrete) and isinstance(done, Discrete):
        return Tabular() if seen.n * done.n <= LARGEST else Linear()
    if isinstance(seen, Box) and ObservationEncoder(seen).size <= FEW_OBSERVATIONS:
        return MLP(hidden=HIDDEN, rescale_actions=has_bounds(done))
    return Linear()


def choose_method(
    task: AnyTask, spaces: Spaces | None, policy: Policy, *, from_spread: bool = False
) -> Method:
    """Choose a strategy, and how it is to be used.

    Args:
        task: what is to be solved.
        spaces: of an environment; a function has none.
        policy: built for the task.
        from_spread: whether the search begins with another one's spread.
    """
    if task.num_contexts:
        return Method(CREPS())
    if isinstance(policy, TabularPolicy):
        return Method(TabularCEM(unvisited="kept"))
    size = policy.num_parameters
    if spaces is None:
        noisy = isinstance(task, FunctionTask) and task.noisy
        strategy = CMAES() if size <= FULL_COVARIANCE else CMAES(covariance="separable")
        return Method(strategy, population=POPULATION if noisy else None)
    seen, done = spaces
    # Returns go up and down to the end, a network's most. Held-out scores are means.
    best: Literal["best-heldout"] | None = "best-heldout" if task.fitness == "mean" else None
    if size > FULL_COVARIANCE:  # pairs meet the same episodes already
        return Method(PGPE(), normalize_observations=True, deploy=best)
    hidden = policy.hidden if isinstance(policy, NetworkPolicy) else None
    moves = isinstance(seen, Box) and isinstance(done, Box)
    if hidden == () and moves and not has_bounds(seen) and not from_spread:
        # Simulators of robots. Of few numbers running statistics do harm, while policies fail.
        many = ObservationEncoder(seen).size >= MANY_OBSERVATIONS
        return Method(ARS(), normalize_observations=many, deploy=best)
    population, normalize = POPULATION, has_bounds(seen)
    if hidden:
        population = NETWORK_POPULATION
        normalize = not takes_unscaled(seen)
    return Method(
        CMAES(initial_std=INITIAL_STD),
        population=population,
        generation_env_steps=GENERATION_ENV_STEPS,
        common_seeds=True,  # else the luckiest start leads, and not the best candidate
        normalize_observations=normalize,
        deploy=best,
    )


def takes_unscaled(seen: gym.Space[Any]) -> bool:
    """Whether a network does best with few observations as they are."""
    if not isinstance(seen, Box) or not has_bounds(seen):
        return False
    ranges = seen.high.astype(np.float64) - seen.low
    within = (UNSCALED[0] <= ranges) & (ranges <= UNSCALED[1])
    return ranges.size <= FEW_OBSERVATIONS and bool(within.all())
