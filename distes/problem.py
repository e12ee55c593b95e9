"""The services that a search offers to its strategy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from distes.evaluators.base import Evaluator
from distes.policies.base import Policy
from distes.population import Distribution, Episodes, Evaluated, Population, Purpose, RunKey
from distes.types import FloatArray


@dataclass
class SearchProblem:
    """Implements `strategies.base.Problem` over an evaluator.

    Attributes:
        policy: built for the task.
        start: (d,) where to start.
        start_statistics: observation statistics that belong to it, or nothing.
        seed: the run's.
        population_size: as the user asked, or None.
        episodes: per candidate of a search population.
        common_seeds: whether all candidates of a generation share episode seeds.
        num_contexts: the task's.
        evaluator: None before the search starts; then `run` is refused.
        generation: the current one.
        on_run: told of every further evaluation.
    """

    policy: Policy
    start: FloatArray
    seed: int
    population_size: int | None
    episodes: int
    common_seeds: bool
    start_statistics: Mapping[str, FloatArray] = field(default_factory=dict)
    num_contexts: int = 0
    evaluator: Evaluator | None = None
    generation: int = 0
    on_run: Callable[[RunKey, Population, Evaluated], None] | None = None
    _calls: int = field(default=0, init=False)

    @property
    def num_parameters(self) -> int:
        """Length d of a parameter vector."""
        return self.policy.num_parameters

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
