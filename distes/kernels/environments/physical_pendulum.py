"""Pendulum whose mass and length are the context."""

from __future__ import annotations

from distes.envs.physical_pendulum import CONTEXTS
from distes.kernels.environments.pendulum import START, Pendulum, swing
from distes.kernels.random import uniform
from distes.types import Array, FloatArray

LOW = tuple(each.low for each in CONTEXTS.components)
HIGH = tuple(each.high for each in CONTEXTS.components)


class PhysicalPendulum(Pendulum):
    """State: as Pendulum's; then mass and length."""

    entry_point = "distes.envs.physical_pendulum:PhysicalPendulum"
    num_states = 4
    num_contexts = 2

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        state[0] = uniform(generator, -START[0], START[0])
        state[1] = uniform(generator, -START[1], START[1])
        for i in range(2):
            state[2 + i] = context[i] if len(context) else uniform(generator, LOW[i], HIGH[i])

    @staticmethod
    def step(
        state: Array, action: Array, generator: Array, constants: Array
    ) -> tuple[float, bool]:
        return swing(state, action[0], constants[0], state[2], state[3], constants[3])

    @staticmethod
    def show(state: Array, constants: Array, context: Array) -> None:
        context[0], context[1] = state[2], state[3]

    def check_contexts(self, contexts: FloatArray) -> None:
        """Refuse pendulums that are out of range."""
        CONTEXTS.check(contexts)
