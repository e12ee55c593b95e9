"""Who is told how a search goes."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from distes.errors import Notice, UsageError
from distes.population.statistics import Score
from distes.registry import find
from distes.runs.storage.location import Location
from distes.search.result import Result
from distes.search.settings import Settings


class Observer:
    """Is told how a search goes; subclass what you need."""

    def starting(self, search: Settings) -> None:
        """The settings are accepted; workers are about to start."""

    def note(self, text: str) -> None:
        """Something to know of the run, in a sentence: where its episodes run."""

    def started(self, search: Settings, path: Location, resumed_at: int | None) -> None:
        """The run begins; ``resumed_at`` is the next generation of a resumed run."""

    def asked(self, generation: int, share: Callable[[], float]) -> None:
        """A generation's episodes begin; ``share`` gives the share of them that is answered."""

    def generation(self, row: Mapping[str, Any]) -> None:
        """A generation is done; the row is the one in the generations log."""

    def heldout(self, generation: int, score: Score, target: float | None, confirms: bool) -> None:
        """The solution after a generation was scored on seeds that search never uses.

        ``confirms`` marks the second, fresh batch that follows a score at the target.
        """

    def interrupted(self) -> None:
        """The search ends before its run is complete: by a fault, or by a signal."""

    def finished(self, result: Result) -> None:
        """The run is complete."""


def find_observers(given: Observer | str | Iterable[Observer | str]) -> list[Observer]:
    """Find observers that are named, and make them.

    Args:
        given: observers, or names: a file of `distes.views.observers`, ``module:Class``, or
            what an installed package announces; or one of them.

    Raises:
        UsageError: there is none of that name, or something is no observer.
    """
    several: Any = given if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    found: list[Observer] = []
    for each in several:
        made = find("views.observers", each, Observer)() if isinstance(each, str) else each
        if not isinstance(made, Observer):
            raise UsageError(f"observer {each!r} is no observer, nor the name of one")
        found.append(made)
    return found


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel; a terminal, IPython's too, is none."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class ObserverGroup:
    """Tells several observers; one that raises is told no more, and the search goes on.

    Attributes:
        log_event: where a failure is recorded, once there is a log.
    """

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = list(observers)
        self.log_event: Callable[..., None] | None = None

    def tell(self, occasion: str, *what: Any) -> None:
        """Call a method of each observer.

        Args:
            occasion: the method's name.
            what: its arguments.
        """
        for observer in tuple(self._observers):
            try:
                getattr(observer, occasion)(*what)
            except BrokenPipeError:
                raise  # whoever reads what a command prints has seen enough
            except Exception as error:  # noqa: BLE001 - whatever an observer does
                self._observers.remove(observer)
                name = type(observer).__name__
                if self.log_event is not None:
                    self.log_event(
                        "observer_failed", observer=name, traceback=traceback.format_exc()
                    )
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                with suppress(Notice):  # where warnings are errors
                    warnings.warn(
                        f"the observer {name} failed and is told no more, the search goes on: "
                        f"{reason}",
                        Notice,
                        stacklevel=2,
                    )
