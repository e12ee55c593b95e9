"""What an environment's kernel is, and what a policy's; and all that a kernel is written with.

Array, Kernel, jit, normal, random, rounded and uniform of this module are enough for one's own;
docs/kernels.md is the guide.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from distes.engines.kernels.jit import jit
from distes.engines.kernels.random import normal, random, uniform
from distes.types import Array, FloatArray

__all__ = [
    "Actor",
    "Array",
    "FloatArray",
    "Kernel",
    "jit",
    "normal",
    "random",
    "rounded",
    "uniform",
]

EMPTY = np.empty(0)

KERNEL_FUNCTIONS = ("reset", "observe", "step", "show", "inform")
"""Functions of a kernel that are compiled."""


class Kernel(ABC):
    """An environment as functions of small arrays, which numba compiles.

    A subclass is made with the environment's own arguments and refuses, with a `TypeError`
    or `UsageError`, those it does not honour. Its functions are static: all they know lies
    in their arguments. They do the environment's arithmetic in its own order and its own
    precision, or results differ.

    Attributes:
        entry_point: the environment that it stands for, as Gymnasium's registry has it.
        num_states: numbers that describe the environment between two steps.
        num_contexts: numbers of a context that ``reset(options={"context": ...})`` imposes
            and its ``info["context"]`` shows; 0 for none.
        num_info: numbers of the final info, in the order of ``info_names``.
        info_names: keys of the final info.
        constants: what the functions read of the environment's arguments.
        step_work: what a step takes in products of two numbers, generously, beside those of the
            policy.
        exact: whether its episodes are the environment's in every bit, on every machine. Then a
            run may begin with the environment while the kernel compiles. Each class says so
            itself.
    """

    entry_point: ClassVar[str] = ""
    num_states: ClassVar[int]
    num_contexts: ClassVar[int] = 0
    info_names: ClassVar[tuple[str, ...]] = ()
    constants: FloatArray = EMPTY
    step_work: ClassVar[int] = 250
    exact: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        """Begin an episode.

        Args:
            state: (num_states,) zeros, written.
            generator: for `distes.engines.kernels.random`, seeded as the environment's own is.
            context: (num_contexts,) imposed, or (0,): then the environment draws its own.
            constants: as given.
        """

    @staticmethod
    @abstractmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        """Write what the environment shows, rounded to the precision it shows it in.

        Args:
            state: (num_states,).
            constants: as given.
            observation: (k,) written; the number of a Discrete observation, from 0.
        """

    @staticmethod
    @abstractmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        """Take a step.

        Args:
            state: (num_states,) changed.
            action: (a,) clipped and rounded to the action space's precision; the number of
                a Discrete action.
            generator: as it was left.
            constants: as given.

        Returns:
            The reward, and whether the episode is over.
        """

    @staticmethod
    def show(state: Array, constants: Array, context: Array) -> None:
        """Write the context that the reset shows, (num_contexts,)."""

    @staticmethod
    def inform(state: Array, constants: Array, info: Array) -> None:
        """Write the final info, (num_info,); NaN for what is absent."""

    def correct_first(self, states: FloatArray, observations: FloatArray) -> None:
        """Correct first observations in numpy, where they differ from `observe`.

        Args:
            states: (m, num_states) after `reset`.
            observations: (m, k) of `observe`, changed.
        """

    def check_contexts(self, contexts: FloatArray) -> None:
        """Refuse contexts that the environment refuses.

        Args:
            contexts: (m, num_contexts) to be imposed.

        Raises:
            UsageError: as its ``reset`` does.
        """


Choose = Callable[[Array, Array, Array, Array, Array, Array], None]
"""What an actor does; see `Actor`."""


@dataclass(frozen=True)
class Actor:
    """A policy as functions of small arrays.

    Attributes:
        make_choose: (sizes) gives choose: (parameters, observation, settings, memory, generator,
            choice) writes a choice; memory is zeros when an episode begins.
        decode: (choice, settings, action) makes an action of it.
        sizes: whole numbers that it is compiled for.
        settings: numbers that both read.
        num_memory: numbers that choose keeps within an episode.
        num_choices: numbers of a choice.
        num_actions: numbers of an action.
        scaling: centre that is subtracted from encoded observations first, and factor that they
            are multiplied with then, (2, k); None for neither.
        samples: whether it needs the policy's generator, and choices are what is recorded.
        exact: whether its actions are those of ``bind`` in every bit, on every machine.
    """

    make_choose: Callable[[tuple[int, ...]], Choose]
    decode: Callable[..., Any]
    sizes: tuple[int, ...]
    num_choices: int = 1
    num_actions: int = 1
    settings: FloatArray = field(default_factory=lambda: EMPTY)
    num_memory: int = 0
    scaling: FloatArray | None = None
    samples: bool = False
    exact: bool = False


@jit
def rounded(value: float) -> float:
    """Round to float32, as an array of that type does."""
    return np.float64(np.float32(value))
