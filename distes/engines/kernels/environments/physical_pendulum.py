"""Pendulum whose mass and length are the context."""

from __future__ import annotations

from distes.engines.kernels.environments.pendulum import Pendulum, hang, weigh
from distes.engines.kernels.random import uniform
from distes.tasks.envs.physical_pendulum import CONTEXTS
from distes.types import Array

LOW = tuple(each.low for each in CONTEXTS.components)
HIGH = tuple(each.high for each in CONTEXTS.components)
MASS, LENGTH = 5, 6


class PhysicalPendulum(Pendulum):
    """State: as Pendulum's; then mass and length."""

    entry_point = "distes.tasks.envs.physical_pendulum:PhysicalPendulum"
    exact = True
    num_states = 7
    num_contexts = 2

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        hang(state, generator)
        for i in range(2):
            state[MASS + i] = context[i] if len(context) else uniform(generator, LOW[i], HIGH[i])
        weigh(state, state[MASS], state[LENGTH], constants)

    @staticmethod
    def show(state: Array, constants: Array, context: Array) -> None:
        context[0], context[1] = state[MASS], state[LENGTH]

    check_contexts = staticmethod(CONTEXTS.check)
