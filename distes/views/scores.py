"""What a run's log says about the solution, as opposed to the population."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from pandas import DataFrame

from distes.population.statistics import Score, compute_score
from distes.registry import NONE
from distes.runs.reader import Run
from distes.search.settings import OFF
from distes.search.tables import SECTIONS


def score_heldout(run: Run) -> dict[int, Score]:
    """Score the solutions after some generations, on seeds that search never uses.

    Where a score at the target was tried again, the second batch counts: the first is
    there only where it was high.

    Returns:
        Generation -> score, in order.
    """
    rows = run.evaluated_returns
    if rows.empty or run.generations.empty:
        return {}
    batches = rows[rows["purpose"] == "heldout"].groupby(["generation", "call"])["episode_return"]
    found: dict[Any, Any] = {number: batch.to_numpy() for (number, _), batch in batches}
    return {int(number): compute_score(returns) for number, returns in found.items()}


def score_test(run: Run) -> Score | None:
    """Score the solution over the test's unseen episodes; None before the end."""
    rows = find_test_rows(run, run.evaluated_returns)
    return None if rows.empty else compute_score(rows["episode_return"].to_numpy())


def find_test_rows(run: Run, rows: DataFrame) -> DataFrame:
    """Find the episodes of the final score among rows of evaluations; none before the end.

    A run that was extended has those of its earlier end, too, in an earlier generation.
    """
    last = run.generations["generation"].max()
    found: DataFrame = rows[(rows["purpose"] == "test") & (rows["generation"] == last)]
    return found


def find_target(config: Mapping[str, Any]) -> float | None:
    """Find the return at which a run was to stop, by its settings or its environment."""
    settings = config["search"]
    if settings.get("target") == OFF:
        return None
    for given in (settings.get("target"), settings.get("threshold")):
        if isinstance(given, int | float):
            return float(given)
    if "function" in settings:
        return None
    # An environment that is not registered here (a user's module) is not imported for this.
    spec = gym.registry.get(settings.get("env", "").rpartition(":")[2])
    return None if spec is None else spec.reward_threshold


def has_contexts(config: Mapping[str, Any]) -> bool:
    """Whether a run's episodes have contexts."""
    return bool(config["search"].get("context", NONE) != NONE)


def name_task(config: Mapping[str, Any]) -> str:
    """Name what a run was to solve."""
    settings = config["search"]
    return str(settings.get("env", settings.get("function")))


def name_run(config: Mapping[str, Any], separator: str) -> str:
    """Name a run by its task, strategy, policy and seed."""
    settings = config["search"]
    names = [str(settings[table]["name"]) for table in SECTIONS if table in settings]
    return separator.join([name_task(config), *names, f"seed {settings.get('seed', 0)}"])
