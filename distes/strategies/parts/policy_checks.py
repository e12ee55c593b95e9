"""What strategies that learn from sampled actions ask of a problem."""

from __future__ import annotations

from distes.errors import UsageError
from distes.policies.log_probs import StochasticPolicy
from distes.population.distributions import Point
from distes.strategies.base import Problem


def policy_of(problem: Problem, strategy: str) -> StochasticPolicy:
    """Give the problem's policy as one that samples and has gradients.

    Raises:
        UsageError: it does not sample, or has no gradients; or the task is a function.
    """
    refuse_functions(problem, strategy)
    policy = problem.policy
    name = type(policy).__name__
    if not policy.stochastic:
        raise UsageError(
            f"{strategy} learns from sampled actions, and the policy ({name}) always takes the "
            "same: use policy softmax or sigmoid for Discrete actions, gaussian for Box"
        )
    if not isinstance(policy, StochasticPolicy):
        raise UsageError(
            f"{strategy} needs a policy whose log-probabilities have gradients, which "
            f"{name} lacks: use softmax, sigmoid or gaussian"
        )
    return policy


def refuse_functions(problem: Problem, strategy: str) -> None:
    """Refuse a function, which is a task without actions."""
    if not problem.has_trajectories:
        raise UsageError(
            f"{strategy} learns from actions, and {problem.task.name} is a function, which takes "
            "none: use a strategy that learns from returns alone, for example cem"
        )


def refuse_common_seeds(problem: Problem, strategy: str) -> None:
    """Refuse seeds that are common to all candidates, which here have the same parameters."""
    if problem.population(Point(problem.start), 2).seed_group > 1:
        raise UsageError(
            f"common_seeds gives all candidates of a generation the same episodes, and {strategy} "
            "tries one policy in all of them, which would act the same: leave it out"
        )
