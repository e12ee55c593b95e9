"""CartPole whose context is where it starts."""

from __future__ import annotations

from distes.engines.kernels.environments.cartpole import START, CartPole
from distes.engines.kernels.random import uniform
from distes.tasks.envs.contextual_cartpole import CONTEXTS
from distes.types import Array


class ContextualCartPole(CartPole):
    """State: as CartPole's."""

    entry_point = "distes.tasks.envs.contextual_cartpole:ContextualCartPole"
    exact = True
    num_contexts = 4

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        for i in range(4):
            state[i] = uniform(generator, -START, START)
        for i in range(len(context)):
            state[i] = context[i]

    @staticmethod
    def show(state: Array, constants: Array, context: Array) -> None:
        for i in range(4):
            context[i] = state[i]

    check_contexts = staticmethod(CONTEXTS.check)
