"""What every task has: fitness from a candidate's episodes, contexts, and a policy."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from distes.errors import UsageError
from distes.policies.base import Policy, PolicySpec
from distes.registry import check_fields
from distes.tasks.contexts import ContextChoice, ContextSource
from distes.types import Array, FloatArray, IntArray

# mean, min, cvar:0.25, or a function (n, K) returns -> (n,) fitness
FitnessRule = str | Callable[[Array], Array]


@dataclass(frozen=True)
class AnyTask(ABC):
    """What tasks have in common: fitness from a candidate's episodes, and contexts.

    Attributes:
        fitness: rule over a candidate's episode returns.
        reward_shift: subtracted from every step's reward in fitness (an alive bonus,
            say); logged returns stay as the environment gives them.
        context: what upper-level policies see of an episode. ``observation`` is the first
            one, ``observation:4,5`` components of it; ``info`` is ``info["context"]`` of
            reset; ``uniform`` is drawn between context_low and context_high; a function
            (generator) -> context draws it. Drawn contexts are passed to the environment
            as ``reset(options={"context": ...})``.
        context_low: least contexts, one number for each component.
        context_high: greatest contexts.
    """

    fitness: FitnessRule = field(default="mean", kw_only=True)
    reward_shift: float = field(default=0.0, kw_only=True)
    context: ContextChoice | None = field(default=None, kw_only=True)
    context_low: tuple[float, ...] | None = field(default=None, kw_only=True)
    context_high: tuple[float, ...] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse a fitness rule or a context that is none, and fields outside their types."""
        _parse_fitness(self.fitness)
        _ = self.contexts
        check_fields(self)

    @property
    @abstractmethod
    def name(self) -> str:
        """A name for people."""

    @cached_property
    def contexts(self) -> ContextSource:
        """Where contexts come from."""
        return ContextSource(self.context, self.context_low, self.context_high)

    @cached_property
    def num_contexts(self) -> int:
        """Length k of a context; 0 without contexts.

        Raises:
            UsageError: the task does not give the contexts it promises.
        """
        if self.context is None:
            return 0
        size = len(self._trial_reset[0])
        bound = None if self.context_low is None else len(self.context_low)
        if bound not in (None, size):
            raise UsageError(
                f"context_low has {bound} number{'s' if bound != 1 else ''}, and a context of "
                f"{self.name} {size}"
            )
        return size

    @property
    def confirms_contexts(self) -> bool:
        """Whether nothing is asked for that the task may pass over without a word.

        Raises:
            UsageError: the task does not give the contexts it promises.
        """
        return not self.contexts.sampled or self._trial_reset[1]

    @cached_property
    def _trial_reset(self) -> tuple[FloatArray, bool]:
        """The context of one reset, and whether the reset itself showed it."""
        return self._try_reset(self.contexts.example() if self.contexts.sampled else None)

    @abstractmethod
    def _try_reset(self, asked: FloatArray | None) -> tuple[FloatArray, bool]:
        """Try one reset, and give its context, and whether the reset itself showed it.

        Args:
            asked: a context to ask for, if contexts are sampled.

        Raises:
            UsageError: there is none, or it is not the one that was asked for.
        """

    def read_names(self) -> dict[str, list[str] | None]:
        """Ask what the task's numbers are called.

        Returns:
            ``context_names`` (k,); of an environment ``observation_names``, of a function
            ``parameter_names``; None or nothing for those that have no names.
        """
        return {}

    @property
    def reward_threshold(self) -> float | None:
        """The return at which the task counts as solved, where it says so."""
        return None

    def step_limit(self) -> int | None:
        """Steps after which an episode is truncated, where there is a limit."""
        return None

    @abstractmethod
    def build_policy(self, spec: PolicySpec | None) -> Policy:
        """Build the policy for this task's spaces.

        Raises:
            UsageError: the spaces or the specification do not fit.
        """

    def compute_fitness(
        self, returns: FloatArray, lengths: IntArray, counts: IntArray
    ) -> FloatArray:
        """Give candidates their fitness, by the rule over their episodes' returns.

        Args:
            returns: (m,) sorted by candidate; NaN = failed.
            lengths: (m,) steps.
            counts: (n,) episodes of each candidate.

        Returns:
            (n,) fitness; NaN for a candidate with a failed episode or none at all.
        """
        rule = _parse_fitness(self.fitness)
        values = returns - self.reward_shift * lengths if self.reward_shift else returns
        starts = np.cumsum(counts) - counts
        fitness = np.full(len(counts), np.nan)
        for count in np.unique(counts[counts > 0]):
            rows = np.flatnonzero(counts == count)
            table = values[starts[rows, None] + np.arange(count)]
            valid = ~np.isnan(table).any(axis=1)
            if not valid.any():
                continue
            found = np.asarray(rule(table[valid]))
            if found.shape != (valid.sum(),):
                raise UsageError(
                    f"the fitness function returned shape {found.shape} for returns of shape "
                    f"{table[valid].shape}: it must give one number per row, shape ({valid.sum()},)"
                )
            fitness[rows[valid]] = found
        return np.where(np.isfinite(fitness), fitness, np.nan)


def _parse_fitness(rule: FitnessRule) -> Callable[[Array], Array]:
    if callable(rule):
        return rule
    if rule == "mean":
        return lambda table: table.mean(axis=1)
    if rule == "min":
        return lambda table: table.min(axis=1)
    kind, _, number = rule.partition(":")
    if kind == "cvar":
        try:
            share = float(number)
        except ValueError:
            share = math.nan
        if 0 < share <= 1:
            return lambda table: np.sort(table, axis=1)[
                :, : max(1, math.ceil(share * table.shape[1]))
            ].mean(axis=1)
    raise UsageError(
        f"fitness '{rule}' is not one of mean, min, cvar:SHARE with 0 < SHARE <= 1 "
        "(cvar:0.25 is the mean of the worst quarter)"
    )
