"""Ctrl-C and SIGTERM: what a signal may interrupt, and how a process answers one.

Python runs a signal's handler between any two instructions of the main thread. A handler
that raises would leave a lock held or a record half queued; one that goes through `defer`
raises after the shielded work instead. The first signal that asks a run to stop lets it
save itself, the next one ends it at once.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import FrameType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM)

ECHO_S = 0.5
"""Seconds in which a second signal is the first one's echo: `timeout` and other wrappers
signal a process and its group, so that it hears the same request twice."""

_SHOW_CURSOR = b"\x1b[?25h"


class _Shield:
    """How deep the main thread is in shielded work, and what waits for its end."""

    depth = 0
    waiting: Callable[[], None] | None = None


class _Voice:
    """Where `say` writes: to stderr, or into lines that a live display shows."""

    lines: list[str] | None = None


def defer(act: Callable[[], None]) -> None:
    """Act, that is raise, now or at the end of the shielded work; for a signal's handler."""
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
def defer_keyboard_interrupts() -> Iterator[None]:
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


def is_request_to_stop(error: BaseException | None) -> bool:
    """Whether an error is a signal's: raised by its handler, or by code that this interrupted.

    SystemExit, KeyboardInterrupt and their like that code raises of itself are none, and no
    `Exception` is. Python's own handler of Ctrl-C, which leaves no trace, has to be replaced:
    see `defer_keyboard_interrupts`.
    """
    if isinstance(error, Exception):
        return False
    while error is not None:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        for interrupted, handler in pairwise(frames):
            # Python hands the frame that it interrupts to a handler, and to nothing else.
            for given in handler.f_locals.values():
                parts = given if isinstance(given, tuple) else (given,)
                if any(each is interrupted for each in parts):
                    return True
        error = error.__context__
    return False


@contextmanager
def contain_exits() -> Iterator[None]:
    """Make an error of what would end the process, as sys.exit() does; a signal's passes.

    Raises:
        RuntimeError: SystemExit, KeyboardInterrupt or another that is no `Exception` was raised.
    """
    with defer_keyboard_interrupts():
        try:
            yield
        except Exception:
            raise
        except BaseException as error:
            if is_request_to_stop(error):
                raise
            raise RuntimeError(f"{error!r} was raised, which ends no run") from error


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived; no `Exception`, and nothing that click would swallow.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        """Remember the signal."""
        super().__init__(signal.Signals(number).name)
        self.signal = number


def answer(first: Callable[[int], None], again: Callable[[int], None]) -> None:
    """Call ``first`` with the next SIGINT or SIGTERM, ``again`` with later ones but echoes."""
    heard_at: float | None = None

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal heard_at
        now = time.monotonic()
        if heard_at is None:
            heard_at = now
            first(number)
        elif now - heard_at > ECHO_S:
            again(number)

    for each in SIGNALS:
        signal.signal(each, handle)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the next SIGINT or SIGTERM into `Interrupted`; afterwards they do what they did before.

    Not after a signal: the process is on its way out then, and the next one ends it.
    """
    before = {each: signal.getsignal(each) for each in SIGNALS}
    answer(_interrupt, leave)
    interrupted = False
    try:
        yield
    except Interrupted:
        interrupted = True
        raise
    finally:
        if not interrupted:
            for each, handler in before.items():
                signal.signal(each, handler)


@contextmanager
def keep_answer() -> Iterator[None]:
    """Keep this process's answer to SIGTERM while Ray starts, which replaces it by leaving."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def leave(number: int) -> None:
    """End this process at once, as a signal does; whatever was committed stays readable."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream.isatty():
                os.write(stream.fileno(), _SHOW_CURSOR)
        except (OSError, ValueError):  # closed, or no file at all
            continue
    os._exit(128 + number)


def _interrupt(number: int) -> None:
    def stop() -> None:
        raise Interrupted(number)

    say(f"{signal.Signals(number).name}: saving the run; a second one leaves at once")
    defer(stop)


def say_in(lines: list[str] | None) -> None:
    """Let a display that redraws its lines show what `say` says; None is stderr again."""
    _Voice.lines = lines


def say(text: str) -> None:
    """Write a line to stderr from a signal's handler."""
    if _Voice.lines is not None:  # whatever else is written there stays between the redrawn lines
        _Voice.lines.append(text)
        return
    # Not through Python's streams: the signal may have come while they were being written.
    try:
        clear = b"\r\n" if os.isatty(2) else b""
        os.write(2, clear + f"distes: {text}\n".encode())
    except OSError:  # there is no stderr
        pass
