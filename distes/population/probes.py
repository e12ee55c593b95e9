"""What episodes report beyond their return."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from distes.policies import products
from distes.policies.base import Policy
from distes.population.folding import Sums
from distes.population.records import Probe, Trajectory
from distes.types import FloatArray


@dataclass(frozen=True, eq=False)
class ObservationMoments:
    """Count, sum and sum of squares of the observations, about a fixed centre.

    A centre near the mean keeps the sum of squares from cancelling.

    Attributes:
        center: (k,) in the units of the encoded observation.
    """

    center: FloatArray
    records: ClassVar[frozenset[str]] = frozenset({"observations"})

    def sums(self, trajectory: Trajectory, policy: Policy, frozen: Sums) -> Sums:
        """Reduce an episode to ``observation_{count,sum,square_sum}``."""
        shifted = trajectory.observations - self.center
        # As two columns at least: numpy adds a single column pairwise, not in order.
        padded = products.lay_out(shifted)
        size = len(self.center)
        return {
            "observation_count": np.array([float(len(shifted))]),
            "observation_sum": np.add.reduce(padded, axis=0)[:size],
            "observation_square_sum": np.add.reduce(padded * padded, axis=0)[:size],
        }


def report(
    probes: Iterable[Probe], trajectory: Trajectory, policy: Policy, frozen: Sums
) -> dict[str, FloatArray]:
    """Reduce one episode, which has no steps where it failed, by all probes of a population.

    ``frozen`` are the population's statistics.
    """
    return {
        name: np.asarray(value)
        for probe in probes
        for name, value in probe.sums(trajectory, policy, frozen).items()
    }
