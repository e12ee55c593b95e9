"""What REINFORCE needs of an episode: scores and returns-to-go, as sums of fixed size.

| name | Williams 1992; Peters & Schaal 2008, "Reinforcement learning of motor skills" |
|---|---|
| discount | γ |
| returns-to-go | G_t = Σ_{k≥t} γ^{k-t} r_k |
| score | ∇ log π(a_t | x_t) |
| baseline | b_t, subtracted from G_t |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from distes.policies.base import Policy
from distes.policies.scored import ScoredPolicy, SquaredScores
from distes.population import Trace, normalised
from distes.types import FloatArray

Sums = Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class ScoreSums:
    """Sums over the steps of an episode, from which a policy gradient is made.

    Attributes:
        discount: γ.
        by_time: (H,) baseline of each time step, from earlier generations; None for none,
            and an empty one to report returns by time for the next generation.
        horizon: H, time steps that are reported; 0 for none.
        by_value: (p,) of a linear value function, likewise.
        value: whether to report what fits a value function.
        squares: whether to report the scores' squares.
        entropy: whether to report the gradient of the entropy.
    """

    discount: float = 1.0
    by_time: FloatArray | None = None
    horizon: int = 0
    by_value: FloatArray | None = None
    value: bool = False
    squares: bool = False
    entropy: bool = False

    @property
    def records(self) -> frozenset[str]:
        """All there is."""
        return frozenset({"observations", "actions", "rewards"})

    def sums(self, trace: Trace, policy: Policy, frozen: Sums) -> Sums:
        """Reduce an episode."""
        if not isinstance(policy, ScoredPolicy):
            raise TypeError(f"{type(policy).__name__} has no scores")
        seen = normalised(trace.observations, frozen)
        steps = len(trace.rewards)
        returns = returns_to_go(trace.rewards, self.discount)
        advantages = returns - self._baseline(seen, steps)

        def scores(weights: FloatArray) -> FloatArray:
            if not steps:
                return np.zeros(policy.num_parameters)
            return policy.log_prob_grad(trace.parameters, seen, trace.actions, weights)

        sums = {
            "score": scores(np.ones(steps)),
            "score_return": scores(advantages),
            "return_count": np.array([float(steps)]),
            "return_sum": np.array([advantages.sum()]),
            "return_square_sum": np.array([(advantages**2).sum()]),
        }
        if self.squares:
            sums |= _squares(policy, trace, seen, advantages)
        if self.entropy:
            none = np.zeros(steps)
            sums["entropy_gradient"] = (
                policy.log_prob_grad(
                    trace.parameters, seen, trace.actions, none, entropy_weights=np.ones(steps)
                )
                if steps
                else np.zeros(policy.num_parameters)
            )
        if self.horizon:
            counted, summed = np.zeros(self.horizon), np.zeros(self.horizon)
            within = min(steps, self.horizon)
            counted[:within], summed[:within] = 1.0, returns[:within]
            sums |= {"time_count": counted, "time_sum": summed}
        if self.value:
            features = value_features(seen, steps)
            sums |= {
                "value_gram": np.einsum("ti,tj->ij", features, features),
                "value_target": np.einsum("ti,t->i", features, returns),
            }
        return sums

    def _baseline(self, seen: FloatArray, steps: int) -> FloatArray:
        if self.by_value is not None:
            values: FloatArray = np.einsum("ti,i->t", value_features(seen, steps), self.by_value)
            return values
        if self.by_time is not None and len(self.by_time):
            # Beyond the last known step its value stands for the rest.
            return self.by_time[np.minimum(np.arange(steps), len(self.by_time) - 1)]
        return np.zeros(steps)


def _squares(policy: Policy, trace: Trace, seen: FloatArray, advantages: FloatArray) -> Sums:
    if not isinstance(policy, SquaredScores):
        raise TypeError(f"{type(policy).__name__} has no squares of scores")
    if not len(advantages):
        nothing = np.zeros(policy.num_parameters)
        return {"score_square": nothing, "score_square_return": nothing}
    weighed = (np.ones(len(advantages)), advantages)
    plain, with_return = (
        policy.log_prob_grad_squares(trace.parameters, seen, trace.actions, each)
        for each in weighed
    )
    return {"score_square": plain, "score_square_return": with_return}


def returns_to_go(rewards: FloatArray, discount: float) -> FloatArray:
    """Discounted sums of the rewards from each step on, (T,).

    >>> returns_to_go(np.array([1.0, 2.0, 4.0]), 0.5)
    array([3., 4., 4.])
    """
    out = np.empty(len(rewards))
    total = 0.0
    for t in range(len(rewards) - 1, -1, -1):
        total = float(rewards[t]) + discount * total
        out[t] = total
    return out


def value_features(observations: FloatArray, steps: int) -> FloatArray:
    """Features of a linear value function, (T, 2k + 4).

    Observation and its squares, time and its powers, a constant (Duan et al. 2016,
    "Benchmarking deep reinforcement learning for continuous control").
    """
    time = np.arange(steps)[:, None] / 100.0
    clipped = np.clip(observations, -10.0, 10.0)
    return np.hstack([clipped, clipped**2, time, time**2, time**3, np.ones((steps, 1))])
