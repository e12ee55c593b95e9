"""Where an episode's context comes from: its reset, or a distribution of the user's.

A context is a function of the episode's seed, like everything else in an episode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from distes.errors import EpisodeError, UsageError, unknown
from distes.policies.spaces import ObservationEncoder
from distes.seeds import context_generator, context_uniform
from distes.signals import is_request_to_stop
from distes.types import Array, FloatArray, IntArray

ContextSampler = Callable[[Generator], Any]  # (the episode's generator) -> context (k,)
ContextChoice = str | ContextSampler  # one of `NAMES`, or a sampler
NAMES = ("observation", "observation:INDICES", "info", "uniform")

EXAMPLES = 8  # contexts drawn to find one that a task can be tried with


@dataclass(frozen=True)
class ContextSource:
    """What a task says of its contexts.

    Attributes:
        choice: None without contexts.
        low: (k,) least values; with ``uniform`` contexts are drawn from there up to ``high``.
        high: (k,) greatest values.
    """

    choice: ContextChoice | None
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None

    def __post_init__(self) -> None:
        """Refuse a choice that is none, and bounds that bound nothing."""
        if isinstance(self.choice, str):
            kind, _, chosen = self.choice.partition(":")
            known = kind in ("observation", "info", "uniform")
            if not known or (chosen and kind != "observation"):
                raise unknown("context", self.choice, NAMES)
            if ":" in self.choice:
                self._indices()
        if self.choice is None and (self.low is not None or self.high is not None):
            raise UsageError(
                "context_low and context_high are given without context: say where contexts "
                "come from, for example context = uniform"
            )
        if self.choice == "uniform" and (self.low is None or self.high is None):
            raise UsageError("context 'uniform' needs context_low and context_high")
        if (self.low is None) != (self.high is None):
            raise UsageError("context_low and context_high belong together: give both or none")
        if self.low is not None and self.high is not None:
            if len(self.low) != len(self.high) or not self.low:
                raise UsageError(
                    f"context_low has {len(self.low)} numbers, context_high {len(self.high)}: "
                    "give one for each component of the context"
                )
            bounds = np.array([self.low, self.high])
            if not (np.isfinite(bounds).all() and (bounds[0] <= bounds[1]).all()):
                raise UsageError(
                    f"context_low {list(self.low)} is not below context_high {list(self.high)}"
                )

    @property
    def name(self) -> str:
        """The choice, or the sampler's name."""
        if callable(self.choice):
            return getattr(self.choice, "__name__", "a sampler")
        return str(self.choice)

    @property
    def sampled(self) -> bool:
        """Whether contexts are drawn before the reset, which is told of them."""
        return self.choice == "uniform" or callable(self.choice)

    def choose_names(self, observations: list[str] | None) -> list[str] | None:
        """Choose the names of a context's components where they are an observation's numbers.

        Args:
            observations: names of these, or None.
        """
        if observations is None or not str(self.choice).startswith("observation"):
            return None
        indices = self._indices()
        return observations if indices is None else [observations[i] for i in indices]

    def sample(self, seeds: IntArray) -> FloatArray:
        """Draw the contexts of episodes, (m,) seeds -> (m, k).

        Raises:
            UsageError: the sampler's contexts are not finite vectors of one length.
            Exception: what the sampler raises.
        """
        drawn, lost = self.try_sampling(seeds, None)
        for error in lost.values():
            raise error
        return drawn

    def try_sampling(
        self, seeds: IntArray, size: int | None
    ) -> tuple[FloatArray, dict[int, BaseException]]:
        """Draw the contexts of episodes, some of which may be lost to a sampler's fault.

        Args:
            seeds: (m,).
            size: k where it is known.

        Returns:
            Contexts (m, k), NaN in rows of lost episodes, and the faults by row.

        Raises:
            UsageError: the sampler's contexts are not vectors of one length.
        """
        if not callable(self.choice):
            low, high = np.array(self.low, dtype=np.float64), np.array(self.high, dtype=np.float64)
            return low + (high - low) * context_uniform(seeds, len(low)), {}
        if size is None and self.low is not None:
            size = len(self.low)
        rows: dict[int, FloatArray] = {}
        lost: dict[int, BaseException] = {}
        for i, seed in enumerate(seeds.tolist()):
            try:
                rows[i] = check_context(self.choice(context_generator(seed)), size)
            except EpisodeError as error:
                lost[i] = error
            except UsageError:
                raise
            except BaseException as error:
                if is_request_to_stop(error):
                    raise
                lost[i] = error
        sizes = {len(row) for row in rows.values()}
        if len(sizes) > 1:
            raise UsageError("the context sampler gives contexts of different lengths")
        contexts = np.full((len(seeds), sizes.pop() if sizes else size or 0), np.nan)
        for i, row in rows.items():
            contexts[i] = row
        return contexts, lost

    def example(self) -> FloatArray:
        """Draw a context to try a task with, (k,), though a sampler may fail now and then.

        Raises:
            UsageError: it always fails.
        """
        drawn, lost = self.try_sampling(np.arange(EXAMPLES), None)
        if len(lost) < len(drawn):
            found: FloatArray = drawn[min(set(range(len(drawn))) - set(lost))]
            return found
        error = lost[0]
        if isinstance(error, UsageError):
            raise error
        said = " ".join(str(error).split())
        raise UsageError(
            f"the context sampler {self.name} fails: {type(error).__name__}: {said}"
        ) from error

    def read(self, observation: FloatArray, info: Any, size: int | None) -> FloatArray:
        """Read an episode's context from what its reset gave, of length ``size`` if known.

        Raises:
            UsageError: there is none, it has another length, or it is not finite.
        """
        if self.choice == "info":
            if "context" not in info:
                raise UsageError(
                    "context 'info' needs info['context'] of reset, and the environment gives "
                    f"{', '.join(map(repr, info)) or 'an empty info'}"
                )
            return check_context(info["context"], size)
        indices = self._indices()
        if indices is None:
            return check_context(observation, size)
        if max(indices) >= len(observation):
            raise UsageError(
                f"context '{self.choice}' asks for component {max(indices)} of an observation "
                f"with {len(observation)} components, counted from 0"
            )
        return check_context(observation[list(indices)], size)

    def settle(
        self,
        name: str,
        see: Callable[[Any], FloatArray],
        reset: tuple[Any, Any],
        asked: Array | None,
        size: int | None,
    ) -> FloatArray:
        """Settle an episode's context once it is reset.

        Args:
            name: of the environment.
            see: from `encoder`.
            reset: the observation and the info that it gave.
            asked: the context that it was asked for, if any was.
            size: k where it is known.

        Raises:
            UsageError: as `read`; or the environment shows another context than it was
                asked for.
        """
        observation, info = reset
        if self.choice is None or self.sampled:
            assert asked is not None  # noqa: S101 - drawn or imposed, or there is none to note
            if "context" in info:
                self._refuse_deaf(name, check_context(info["context"], len(asked)), asked)
            return asked
        shown = self.read(see(observation), info, size)
        if asked is not None:
            self._refuse_deaf(name, shown, asked)
        return shown

    def settle_all(
        self, name: str, observations: FloatArray, shown: FloatArray, asked: FloatArray | None
    ) -> tuple[FloatArray, dict[int, EpisodeError]]:
        """Settle the contexts of many episodes at once; see `settle`.

        Args:
            name: of the environment.
            observations: (m, k') first observations, flat.
            shown: (m, c) contexts that resets show; c = 0 for none.
            asked: (m, k) what was asked for, if anything was.

        Returns:
            The contexts (m, k), and by row the faults of those that are not finite.

        Raises:
            UsageError: as `settle`.
        """
        told = shown.shape[1] > 0
        lost: dict[int, EpisodeError] = {}
        finite = np.isfinite(shown).all(axis=1) & np.isfinite(observations).all(axis=1)
        # What else is wrong with one is wrong with all.
        for i in [*np.flatnonzero(finite)[:1].tolist(), *np.flatnonzero(~finite).tolist()]:
            reset: Any = (observations[i], {"context": shown[i]} if told else {})
            row = None if asked is None else asked[i]
            try:
                self.settle(name, lambda seen: seen, reset, row, None)
            except EpisodeError as error:
                lost[i] = error
        if self.choice is None or self.sampled:
            assert asked is not None  # noqa: S101 - drawn or imposed, or there is none to note
            settled = asked
        elif self.choice == "info":
            settled = shown
        else:
            indices = self._indices()
            settled = observations if indices is None else observations[:, list(indices)]
        if lost and asked is None:
            settled = settled.copy()
            settled[list(lost)] = np.nan
        return settled, lost

    def _refuse_deaf(self, name: str, shown: Array, asked: Array) -> None:
        """Refuse an environment that shows another context, beyond rounding to float32."""
        if self.low is not None and self.high is not None:
            size = np.abs([self.low, self.high]).max(axis=0)
        else:
            size = np.abs(asked).max()
        if not np.all(np.abs(shown - asked) <= 1e-6 * np.minimum(size, 1) + 1e-5 * np.abs(asked)):
            raise UsageError(
                f"{name} was asked for the context {asked.tolist()} and shows {shown.tolist()}: "
                'it does not take up reset(options={"context": ...})'
            )

    def _indices(self) -> tuple[int, ...] | None:
        """Components of the observation; None for all."""
        assert isinstance(self.choice, str)  # noqa: S101 - samplers read nothing
        _, colon, chosen = self.choice.partition(":")
        if not colon:
            return None
        parts = [part.strip() for part in chosen.split(",")]
        if not all(part.isdigit() for part in parts):
            raise UsageError(
                f"context '{self.choice}' is not observation:INDICES, for example observation:4,5"
            )
        return tuple(int(part) for part in parts)

    def encoder(self, space: Any) -> Callable[[Any], FloatArray]:
        """How observations of a space are made flat before a context is read from them."""
        return ObservationEncoder(space, False).encode


def _convert_to_array(context: Any) -> FloatArray:
    try:
        return np.atleast_1d(np.array(context, dtype=np.float64))
    except (TypeError, ValueError):
        shown = " ".join(repr(context).split())[:60]
        raise UsageError(f"the context {shown} is not a vector of numbers") from None


def check_context(context: Any, size: int | None) -> FloatArray:
    """Take a context as a finite vector.

    Raises:
        UsageError: it is something else.
    """
    row = _convert_to_array(context)
    if row.ndim != 1 or len(row) == 0 or size not in (None, len(row)):
        due = "(k,)" if size is None else f"({size},)"
        raise UsageError(f"a context has shape {row.shape}, {due} is due")
    if not np.isfinite(row).all():
        raise EpisodeError(f"the context {row.tolist()} is not finite")
    return row


def parse_contexts(contexts: Any, size: int, name: str) -> FloatArray:
    """Take contexts that a user imposes, (k,) or (m, k) -> (m, k).

    Args:
        contexts: of one episode, or of several.
        size: k.
        name: of the task.

    Raises:
        UsageError: they have another shape, are not finite, or the task has no contexts.
    """
    if size == 0:
        raise UsageError(f"{name} has no contexts: leave out the context that is given")
    rows = _convert_to_array(contexts)
    if rows.ndim > 2 or rows.size == 0 or rows.shape[-1] != size:
        raise UsageError(
            f"a context of shape {rows.shape} is given, and a context of {name} has {size} "
            f"number{'s' if size > 1 else ''}: ({size},) is due, or (m, {size}) for several"
        )
    rows = rows.reshape(-1, size)
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise UsageError(f"the context {rows[bad.argmax()].tolist()} is not finite")
    return rows
