"""What a search is made of where its user leaves that open: it follows from the task.

The choices are those that did best in measurements (docs/results.md). They are made before a
run begins and written down with it: another version's choices change no run that has begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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

AUTO = "auto"
"""The name that leaves a choice to this module."""

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


def choose_policy(task: Task, *, may_be_table: bool) -> PolicySpec:
    """Choose a policy by the spaces of an environment.

    Args:
        task: the environment.
        may_be_table: whether the strategy is open, too, and can be one that fills tables.

    Raises:
        UsageError: no policy takes these observations.
    """
    seen, done = task.read_spaces()
    if may_be_table and isinstance(seen, Discrete) and isinstance(done, Discrete):
        return Tabular() if seen.n * done.n <= LARGEST else Linear()
    if isinstance(seen, Box) and ObservationEncoder(seen).size <= FEW_OBSERVATIONS:
        return MLP(hidden=HIDDEN, rescale_actions=has_bounds(done))
    return Linear()


def choose_method(task: AnyTask, policy: Policy) -> Method:
    """Choose a strategy for a task and the policy built for it, and how it is to be used."""
    if isinstance(policy, TabularPolicy):
        return Method(TabularCEM(unvisited="kept"))
    if task.num_contexts:
        return Method(CREPS())
    size = policy.num_parameters
    if not isinstance(task, Task):
        return Method(CMAES(covariance="full" if size <= FULL_COVARIANCE else "separable"))
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
        normalize_observations=is_network or has_bounds(task.read_spaces()[0]),
    )
