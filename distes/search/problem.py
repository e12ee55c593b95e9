"""The services that a search offers to its strategy."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import compress

import numpy as np

from distes.engines.base import empty_trajectory
from distes.errors import Notice, UsageError
from distes.evaluators.base import Evaluator
from distes.policies.base import Policy
from distes.population.distributions import weigh_noise
from distes.population.records import (
    RECORDS,
    Distribution,
    Episodes,
    Evaluated,
    Population,
    Purpose,
    Rerun,
    RunKey,
    Status,
    Trajectory,
)
from distes.tasks.base import AnyTask
from distes.tasks.function import FunctionTask
from distes.types import Array, FloatArray, IntArray


@dataclass
class SearchProblem:
    """Implements `strategies.base.Problem` over an evaluator.

    Attributes:
        task: what is to be solved.
        engine: the name of the engine that runs it.
        policy: built for the task.
        start: (d,) where to start.
        start_spread: how widely to search at the start, (d,) or (d, d), or None.
        start_statistics: observation statistics that belong to it, or nothing.
        seed: the run's.
        population_size: as the user asked, or None.
        episodes: per candidate of a search population.
        common_seeds: whether all candidates of a generation share episode seeds.
        evaluator: None before the search starts; then `run` is refused.
        generation: the current one.
        on_run: told of every further evaluation.
        on_rerun: told of episodes that were run again for their trajectories.
    """

    task: AnyTask
    engine: str
    policy: Policy
    start: FloatArray
    seed: int
    population_size: int | None
    episodes: int
    common_seeds: bool
    start_statistics: Mapping[str, FloatArray] = field(default_factory=dict)
    start_spread: FloatArray | None = None
    evaluator: Evaluator | None = None
    generation: int = 0
    on_run: Callable[[RunKey, Population, Evaluated], None] | None = None
    on_rerun: Callable[[Evaluated], None] | None = None
    _calls: int = field(default=0, init=False)

    @property
    def num_parameters(self) -> int:
        """Length d of a parameter vector."""
        return self.policy.num_parameters

    @property
    def num_contexts(self) -> int:
        """Length k of a context."""
        return self.task.num_contexts

    @property
    def context_range(self) -> tuple[FloatArray, FloatArray] | None:
        """Least and greatest contexts, (k,) each, where the task says so."""
        low, high = self.task.context_low, self.task.context_high
        if low is None or high is None:
            return None
        return np.array(low, dtype=np.float64), np.array(high, dtype=np.float64)

    def population(self, distribution: Distribution, size: int) -> Population:
        """Make a search population with the run's episodes and seeds."""
        return Population(
            distribution,
            size,
            episodes=self.episodes,
            seed_group=size if self.common_seeds else 1,
        )

    def begin(self, generation: int) -> None:
        """Enter a generation: further evaluations are numbered from 1 within it."""
        self.generation = generation
        self._calls = 0

    def run(self, population: Population) -> Episodes:
        """Evaluate a further population within the current generation.

        It is logged as an evaluation and does not count against budgets: a population
        marked as search is re-marked as re-evaluation.
        """
        if self.evaluator is None:
            raise RuntimeError("a strategy can run populations in ask and tell, not in init")
        if population.purpose is Purpose.SEARCH:
            population = replace(population, purpose=Purpose.REEVALUATION)
        self._calls += 1
        key = RunKey(self.seed, self.generation, self._calls)
        evaluated = self.evaluator.submit(population, key).result()
        if self.on_run is not None:
            self.on_run(key, population, evaluated)
        return evaluated.episodes

    def weigh_noise(
        self,
        population: Population,
        weights: FloatArray,
        squares: FloatArray | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Sum what a Gaussian population was drawn with, on the driver."""
        return weigh_noise(population, weights, squares)

    @property
    def has_trajectories(self) -> bool:
        """Whether episodes have observations and actions."""
        return not isinstance(self.task, FunctionTask)

    def trajectories(
        self,
        population: Population,
        episodes: Episodes,
        rows: IntArray,
        records: tuple[str, ...] = RECORDS,
    ) -> list[Trajectory]:
        """Give what was seen and done in chosen episodes.

        They are run again by the workers, from their seeds: an episode is the same whoever
        runs it. No budget counts that, and only its events are logged. Those that failed
        are not tried again, and give trajectories without steps; so do those that went otherwise
        than before, of which a Notice tells.

        Args:
            population: the generation's own.
            episodes: what came of it.
            rows: of `episodes`.
            records: parts of the trajectories that are needed.
        """
        trajectories = [empty_trajectory(self.policy) for _ in rows]
        rows = np.asarray(rows)
        whole = np.flatnonzero(episodes.status[rows] == Status.OK)
        if isinstance(self.task, FunctionTask):
            raise UsageError(f"{self.task.name} is a function: it has no trajectories")
        if not len(whole):
            return trajectories
        if self.evaluator is None:
            raise RuntimeError("a strategy can see trajectories in tell, not before")
        order = whole[np.argsort(rows[whole], kind="stable")]
        again = Rerun.of(population, episodes, rows[order])
        recorded = replace(population, rerun=again, records=records, probes=())
        key = RunKey(self.seed, self.generation)
        found = self.evaluator.submit(recorded, key).result()
        if self.on_rerun is not None:
            self.on_rerun(found)
        same = _same(episodes, rows[order], found.episodes)
        for place, trajectory in zip(
            order[same].tolist(), compress(found.trajectories, same), strict=True
        ):
            trajectories[place] = trajectory
        if not same.all():
            warnings.warn(
                f"{np.count_nonzero(~same)} of {len(same)} episodes went otherwise when they "
                f"were run again, and nothing is learnt of them: unless workers were lost, "
                f"{self.task.name} is not the same in every episode (is reuse_env True? distes "
                "check tells)",
                Notice,
                stacklevel=2,
            )
        return trajectories


def _same(episodes: Episodes, rows: IntArray, again: Episodes) -> Array:
    """Which episodes ended as they did before, (r,)."""
    alike: Array = again.status == episodes.status[rows]
    alike &= again.episode_return == episodes.episode_return[rows]
    alike &= again.episode_length == episodes.episode_length[rows]
    return alike
