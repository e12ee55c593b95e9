"""What one generation of CMA-ES costs beside the packages cma and cmaes, and of large searches.

Small and middle sizes: to ask, draw the candidates and tell, with the default population and
with 64; returns are random numbers, so that no search comes to an end. The three take turns,
and each turn is several generations, since cma and distes decompose their matrices every few
only. Large sizes: to ask and tell, beside drawing as many normals.

    python benchmarks/ask_tell.py [--sizes 10 100 400 1000] [--large 100000]
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from itertools import cycle
from typing import Any

import cma
import cmaes
import numpy as np
from common import keep, options, seconds
from threadpoolctl import threadpool_limits

from distes.strategies import CMAES, SNES
from distes.strategies.base import Strategy
from distes.testing.problems import FunctionProblem, episodes_of, sphere

TURNS = 15


def ours(strategy: Strategy[Any], size: int, population: int, *, draws: bool) -> Any:
    """A generation of a strategy of distes, from where the last one ended."""
    problem = FunctionProblem(sphere, np.zeros(size), population_size=population)
    generator = np.random.default_rng(0)
    results = cycle([episodes_of(generator.standard_normal(population)) for _ in range(50)])
    told = [strategy.init(problem)]

    def generation() -> None:
        asked = strategy.ask(problem, told[0])
        if draws:
            asked.distribution.draw(np.arange(population))
        told[0] = strategy.tell(problem, told[0], asked, next(results))

    return generation


def cma_generation(size: int, population: int) -> Callable[[], None]:
    """The same by package cma."""
    options = {"popsize": population, "verbose": -9, "seed": 1}
    search = cma.CMAEvolutionStrategy(np.zeros(size), 1.0, options)
    results = cycle(np.random.default_rng(0).standard_normal((50, population)).tolist())

    def generation() -> None:
        search.tell(search.ask(), next(results))

    return generation


def cmaes_generation(size: int, population: int) -> Callable[[], None]:
    """The same by package cmaes."""
    search = cmaes.CMA(np.zeros(size), 1.0, population_size=population, seed=1)
    results = cycle(np.random.default_rng(0).standard_normal((50, population)).tolist())

    def generation() -> None:
        asked = [search.ask() for _ in range(population)]
        search.tell(list(zip(asked, next(results), strict=True)))

    return generation


def time_turns(works: dict[str, tuple[Callable[[], object], int]]) -> list[dict[str, float]]:
    """Time works in turn; each is (work, repetitions in a turn). Milliseconds of one."""
    timed = []
    for work, repetitions in works.values():
        for _ in range(min(repetitions, 3)):
            work()
    names = list(works)
    for turn in range(TURNS):
        row = {}
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            work, repetitions = works[name]
            row[name] = 1e3 * seconds(lambda: [work() for _ in range(repetitions)]) / repetitions  # noqa: B023
        timed.append(row)
    return timed


def compare(size: int, population: int) -> dict[str, Any]:
    """One row: medians of all three, and of the ratio to the faster of the two."""
    generations = 200 if size <= 100 else 12
    works = {
        "distes": (ours(CMAES(), size, population, draws=True), generations),
        "cma": (cma_generation(size, population), generations),
    }
    if size <= 400:  # beyond, it takes seconds a generation
        works["cmaes"] = (cmaes_generation(size, population), max(1, generations * 10 // size))
    timed = time_turns(works)
    faster = [min(row[name] for name in works if name != "distes") / row["distes"] for row in timed]
    medians = {f"{name}_ms": statistics.median(row[name] for row in timed) for name in works}
    return {
        "parameters": size,
        "population": population,
        "distes_ms": 0.0,
        "cma_ms": 0.0,
        "cmaes_ms": None,
        **medians,
        "faster / distes": statistics.median(faster),
    }


def compare_large(name: str, strategy: Strategy[Any], size: int) -> dict[str, Any]:
    """One row: to ask and tell, and to draw the normals."""
    population = 4 + math.floor(3 * math.log(size))
    generator = np.random.Generator(np.random.Philox(0))
    timed = time_turns(
        {
            "distes": (ours(strategy, size, population, draws=False), 1),
            "noise": (lambda: [generator.standard_normal(size) for _ in range(population)], 1),
        }
    )
    return {
        "strategy": name,
        "parameters": size,
        "population": population,
        **{f"{column}_ms": statistics.median(row[column] for row in timed) for column in timed[0]},
        "distes / noise": statistics.median(row["distes"] / row["noise"] for row in timed),
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10, 100, 400, 1000])
    parser.add_argument("--large", type=int, nargs="*", default=[100_000])
    given = parser.parse_args()
    with threadpool_limits(1):
        rows = [
            compare(size, population)
            for size in given.sizes
            for population in (4 + math.floor(3 * math.log(size)), 64)
        ]
        large = [
            compare_large(name, strategy, size)
            for size in given.large
            for name, strategy in (
                ("snes", SNES()),
                ("cmaes separable", CMAES(covariance="separable")),
                ("cmaes separable, not active", CMAES(covariance="separable", active=False)),
            )
        ]
    for name, table in (("ask_tell", rows), ("ask_tell_large", large)):
        if table:
            keep(name, table, given.out)


if __name__ == "__main__":
    main()
