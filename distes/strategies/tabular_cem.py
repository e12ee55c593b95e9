"""The cross-entropy method on tables of action probabilities (de Boer et al. 2005).

| name | de Boer et al. 2005, section 4 |
|---|---|
| percentile | 100 (1 - ρ) |
| learning_rate | α, of the smoothed update |

A row becomes the frequencies of the elites' actions there, smoothed with what it was:
p(a | x) ← α N(x, a)/Σ_b N(x, b) + (1 - α) p(a | x), where N counts steps of elites.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np

from distes.errors import UsageError
from distes.policies.tabular import TabularPolicy, normalise_rows
from distes.population.distributions import Point
from distes.population.records import Episodes, Population
from distes.strategies.base import Problem
from distes.strategies.parts.elite_episodes import (
    EliteEpisodes,
    pick_by_percentile,
    rows_of_candidates,
)
from distes.strategies.parts.elite_figures import EliteFigures
from distes.types import FloatArray, Fraction, NonNegativeFloat, Percentile


@dataclass(frozen=True, eq=False)
class TabularCEMState:
    """The table, and the elites it was last refit to.

    Attributes:
        generation: generations told, the index of the next one.
        table: (states, actions) probabilities.
        elites: figures of the last generation's elites.
        visited: share of the rows that the last generation's elites were in.
    """

    generation: int
    table: FloatArray
    elites: EliteFigures = field(default_factory=EliteFigures)
    visited: float = math.nan


@dataclass(frozen=True)
class TabularCEM(EliteEpisodes[TabularCEMState]):
    """Refits a table of action probabilities to the best episodes.

    Attributes:
        learning_rate: share of the new frequencies in the table, in (0, 1].
        pseudo_count: added to every action's count in a visited row, >= 0.
        unvisited: rows that no elite was in move towards ``uniform``, or are ``kept``; what
            was learnt of rare states is not forgotten then.
    """

    default_policy: ClassVar[str] = "tabular"

    percentile: Percentile = 50.0
    learning_rate: Fraction = 0.5
    pseudo_count: NonNegativeFloat = 0.0
    unvisited: Literal["uniform", "kept"] = "uniform"

    def check(self, problem: Problem) -> None:
        """Refuse policies that are no table."""
        super().check(problem)
        self._policy(problem)

    def _policy(self, problem: Problem) -> TabularPolicy:
        policy = problem.policy
        if not isinstance(policy, TabularPolicy):
            raise UsageError(
                f"tabular_cem fills a table of probabilities, and the policy is "
                f"{type(policy).__name__}: use policy tabular (Discrete observations and actions)"
            )
        return policy

    def init(self, problem: Problem) -> TabularCEMState:
        """Start from the policy's own table, uniform, or from a given one, normalised."""
        policy = self._policy(problem)
        table = np.array(problem.start, np.float64).reshape(policy.num_states, policy.num_actions)
        return TabularCEMState(0, normalise_rows(table))

    def ask(self, problem: Problem, state: TabularCEMState) -> Population:
        """One policy, many episodes."""
        return self.sample_episodes(problem, Point(state.table.ravel()))

    def tell(
        self, problem: Problem, state: TabularCEMState, population: Population, episodes: Episodes
    ) -> TabularCEMState:
        """Count what the elites did; rows they were not in become uniform, smoothed, or stay."""
        chosen = pick_by_percentile(episodes.fitness, self.percentile, self.elites_are)
        state = replace(
            state,
            generation=state.generation + 1,
            elites=EliteFigures.of(episodes, episodes.fitness, chosen),
            visited=math.nan,
        )
        if len(chosen) == 0:
            return state
        rows = rows_of_candidates(episodes, chosen)
        found = problem.trajectories(population, episodes, rows, ("observations", "actions"))
        trajectories = [trajectory for trajectory in found if len(trajectory.observations)]
        if not trajectories:
            return state
        states = np.concatenate([each.observations[:, 0] for each in trajectories])
        actions = np.concatenate([each.actions for each in trajectories])
        counts = np.zeros_like(state.table)
        np.add.at(counts, (states.astype(np.int64), actions.astype(np.int64)), 1.0)
        seen = counts.sum(axis=1) > 0
        counts[seen] += self.pseudo_count
        counts[~seen] = 1.0 if self.unvisited == "uniform" else state.table[~seen]
        new = counts / counts.sum(axis=1, keepdims=True)
        table = (1 - self.learning_rate) * state.table + self.learning_rate * new
        return replace(state, table=table, visited=float(seen.mean()))

    def solution(self, problem: Problem, state: TabularCEMState) -> Population:
        """Deploy the policy as it is, with its own sampling."""
        return Population(Point(state.table.ravel()), 1)

    def metrics(self, state: TabularCEMState) -> dict[str, float]:
        """Elites, rows visited, and how undecided the table is."""
        shares = np.where(state.table > 0, state.table, 1.0)
        entropy = float(-(state.table * np.log(shares)).sum(axis=1).mean())
        return {**state.elites.metrics(), "visited": state.visited, "table_entropy": entropy}
