"""What strategies that learn from sampled actions ask of a policy."""

from __future__ import annotations

from distes.errors import UsageError
from distes.policies.scored import ScoredPolicy
from distes.strategies.base import Problem


def policy_of(problem: Problem, strategy: str) -> ScoredPolicy:
    """Give the problem's policy as one that samples and has gradients.

    Raises:
        UsageError: it does not sample, or has no gradients.
    """
    policy = problem.policy
    name = type(policy).__name__
    if not policy.stochastic:
        raise UsageError(
            f"{strategy} learns from sampled actions, and the policy ({name}) always takes the "
            "same: use policy softmax or sigmoid for Discrete actions, gaussian for Box"
        )
    if not isinstance(policy, ScoredPolicy):
        raise UsageError(
            f"{strategy} needs a policy whose log-probabilities have gradients, which "
            f"{name} lacks: use softmax, sigmoid or gaussian"
        )
    return policy
