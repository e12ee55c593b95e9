"""Keeping signals out of work that must not stop half-way.

Python runs a signal's handler between any two instructions of the main thread. A handler
that raises would leave a lock held or a record half queued; one that goes through `defer`
raises after the shielded work instead.
"""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _Shield:
    """How deep the main thread is in shielded work, and what waits for its end."""

    depth = 0
    waiting: Callable[[], None] | None = None


def defer(act: Callable[[], None]) -> None:
    """Act now, or at the end of the shielded work that is under way.

    Args:
        act: raises; called from a signal's handler.
    """
    if _Shield.depth:
        _Shield.waiting = act
    else:
        act()


def shielded(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function end before a deferred signal takes effect."""

    @functools.wraps(function)
    def whole(*args: P.args, **kwargs: P.kwargs) -> T:
        if threading.current_thread() is not threading.main_thread():
            return function(*args, **kwargs)
        _Shield.depth += 1
        try:
            return function(*args, **kwargs)
        finally:
            _Shield.depth -= 1
            if not _Shield.depth and _Shield.waiting is not None:
                act, _Shield.waiting = _Shield.waiting, None
                act()

    return whole


@contextmanager
def keyboard_interrupts() -> Iterator[None]:
    """Defer Ctrl-C where Python's own handler would raise at once."""
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not ours:
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        defer(lambda: signal.default_int_handler(number, frame))

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
