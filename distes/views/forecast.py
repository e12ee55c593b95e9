"""When a search will end at the latest, judging by its newest generations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distes.search.settings import Settings


def forecast_seconds(
    search: Settings, rows: Sequence[Mapping[str, Any]], episodes: float, env_steps: float
) -> float | None:
    """Forecast the seconds until the first budget is used up; a target may end a search before.

    Args:
        search: whose budgets count.
        rows: the newest generations, of the generations log.
        episodes: of the search so far.
        env_steps: of the search so far.

    Returns:
        None where there is no budget, or where there are too few generations to judge by.
    """
    if len(rows) < 2:
        return None
    passed, newest = rows[1:], rows[-1]
    seconds = float(newest["elapsed_s"]) - float(rows[0]["elapsed_s"])
    budgets: list[tuple[float | None, float, float]] = [  # limit, used, used while `passed` ran
        (search.max_seconds, float(newest["elapsed_s"]), seconds),
        (search.resolved_generations, newest["generation"] + 1, len(passed)),
        (search.max_episodes, episodes, sum(row["episodes"] for row in passed)),
        (search.max_env_steps, env_steps, sum(row["env_steps"] for row in passed)),
    ]
    left = [
        max(limit - used, 0.0) * seconds / recent
        for limit, used, recent in budgets
        if limit is not None and recent > 0
    ]
    return min(left, default=None)
