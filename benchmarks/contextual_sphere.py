"""Regret of contextual strategies on -‖θ − s M‖², by generation, over many seeds.

20 parameters, 2 contexts uniform in [-1, 1), generations of 50, start and M standard normal.
Regret is that of the deployed mean, averaged over 1000 contexts that the search has not seen.

    python benchmarks/contextual_sphere.py [--seeds 10] [--generations 200]
"""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

# One thread for each process, before numpy counts the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from common import keep, options

from distes.strategies.base import Strategy
from distes.strategies.ccmaes import CCMAES
from distes.strategies.creps import CREPS
from distes.strategies.more import MORE
from distes.testing.problems import FunctionProblem, search

PARAMETERS, CONTEXTS, POPULATION = 20, 2, 50
TARGET = 1e-4

STRATEGIES: dict[str, Strategy[Any]] = {
    "ccmaes": CCMAES(),
    "creps": CREPS(),
    "creps entropy_loss=0.5 reuse=4": CREPS(entropy_loss=0.5, reuse=4),
    "more": MORE(),
    "more reuse=0": MORE(reuse=0),
}


def negative_norm(parameters: Any, seeds: Any) -> Any:
    return -np.sum(parameters**2, axis=1)


def sphere(seed: int) -> FunctionProblem:
    """Make a seed's problem."""
    generator = np.random.default_rng(1000 + seed)
    return FunctionProblem(
        negative_norm,
        generator.normal(size=PARAMETERS),
        seed=seed,
        population_size=POPULATION,
        moved=generator.normal(size=(CONTEXTS, PARAMETERS)),
    )


def regret(strategy: Strategy[Any], problem: FunctionProblem, state: Any) -> float:
    contexts = np.random.default_rng(99).uniform(-1, 1, (1000, CONTEXTS))
    deployed = strategy.solution(problem, state).distribution
    drawn = deployed.draw(np.zeros(1000, dtype=np.int64), contexts)
    return float(np.sum((drawn - contexts @ problem.moved) ** 2, axis=1).mean())


def one(job: tuple[str, int, int]) -> dict[str, Any]:
    """Search once."""
    name, seed, generations = job
    strategy, problem = STRATEGIES[name], sphere(seed)
    done = search(strategy, problem, generations)
    regrets = [regret(strategy, problem, generation.after) for generation in done]
    below = [number for number, value in enumerate(regrets, start=1) if value < TARGET]
    return {
        "strategy": name,
        "regrets": regrets,
        "reached": below[0] if below else None,
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--generations", type=int, default=200)
    given = parser.parse_args()
    jobs = [(name, seed, given.generations) for name in STRATEGIES for seed in range(given.seeds)]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        found = pool.map(one, jobs, chunksize=1)
    rows = []
    for name in STRATEGIES:
        runs = [run for run in found if run["strategy"] == name]
        table = np.array([run["regrets"] for run in runs])
        first = sorted(run["reached"] for run in runs if run["reached"])
        marks = sorted({m for m in (25, 50, 100, 150) if m < given.generations})
        rows.append(
            {
                "strategy": name,
                "seeds": len(runs),
                **{f"median@{m}": float(np.median(table[:, m - 1])) for m in marks},
                f"median@{given.generations}": float(np.median(table[:, -1])),
                f"max@{given.generations}": float(table[:, -1].max()),
                f"below {TARGET:g}": f"{(table[:, -1] < TARGET).sum()} of {len(runs)}",
                "first below (median)": first[len(first) // 2] if first else None,
            }
        )
    keep("contextual_sphere", rows, given.out)


if __name__ == "__main__":
    main()
