"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from distes.shield import defer


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived; no `Exception`, and nothing that click would swallow.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        """Remember the signal."""
        super().__init__(signal.Signals(number).name)
        self.signal = number


def _interrupt(number: int, _frame: FrameType | None) -> None:
    # Once: the run is about to save itself. A second Ctrl-C breaks even that off.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    defer(lambda: _raise(number))


def _raise(number: int) -> None:
    raise Interrupted(number)


def listen() -> None:
    """Turn the next SIGINT or SIGTERM into `Interrupted`.

    Called again after Ray has started, which puts a handler of its own in place.
    """
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _interrupt)


@contextmanager
def interruptible() -> Iterator[None]:
    """Listen for a while; afterwards signals do what they did before."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    listen()
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
