"""A run's solution in use: scored on fresh seeds, or made callable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from distes.errors import UsageError, require_at_least
from distes.policies.base import Policy
from distes.population import Population, Purpose, RunKey
from distes.runs.reader import Run, load
from distes.statistics import Score, score


def evaluate(
    path: str | Path, *, episodes: int = 100, seed: int = 0, workers: int | Literal["auto"] = 0
) -> Score:
    """Score a run's solution on fresh seeds; a run in progress gives its newest.

    Args:
        path: run directory.
        episodes: how many.
        seed: another seed gives other episodes; none was ever searched on.
        workers: as in `Search`.

    Raises:
        UsageError: there is no such run, or nothing to evaluate yet.
    """
    from distes.configuration import from_config
    from distes.search import make_evaluator

    require_at_least("episodes", episodes, 1)
    require_at_least("seed", seed, 0)
    run = load(path)
    search = from_config(run.config["search"])
    solution = replace(solution_of(run), episodes=episodes, purpose=Purpose.TEST)
    evaluator = make_evaluator(search, workers)
    try:
        with threadpool_limits(1):
            answer = evaluator.submit(solution, RunKey(seed, 0)).result()
    finally:
        evaluator.close()
    return score(answer.episodes.episode_return)


def load_policy(
    path: str | Path, *, generation: int | None = None, candidate: int | None = None
) -> Callable[[Any], Any]:
    """Make a run's policy callable: environment observation -> action.

    Args:
        path: run directory.
        generation: of a logged candidate; None takes the solution.
        candidate: its number within the generation.

    Raises:
        UsageError: there is no such run, generation or candidate.
    """
    from distes.configuration import from_config

    run = load(path)
    policy = from_config(run.config["search"]).built_policy()
    if generation is None and candidate is None:
        return bound_policy(policy, solution_of(run))
    if generation is None or candidate is None:
        raise UsageError("a logged candidate is named by generation and candidate, both")
    population = run.population(generation)
    if not 0 <= candidate < population.size:
        raise UsageError(
            f"candidate {candidate} is not one of the {population.size} of generation {generation}"
        )
    return bound_policy(policy, population, candidate)


def solution_of(run: Run) -> Population:
    """Read a run's solution from its newest checkpoint.

    Raises:
        UsageError: there is no checkpoint yet.
    """
    snapshot = run.snapshot()
    if snapshot is None or snapshot.generation == 0:
        raise UsageError(f"{run.path} has no generation yet: there is nothing to evaluate")
    solution: Population = replace(snapshot.solution, probes=())
    return solution


def bound_policy(policy: Policy, solution: Population, candidate: int = 0) -> Callable[[Any], Any]:
    """Bind a policy to a solution, or to a candidate: environment observation -> action."""
    act = policy.bind(solution.distribution.draw(np.array([candidate]))[0])
    mean = solution.frozen.get("observation_mean")
    std = solution.frozen.get("observation_std")

    def policy_function(observation: Any) -> Any:
        seen = policy.encode(observation)
        return act(seen if mean is None or std is None else (seen - mean) / std, None)

    return policy_function
