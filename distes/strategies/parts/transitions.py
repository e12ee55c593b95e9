"""What trajectories teach a forward model: which state followed which, after which action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distes.population.records import Trajectory
from distes.strategies.numerics import gaussian_process
from distes.types import Array, FloatArray


@dataclass(frozen=True, eq=False)
class Transitions:
    """Steps of episodes.

    Attributes:
        observations: (n, o) encoded, before normalisation.
        actions: (n, ...) as the environment got them.
        following: (n, o) the observations after the steps.
    """

    observations: FloatArray
    actions: Array
    following: FloatArray

    def __len__(self) -> int:
        """Steps, n."""
        return len(self.observations)

    @property
    def inputs(self) -> FloatArray:
        """What a forward model predicts from, (n, o + a)."""
        return build_model_inputs(self.observations, self.actions)

    @property
    def changes(self) -> FloatArray:
        """What it predicts, (n, o)."""
        return self.following - self.observations

    def append(self, others: Transitions) -> Transitions:
        """Put others behind these steps."""
        return Transitions(
            np.concatenate([self.observations, others.observations]),
            np.concatenate([self.actions, others.actions]),
            np.concatenate([self.following, others.following]),
        )

    def thin(self, count: int) -> Transitions:
        """Keep at most so many steps, far from each other."""
        kept = gaussian_process.choose_spread_out(self.inputs, count)
        return Transitions(self.observations[kept], self.actions[kept], self.following[kept])


def collect_transitions(trajectories: Sequence[Trajectory]) -> Transitions | None:
    """Collect the steps of episodes; None where there is not one.

    A step from or to something that is not finite is left out.
    """
    steps: Transitions | None = None
    for trajectory in trajectories:
        if trajectory.last_observation is None or not len(trajectory.observations):
            continue
        following = np.vstack([trajectory.observations[1:], trajectory.last_observation])
        finite = np.isfinite(np.hstack([trajectory.observations, following])).all(axis=1)
        own = Transitions(
            trajectory.observations[finite], trajectory.actions[finite], following[finite]
        )
        steps = own if steps is None else steps.append(own)
    return steps if steps is not None and len(steps) else None


def build_model_inputs(observations: FloatArray, actions: Array) -> FloatArray:
    """Put observations and actions side by side, (n, o + a).

    A discrete action is its number: the model standardises its inputs, so that how a
    choice of two is coded makes no difference.
    """
    numbers = actions.reshape(len(actions), -1).astype(np.float64)
    return np.column_stack([observations, numbers])
