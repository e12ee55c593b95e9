"""What REINFORCE needs of an episode: log-prob gradients and returns, as sums of fixed size.

| name | Williams 1992; Peters & Schaal 2008, "Reinforcement learning of motor skills" |
|---|---|
| discount | γ |
| returns-to-go | G_t = Σ_{k≥t} γ^{k-t} r_k |
| log-prob gradient | ∇ log π(a_t | x_t) |
| baseline | b_t, subtracted from G_t |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np

from distes.policies.base import Policy
from distes.policies.log_probs import LogProbGradSummer, LogProbGradSums, StochasticPolicy
from distes.population.folding import Sums
from distes.population.records import Trajectory, normalise
from distes.types import FloatArray


@dataclass(frozen=True, eq=False)
class PolicyGradientSums:
    """Sums over the steps of an episode, from which a policy gradient is made.

    An episode with a sum that is not finite (of an observation, say) reports zeros.

    Attributes:
        discount: γ.
        by_time: (H,) baseline of each time step, from earlier generations; None for none,
            and an empty one to report returns by time for the next generation.
        horizon: H, time steps that are reported; 0 for none.
        by_value: (p,) of a linear value function, likewise.
        value: whether to report what fits a value function.
        squares: whether to report the squares of log-prob gradients.
        entropy: whether to report the gradient of the entropy.
        center: subtracted from G_t - b_t in all sums, so that squares do not cancel.
    """

    discount: float = 1.0
    by_time: FloatArray | None = None
    horizon: int = 0
    by_value: FloatArray | None = None
    value: bool = False
    squares: bool = False
    entropy: bool = False
    center: float = 0.0
    records: ClassVar[frozenset[str]] = frozenset({"observations", "actions", "rewards"})

    def sums(self, trajectory: Trajectory, policy: Policy, frozen: Sums) -> Sums:
        """Reduce an episode.

        Returns:
            ``grad`` and ``grad_return`` (d,), log-prob gradients weighted by 1 and by
            A_t = G_t - b_t - center; ``grad_square`` and ``grad_square_return``, their
            squares likewise; ``entropy_grad`` (d,);
            ``episode_count``, ``return_count`` (steps), ``return_sum`` Σ A_t,
            ``return_square_sum`` Σ A_t², ``return_size`` Σ |G_t|, (1,) each; ``time_count``
            and ``time_sum`` (H,) of G_t; ``value_gram`` (p, p) and ``value_target`` (p,).
        """
        if len(trajectory.rewards):
            with np.errstate(over="ignore", invalid="ignore"):
                found = self._sum_steps(trajectory, policy, frozen)
            if all(np.isfinite(each).all() for each in found.values()):
                return found
        return self._zero_sums(trajectory, policy)

    def _sum_steps(self, trajectory: Trajectory, policy: Policy, frozen: Sums) -> Sums:
        seen = normalise(trajectory.observations, frozen)
        steps = len(trajectory.rewards)
        returns = sum_returns_to_go(trajectory.rewards, self.discount)
        advantages = returns - self._baseline(seen, steps) - self.center
        weights = np.stack([np.ones(steps), advantages])
        gradients = self._sum_log_prob_grads(
            trajectory, cast("StochasticPolicy", policy), seen, weights
        )
        sums = {
            "grad": gradients.gradients[0],
            "grad_return": gradients.gradients[1],
            "episode_count": np.ones(1),
            "return_count": np.array([float(steps)]),
            "return_sum": np.array([advantages.sum()]),
            "return_square_sum": np.array([np.square(advantages).sum()]),
            "return_size": np.array([np.abs(returns).sum()]),
        }
        if gradients.squares is not None:
            sums["grad_square"], sums["grad_square_return"] = gradients.squares
        if gradients.entropy is not None:
            sums["entropy_grad"] = gradients.entropy
        if self.horizon:
            counts, totals = np.zeros(self.horizon), np.zeros(self.horizon)
            within = min(steps, self.horizon)
            counts[:within], totals[:within] = 1.0, returns[:within]
            sums |= {"time_count": counts, "time_sum": totals}
        if self.value:
            features = value_features(seen, steps)
            sums |= {
                "value_gram": np.einsum("ti,tj->ij", features, features),
                "value_target": np.einsum("ti,t->i", features, returns),
            }
        return sums

    def _sum_log_prob_grads(
        self,
        trajectory: Trajectory,
        policy: StochasticPolicy,
        seen: FloatArray,
        weights: FloatArray,
    ) -> LogProbGradSums:
        episode = (trajectory.parameters, seen, trajectory.actions)
        # Not by isinstance: for a protocol that takes as long as a small network's pass.
        if hasattr(policy, "sum_log_prob_grads"):
            summer = cast("LogProbGradSummer", policy)
            return summer.sum_log_prob_grads(
                *episode, weights, squares=self.squares, entropy=self.entropy
            )
        if self.squares or self.entropy:
            raise TypeError(f"{type(policy).__name__} has no sum_log_prob_grads")
        return LogProbGradSums(np.stack([policy.log_prob_grad(*episode, each) for each in weights]))

    def _zero_sums(self, trajectory: Trajectory, policy: Policy) -> Sums:
        """Zeros, of the shapes that an episode's sums have."""
        gradients = ["grad", "grad_return"]
        gradients += ["grad_square", "grad_square_return"] if self.squares else []
        gradients += ["entropy_grad"] if self.entropy else []
        numbers = ("episode_count", "return_count", "return_sum", "return_square_sum")
        shapes = dict.fromkeys(gradients, (policy.num_parameters,))
        shapes |= dict.fromkeys((*numbers, "return_size"), (1,))
        if self.horizon:
            shapes |= dict.fromkeys(("time_count", "time_sum"), (self.horizon,))
        sums = {name: np.zeros(shape) for name, shape in shapes.items()}
        if self.value:
            size = value_features(trajectory.observations[:0], 0).shape[1]
            sums |= {"value_gram": np.zeros((size, size)), "value_target": np.zeros(size)}
        return sums

    def _baseline(self, seen: FloatArray, steps: int) -> FloatArray:
        if self.by_value is not None:
            values: FloatArray = np.einsum("ti,i->t", value_features(seen, steps), self.by_value)
            return values
        if self.by_time is not None and len(self.by_time):
            # Beyond the last known step its value stands for the rest.
            return self.by_time[np.minimum(np.arange(steps), len(self.by_time) - 1)]
        return np.zeros(steps)


def sum_returns_to_go(rewards: FloatArray, discount: float) -> FloatArray:
    """Discounted sums of the rewards from each step on, G_t = r_t + γ G_{t+1}, (T,).

    >>> sum_returns_to_go(np.array([1.0, 2.0, 4.0]), 0.5)
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
