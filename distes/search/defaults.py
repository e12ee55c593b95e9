"""What a search is made of where its user leaves that open: it follows from the task.

The choices are those that did best in measurements (docs/decisions/019). They are made before a
run begins and written down with it: another version's choices change no run that has begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.spaces import Box, Discrete

from distes.policies.base import Policy, PolicySpec
from distes.policies.linear import Linear
from distes.policies.mlp import MLP
from distes.policies.network import NetworkPolicy
from distes.policies.spaces import ObservationEncoder, has_bounds
from distes.policies.tabular import LARGEST, Tabular, TabularPolicy
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

HIDDEN = (16,)
"""The network in its place: with so few inputs it has few parameters."""

FULL_COVARIANCE = 400
"""Most parameters of which a full covariance is learnt: its cost is below that of episodes."""

POPULATION = 32
"""Of `CMAES`, whose own number is meant for returns without noise."""

GENERATION_ENV_STEPS = 5_000
"""While policies fail at once, more of them cost next to nothing, and find a better start."""

NETWORK_STD = 0.5
"""Of `CMAES` at the start, where parameters start as a network's weights and not at zero."""


@dataclass(frozen=True)
class Method:
    """A strategy, and how its candidates are tried, in the words of `Settings`."""

    strategy: Strategy[Any]
    population: int | None = None
    common_seeds: bool = False
    generation_env_steps: int | None = None
    normalize_observations: bool = False


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


def choose_method(task: AnyTask, spaces: Spaces | None, policy: Policy) -> Method:
    """Choose a strategy, and how it is to be used.

    Args:
        task: what is to be solved.
        spaces: of an environment; a function has none.
        policy: built for the task.
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
    if size > FULL_COVARIANCE:  # pairs meet the same episodes already
        return Method(PGPE(), normalize_observations=True)
    is_network = isinstance(policy, NetworkPolicy) and bool(policy.hidden)
    return Method(
        CMAES(initial_std=NETWORK_STD) if is_network else CMAES(),
        population=POPULATION,
        generation_env_steps=GENERATION_ENV_STEPS,
        common_seeds=True,  # else the luckiest start leads, and not the best candidate
        # A full covariance learns the scales of a linear policy itself. Running statistics help
        # it where observations have bounds; of others, as a simulator's forces, they keep
        # shifting as policies get better.
        normalize_observations=is_network or has_bounds(spaces[0]),
    )
