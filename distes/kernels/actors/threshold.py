"""Threshold policies."""

from __future__ import annotations

import numpy as np

from distes.kernels.actors import layers
from distes.kernels.actors.seeing import center_of, factor_of, plain
from distes.kernels.base import Actor
from distes.kernels.jit import jit
from distes.policies.threshold import ThresholdPolicy
from distes.types import Array


@jit
def choose(
    parameters: Array,
    observation: Array,
    sizes: tuple[int, ...],
    settings: Array,
    memory: Array,
    generator: Array,
    choice: Array,
) -> None:
    """Count the thresholds that are reached."""
    output = 0.0
    for i in range(sizes[0]):
        output += observation[i] * parameters[i]
    output += parameters[sizes[0]] if sizes[1] else 0.0
    reached = 0
    for threshold in settings[1:]:
        if output >= threshold:
            reached += 1
    choice[0] = reached


def actor(policy: ThresholdPolicy) -> Actor | None:
    """The policy as a kernel."""
    if not plain(policy.encoder):
        return None
    return Actor(
        choose,
        layers.numbered,
        sizes=(policy.encoder.size, int(policy.bias)),
        num_choices=1,
        num_actions=1,
        settings=np.array([float(policy.first), *policy.thresholds]),
        center=center_of(policy.encoder),
        factor=factor_of(policy.encoder),
    )
