"""What a run deploys in the end: its solution, or a candidate that is clearly better."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from distes.population.distributions import Point
from distes.population.records import Population
from distes.population.statistics import Score, student_quantile
from distes.runs.snapshot import ScoredSolution, Selected
from distes.types import FloatArray


class Deployment(NamedTuple):
    """What is deployed, and why, in words."""

    solution: Population
    reason: str


def score_solution(generation: int, score: Score, solution: Population) -> ScoredSolution | None:
    """Keep a solution's held-out score; None where an episode failed: its mean would flatter."""
    if score.failed:
        return None
    return ScoredSolution(generation, score.mean, solution)


def pick_better(best: ScoredSolution | None, newer: ScoredSolution | None) -> ScoredSolution | None:
    """Pick the greater held-out score; of equals the newer."""
    if best is None or newer is None:
        return best or newer
    return newer if newer.mean >= best.mean else best


def deploy_confirmed(scored: ScoredSolution) -> Deployment:
    """Deploy a solution that reached the target twice."""
    return Deployment(
        scored.solution,
        f"the solution after generation {scored.generation}, which reached the target twice: "
        f"{scored.mean:.5g} in the lesser of two held-out scores",
    )


def deploy_best_heldout(scored: ScoredSolution) -> Deployment:
    """Deploy the solution with the greatest held-out score."""
    return Deployment(
        scored.solution,
        f"the solution after generation {scored.generation}, whose held-out score "
        f"{scored.mean:.5g} is the best",
    )


def deploy_solution(solution: Population, generation: int) -> Deployment:
    """Deploy the strategy's solution after a generation."""
    return Deployment(solution, f"the strategy's solution after generation {generation}")


def deploy_after_trials(
    solution: Population, generation: int, top: Selected, fresh: FloatArray, own: FloatArray
) -> Deployment:
    """Deploy the strategy's solution, or a top candidate that is clearly better.

    Args:
        solution: the strategy's.
        generation: after which it is, and of which the candidates are.
        top: the candidates, n.
        fresh: (n, K) their values on fresh seeds; NaN = failed.
        own: (K,) the solution's, on the same seeds.
    """
    means, mine = fresh.mean(axis=1), float(own.mean())
    beaten = f"the solution's {mine:.5g}" if math.isfinite(mine) else "the solution, which fails"
    better = find_clearly_better(fresh, own)
    if better is None:
        kept = deploy_solution(solution, generation)
        if np.isnan(means).all():
            return kept
        compared = f"no top candidate is clearly better than its {mine:.5g} on the same fresh seeds"
        return kept._replace(reason=f"{kept.reason}: {compared} (best {np.nanmax(means):.5g})")
    return Deployment(
        Population(Point(top.parameters[better]), 1, frozen=top.frozen),
        f"candidate {top.candidates[better]} of generation {generation}, clearly better than "
        f"{beaten} on the same fresh seeds: {means[better]:.5g}",
    )


def find_clearly_better(candidates: FloatArray, solution: FloatArray) -> int | None:
    """Name the candidate that replaces the solution: ahead beyond chance, or never failed.

    Paired t test on common seeds at 5%, two-sided, divided by the number of candidates
    (Bonferroni): the best of several noisy scores is flattered once more.

    Args:
        candidates: (n, K) values; NaN = failed.
        solution: (K,) on the same seeds.
    """
    means = candidates.mean(axis=1)
    count, episodes = candidates.shape
    if np.isnan(means).all():
        return None
    best = int(np.nanargmax(means))
    if np.isnan(solution).any():
        return best
    if episodes < 2:
        return None
    ahead = candidates[best] - solution
    error = float(ahead.std(ddof=1)) / math.sqrt(episodes)
    limit = student_quantile(1 - 0.025 / count, episodes - 1)
    return best if ahead.mean() > limit * error else None
