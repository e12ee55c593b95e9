"""Acrobot whose context is the velocities it starts with."""

from __future__ import annotations

from distes.engines.kernels.environments.acrobot import START, Acrobot
from distes.engines.kernels.kernel import rounded
from distes.engines.kernels.random import uniform
from distes.tasks.envs.contextual_acrobot import CONTEXTS
from distes.types import Array


class ContextualAcrobot(Acrobot):
    """State: as Acrobot's."""

    entry_point = "distes.tasks.envs.contextual_acrobot:ContextualAcrobot"
    exact = True
    num_contexts = 2

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        for i in range(4):
            state[i] = rounded(uniform(generator, -START, START))
        for i in range(len(context)):
            state[2 + i] = rounded(context[i])

    @staticmethod
    def show(state: Array, constants: Array, context: Array) -> None:
        context[0], context[1] = state[2], state[3]

    check_contexts = staticmethod(CONTEXTS.check)
