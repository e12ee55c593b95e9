"""Mistakes of a user, each told in one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral
from typing import Any


class UsageError(ValueError):
    """What was given cannot work; the message is one sentence for its user."""


class EpisodeError(UsageError):
    """What one episode gave cannot work, where others' may; in a search it is that episode's fault.

    The message is one sentence.
    """


class Notice(RuntimeWarning):
    """Something to know that stops nothing; the message is one sentence."""


class StorageError(OSError):
    """A run could not be written, or read; the message is one sentence with the cause."""


def unknown(kind: str, given: str, accepted: Iterable[str], at_most: int = 12) -> UsageError:
    """Say that a name is unknown, what is accepted, and the nearest match.

    >>> str(unknown("strategy", "cme", ["cem", "icem"]))
    "unknown strategy 'cme': did you mean 'cem'? Accepted: cem, icem."
    """
    names = sorted(accepted)
    lowered = {name.lower(): name for name in reversed(names)}
    near = get_close_matches(given.lower(), list(lowered), n=1, cutoff=0.6)
    shown = ", ".join(names[:at_most]) + (
        f" and {len(names) - at_most} more" if len(names) > at_most else ""
    )
    if not names:
        return UsageError(f"unknown {kind} '{given}'")
    if not near:
        return UsageError(f"unknown {kind} '{given}': accepted are {shown}")
    return UsageError(
        f"unknown {kind} '{given}': did you mean '{lowered[near[0]]}'? Accepted: {shown}."
    )


class RunFailed(RuntimeError):  # noqa: N818 - says what happened to the run
    """A run cannot go on; what was written stays, and the message holds the cause."""


def require_at_least(name: str, value: Any, least: int) -> None:
    """Refuse a number that is too small, or none; None passes.

    Raises:
        UsageError: it is below ``least``, or not a whole number.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
        raise UsageError(f"{name} {value!r} is not a whole number")
    if value is not None and value < least:
        raise UsageError(f"{name} {value} is not at least {least}")
