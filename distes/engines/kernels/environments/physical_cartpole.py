"""CartPole whose pole's mass and length are the context."""

from __future__ import annotations

from distes.engines.kernels.environments.cartpole import FORCE, START, CartPole, balance
from distes.engines.kernels.random import uniform
from distes.tasks.envs.physical_cartpole import CONTEXTS
from distes.types import Array

LOW = tuple(each.low for each in CONTEXTS.components)
HIGH = tuple(each.high for each in CONTEXTS.components)


class PhysicalCartPole(CartPole):
    """State: as CartPole's; then mass and length of the pole."""

    entry_point = "distes.tasks.envs.physical_cartpole:PhysicalCartPole"
    exact = True
    num_states = 6
    num_contexts = 2

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        for i in range(4):
            state[i] = uniform(generator, -START, START)
        for i in range(2):
            state[4 + i] = context[i] if len(context) else uniform(generator, LOW[i], HIGH[i])

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        force = FORCE if action[0] == 1.0 else -FORCE
        return balance(state, force, state[4], state[5] / 2, constants)

    @staticmethod
    def show(state: Array, constants: Array, context: Array) -> None:
        context[0], context[1] = state[4], state[5]

    check_contexts = staticmethod(CONTEXTS.check)
