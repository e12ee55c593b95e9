"""Threshold policies."""

from __future__ import annotations

import numpy as np

from distes.engines.kernels.actors import layers
from distes.engines.kernels.actors.observations import is_plain, scaling_of
from distes.engines.kernels.jit import jit
from distes.engines.kernels.kernel import Actor, Choose
from distes.policies.threshold import ThresholdPolicy
from distes.types import Array


def make_choose(sizes: tuple[int, ...]) -> Choose:
    """Count the thresholds that are reached."""

    @jit
    def choose(
        parameters: Array, seen: Array, settings: Array, memory: Array, rng: Array, choice: Array
    ) -> None:
        output = 0.0
        for i in range(sizes[0]):
            output += seen[i] * parameters[i]
        output += parameters[sizes[0]] if sizes[1] else 0.0
        choice[0] = layers.count_reached(settings[1:], output)

    return choose


def actor(policy: ThresholdPolicy) -> Actor | None:
    """The policy as a kernel."""
    if not is_plain(policy.encoder):
        return None
    return Actor(
        make_choose,
        layers.decode_number,
        sizes=(policy.encoder.size, int(policy.bias)),
        settings=np.array([float(policy.first), *policy.thresholds]),
        scaling=scaling_of(policy.encoder),
        exact=True,
    )
