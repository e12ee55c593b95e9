"""When a search stops, and how its limits may change while it is under way.

Nothing but these limits decides how long a search goes on, and no strategy sees them: a run
with later ones begins as the same run, generation by generation.
"""

from __future__ import annotations

from distes.errors import UsageError
from distes.runs.snapshot import ScoredSolution, Snapshot
from distes.search.settings import Settings

BUDGETS = ("max_episodes", "max_env_steps", "max_seconds")
"""Limits that stand in for a number of generations."""

LIMITS = ("generations", *BUDGETS, "target")
"""Settings that a run may go on with otherwise."""


def find_stop_reason(search: Settings, now: Snapshot) -> str:
    """Say why a search stops; "" while it goes on."""
    if keep_confirmed(search, now) is not None:
        return f"held-out return reached the target {search.resolved_target:g}, confirmed"
    reason = search.resolved_strategy.stop(now.strategy)
    if reason:
        return reason
    for setting, (unit, done) in _measure(now).items():
        limit = getattr(search, setting)
        if limit is not None and done >= limit:
            return _say_count(limit, unit)
    return ""


def keep_confirmed(search: Settings, now: Snapshot) -> ScoredSolution | None:
    """Keep a solution that reached the target, if it reached the target of these settings."""
    target, confirmed = search.resolved_target, now.confirmed
    reached = confirmed is not None and target is not None and confirmed.mean >= target
    return confirmed if reached else None


def refuse_past_limits(before: Settings, after: Settings, now: Snapshot) -> None:
    """Refuse limits with which the run would not have come to where it is.

    Args:
        before: the run's.
        after: what it is to go on with.
        now: where it is.

    Raises:
        UsageError: with these limits it would have ended earlier, or might have.
    """
    for setting, (unit, done) in _measure(now).items():
        limit = getattr(after, setting)
        if limit is not None and limit != getattr(before, setting) and limit < done:
            raise UsageError(
                f"{setting} {limit:.10g} is less than the {_say_count(done, unit)} that the run "
                "has already"
            )
    old, new = before.resolved_target, after.resolved_target
    if new is not None and (old is None or new < old):
        had = "and the run has none" if old is None else f"below the run's {old:g}"
        raise UsageError(
            f"target {new:g} is given, {had}: with it the run might have ended before; a higher "
            "one, or off, is accepted"
        )


def _measure(now: Snapshot) -> dict[str, tuple[str, float]]:
    """What limits are compared with, and its unit, by setting."""
    return {
        "generations": ("generations", now.generation),
        "max_episodes": ("episodes", now.episodes),
        "max_env_steps": ("env steps", now.env_steps),
        "max_seconds": ("seconds", now.elapsed_s),
    }


def _say_count(count: float, unit: str) -> str:
    """Say a number of things, whole ones in full.

    >>> _say_count(1, "generations"), _say_count(1_500_000, "episodes"), _say_count(0.25, "seconds")
    ('1 generation', '1,500,000 episodes', '0.25 seconds')
    """
    number = f"{int(count):,}" if count == int(count) else f"{count:g}"
    return f"{number} {unit.removesuffix('s') if count == 1 else unit}"
