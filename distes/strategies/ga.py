"""A genetic algorithm for networks: truncation selection and Gaussian mutation, no crossover.

Such et al. (2017), "Deep neuroevolution: genetic algorithms are a competitive alternative for
training deep neural networks for reinforcement learning" (arXiv:1712.06567), algorithm 1.

| name | paper |
|---|---|
| population | N |
| parents | T, the best of a generation, of which each child mutates one |
| mutation_std | σ, of a child's difference from its parent |
| contenders, contender_episodes | the elite is the best of the top 10 over 30 further episodes |

A candidate is a chain of numbered mutations (`distes.population.lineages`). The elite lives on
unchanged and plays again: its luck does not last. The paper's own settings, for networks of
millions of weights, are N = 1,000, T = 20, σ = 0.002.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from distes.errors import UsageError
from distes.population.distributions import Point, Table
from distes.population.lineages import Lineages
from distes.population.records import Episodes, Population
from distes.seeds import strategy_generator
from distes.strategies.base import Problem, Strategy
from distes.strategies.numerics import ranking
from distes.strategies.parts.elite_figures import EliteFigures
from distes.types import FloatArray, IntArray, NonNegativeInt, PositiveFloat, PositiveInt

DEFAULT_POPULATION = 100


@dataclass(frozen=True, eq=False)
class GAState:
    """The parents of the next generation.

    Attributes:
        generation: generations told, the index of the next one.
        start: (d,) where all chains begin.
        chains: (p, generation) their mutations, the elite's first.
        deviations: (generation,) of the mutations of each generation so far.
        elite: (d,) the elite's parameters.
        elites: figures of the last generation's parents.
    """

    generation: int
    start: FloatArray
    chains: IntArray
    deviations: FloatArray
    elite: FloatArray
    elites: EliteFigures = field(default_factory=EliteFigures)


@dataclass(frozen=True)
class GA(Strategy[GAState]):
    """Genetic algorithm with truncation selection (Such et al. 2017).

    Attributes:
        parents: T, how many of the best have children, >= 1.
        initial_std: standard deviation of the first generation about the start, > 0.
        mutation_std: σ of a child about its parent, > 0.
        contenders: of the best, from which the elite is chosen by further episodes, >= 1.
        contender_episodes: further episodes of each; 0 takes the best of the generation.
    """

    parents: PositiveInt = 10
    initial_std: PositiveFloat = 1.0
    mutation_std: PositiveFloat = 0.1
    contenders: PositiveInt = 5
    contender_episodes: NonNegativeInt = 5

    def population_size(self, problem: Problem) -> int:
        """As asked, else 100."""
        return problem.population_size or DEFAULT_POPULATION

    def check(self, problem: Problem) -> None:
        """Refuse a population without children to choose from."""
        size = self.population_size(problem)
        if size <= self.parents:
            raise UsageError(
                f"a population of {size} with {self.parents} parents leaves nothing to choose: "
                "give more candidates or fewer strategy.parents"
            )

    def init(self, problem: Problem) -> GAState:
        """Start where the policy does: its parameters are everybody's ancestor."""
        start = np.array(problem.start, dtype=np.float64)
        return GAState(0, start, np.zeros((1, 0), dtype=np.int64), np.empty(0), start)

    def ask(self, problem: Problem, state: GAState) -> Population:
        """Mutate parents drawn at random, behind the elite as it is."""
        size = self.population_size(problem)
        generator = strategy_generator(problem.seed, state.generation)
        parents = generator.integers(len(state.chains), size=size)
        is_first = state.generation == 0
        parents[0] = 0
        lineages = Lineages(
            state.start,
            problem.seed,
            np.append(state.deviations, self.initial_std if is_first else self.mutation_std),
            state.chains,
            parents,
            num_unchanged=1,
        )
        return problem.population(lineages, size)

    def tell(
        self, problem: Problem, state: GAState, population: Population, episodes: Episodes
    ) -> GAState:
        """Select the parents (algorithm 1, line 13), and the elite among the best of them."""
        lineages = population.distribution
        assert isinstance(lineages, Lineages)  # noqa: S101 - it is what was asked for
        order = ranking.pick_elites(episodes.fitness, self.parents)
        told = replace(
            state,
            generation=state.generation + 1,
            deviations=lineages.deviations,
            elites=EliteFigures.of(episodes, episodes.fitness, order),
        )
        if not len(order):  # all failed: the same parents try again
            return replace(told, chains=_wait(state.chains))
        best = self._pick_elite(problem, lineages, order, population)
        order = np.concatenate([[best], order[order != best]])
        elite = lineages.draw(order[:1])[0]
        return replace(told, chains=lineages.extend(order), elite=elite)

    def solution(self, problem: Problem, state: GAState) -> Population:
        """Deploy the elite."""
        return Population(Point(state.elite), 1)

    def metrics(self, state: GAState) -> dict[str, float]:
        """Parents, and how many mutations the elite has gone through."""
        mutations = int(np.count_nonzero(state.chains[0] >= 0))
        return {
            **state.elites.metrics(),
            "elite_mutations": mutations,
            "elite_norm": math.sqrt(float(state.elite @ state.elite)),
        }

    def _pick_elite(
        self, problem: Problem, lineages: Lineages, order: IntArray, population: Population
    ) -> int:
        """Try the best again, on the same fresh seeds; the first in rank where all fail."""
        contenders = order[: self.contenders]
        if self.contender_episodes == 0 or len(contenders) == 1:
            return int(order[0])
        again = replace(
            population,
            distribution=Table(lineages.draw(contenders)),
            size=len(contenders),
            episodes=self.contender_episodes,
            seed_group=len(contenders),
            probes=(),
        )
        fresh = ranking.pick_elites(problem.run(again).fitness, 1)
        return int(contenders[fresh[0]] if len(fresh) else order[0])


def _wait(chains: IntArray) -> IntArray:
    """Lengthen chains by a generation without a mutation."""
    return np.column_stack([chains, np.full(len(chains), -1)])
