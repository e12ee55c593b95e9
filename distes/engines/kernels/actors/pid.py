"""PID controllers."""

from __future__ import annotations

import math

import numpy as np

from distes.engines.kernels.actors import layers
from distes.engines.kernels.actors.observations import is_plain, scaling_of
from distes.engines.kernels.jit import jit
from distes.engines.kernels.kernel import Actor, Choose
from distes.policies.pid import PidPolicy
from distes.types import Array

DT, LOG_ERROR, OFFSET, MOST, LIMIT, SETPOINT = 0, 1, 2, 3, 4, 5
"""Places in the settings; those of the actions' box follow the setpoint."""


def make_choose(sizes: tuple[int, ...]) -> Choose:
    """Act on the errors: u = offset + Kp e + Ki ∫e dt + Kd de/dt, one for each action.

    Memory is a flag that an episode has begun, errors, earlier errors, and the integrals.
    """

    @jit
    def choose(
        parameters: Array, seen: Array, settings: Array, memory: Array, rng: Array, choice: Array
    ) -> None:
        size, count = sizes[0], sizes[1]
        block = count * size
        errors, earlier = memory[1 : 1 + size], memory[1 + size : 1 + 2 * size]
        for j in range(size):
            errors[j] = settings[SETPOINT + j] - seen[j]
        if settings[LOG_ERROR] != 0.0:
            errors[0] = math.copysign(math.log1p(abs(errors[0])), errors[0])
        if memory[0] == 0.0:
            for j in range(size):
                earlier[j] = errors[j]
            memory[0] = 1.0
        dt, most, limit = settings[DT], settings[MOST], settings[LIMIT]
        for i in range(count):
            action, total = settings[OFFSET], memory[1 + 2 * size + i]
            for j in range(size):
                at = i * size + j
                total += parameters[block + at] * errors[j] * dt
                rate = (errors[j] - earlier[j]) / dt
                action += parameters[at] * errors[j] + parameters[2 * block + at] * rate
            total = min(max(total, -most), most)
            memory[1 + 2 * size + i] = total
            choice[i] = min(max(action + total, -limit), limit)
        for j in range(size):
            earlier[j] = errors[j]

    return choose


@jit
def decode(choice: Array, settings: Array, action: Array) -> None:
    """Clip and round."""
    layers.decode_box(choice, settings[len(settings) - 2 - 4 * len(choice) :], action)


def actor(policy: PidPolicy) -> Actor | None:
    """The policy as a kernel."""
    given, size, count = policy.settings, policy.encoder.size, policy.head.num_outputs
    box = layers.box_settings(policy.head)
    if box is None or not is_plain(policy.encoder):
        return None
    setpoint = [*given.setpoint, *[0.0] * (size - len(given.setpoint))]
    numbers = [given.dt, float(given.log_error), given.offset, given.integral_limit, given.limit]
    return Actor(
        make_choose,
        decode,
        sizes=(size, count),
        num_choices=count,
        num_actions=count,
        settings=np.concatenate([numbers, setpoint, box]),
        num_memory=1 + 2 * size + count,
        scaling=scaling_of(policy.encoder),
        exact=True,
    )
