"""What strategies share that imitate the best episodes of one policy."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

import numpy as np

from distes.errors import Notice, UsageError
from distes.population.distributions import Point
from distes.population.records import Distribution, Episodes, Population
from distes.registry import name_of
from distes.strategies.base import Problem, Strategy
from distes.strategies.parts import policy_checks
from distes.types import FloatArray, IntArray, Percentile

S = TypeVar("S")


@dataclass(frozen=True)
class EliteEpisodes(Strategy[S], Generic[S]):
    """Samples episodes of one stochastic policy, and picks elites by percentile.

    Attributes:
        percentile: of the returns from which an episode is elite, in [0, 100).
        elites_are: ``at_least`` the percentile, or ``above`` it, for returns that tie.
        same_start: all episodes of a candidate begin at the same start and are judged by
            their mean return, so that an unlucky start is not mistaken for bad actions;
            with episodes > 1.
    """

    percentile: Percentile = 70.0
    elites_are: Literal["at_least", "above"] = "at_least"
    same_start: bool = False

    def population_size(self, problem: Problem) -> int:
        """As asked, else 100."""
        return problem.population_size or 100

    def sample_episodes(self, problem: Problem, policy: Distribution) -> Population:
        """One policy, many episodes."""
        population = problem.population(policy, self.population_size(problem))
        return replace(population, same_start=self.same_start)

    def check(self, problem: Problem) -> None:
        """Refuse episodes that are all the same, and one start of one episode."""
        name = name_of("strategies", type(self))
        policy_checks.refuse_functions(problem, name)
        policy_checks.refuse_common_seeds(problem, name)
        if self.same_start and problem.population(Point(problem.start), 1).num_episodes == 1:
            raise UsageError(
                "same_start judges a candidate by several episodes from one start, and episodes "
                "is 1: give episodes above 1, or leave same_start out"
            )


def pick_by_percentile(
    fitness: FloatArray, percentile: float, elites_are: Literal["at_least", "above"]
) -> IntArray:
    """Pick the candidates from the percentile on, best first; NaN is never picked.

    Args:
        fitness: (n,).
        percentile: in [0, 100).
        elites_are: ``at_least`` the percentile, which ties may make all; or ``above`` it,
            or the best where the percentile is the best; none where all tie.
    """
    valid = fitness[~np.isnan(fitness)]
    if not len(valid):
        return np.empty(0, dtype=np.int64)
    threshold = np.percentile(valid, percentile)
    # Where more than the percentile leaves are the best there is, these are meant.
    ties = elites_are == "at_least" or valid.min() < threshold == valid.max()
    good = fitness >= threshold if ties else fitness > threshold
    chosen = np.flatnonzero(good)
    if elites_are == "at_least" and percentile > 0 and len(chosen) == len(valid) > 1:
        warnings.warn(
            f"all {len(valid)} candidates are at least at the {percentile:g}th percentile, "
            f"{threshold:g}: bad ones are imitated as good ones are (elites_are 'above' leaves "
            "ties out)",
            Notice,
            stacklevel=2,
        )
    if not len(chosen):
        warnings.warn(
            f"none of {len(fitness)} candidates is above the {percentile:g}th percentile, "
            f"{threshold:g}: nothing is learnt of them (elites_are 'at_least' takes ties, too)",
            Notice,
            stacklevel=2,
        )
    return chosen[np.argsort(-fitness[chosen], kind="stable")]


def rows_of_candidates(episodes: Episodes, candidates: IntArray) -> IntArray:
    """Find the episodes that belong to chosen candidates, (r,) ascending."""
    return np.flatnonzero(np.isin(episodes.candidate, candidates))
