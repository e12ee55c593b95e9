"""HiREPS and CREPS where there are two solutions whose average is worth nothing.

Both solutions count in every context, or one in each half of the contexts with both in
between. The same settings, samples and generations for both strategies.

python benchmarks/hireps_modes.py --seeds 20
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import keep, options

from distes.strategies.base import Strategy
from distes.strategies.creps import CREPS
from distes.strategies.hireps import HiREPS
from distes.testing.problems import search

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from two_solutions import TwoSolutions

POPULATION, GENERATIONS = 1000, 10
SHARED = {"epsilon": 1.0, "initial_std": 2.0, "min_std": 0.2}
STRATEGIES: dict[str, Strategy[Any]] = {
    "CREPS": CREPS(**SHARED),
    "HiREPS": HiREPS(num_options=8, overlap=0.7, **SHARED),
    "HiREPS, 3 options": HiREPS(num_options=3, overlap=0.7, **SHARED),
    "HiREPS, overlap 0.9": HiREPS(num_options=8, overlap=0.9, **SHARED),
    "HiREPS, overlap none": HiREPS(num_options=8, overlap=None, **SHARED),
}
LIMITS = {"both everywhere": 1.0, "one on each side": 0.3}
CONTEXTS = np.linspace(-1, 1, 101)[:, None]


def one(strategy: Strategy[Any], limit: float, seed: int) -> tuple[float, float, int, int, int]:
    """Value deployed, value sampled, solutions kept, options, options that are good."""
    problem = TwoSolutions(seed=seed, population_size=POPULATION, limit=limit)
    state = search(strategy, problem, GENERATIONS)[-1].after
    drawn = strategy.solution(problem, state).distribution
    deployed = problem.returns(drawn.draw(np.zeros(101, dtype=int), CONTEXTS), CONTEXTS, CONTEXTS)
    problem.begin(GENERATIONS)
    sampled = problem.evaluate(strategy.ask(problem, state)).fitness.mean()
    weights = np.reshape(state.weights, (-1, *state.weights.shape[-2:]))
    kept, good = problem.count_solutions(
        [state.features(CONTEXTS) @ each for each in weights], CONTEXTS
    )
    return float(deployed.mean()), float(sampled), kept, len(weights), good


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    given = parser.parse_args()
    rows = []
    for task, limit in LIMITS.items():
        for name, strategy in STRATEGIES.items():
            values = [one(strategy, limit, seed) for seed in range(given.seeds)]
            rows.append(
                {
                    "solutions": task,
                    "strategy": name,
                    "seeds": given.seeds,
                    "deployed_median": median(value[0] for value in values),
                    "deployed_least": min(value[0] for value in values),
                    "sampled_median": median(value[1] for value in values),
                    "kept_both": sum(value[2] == 2 for value in values),
                    "options_median": median(value[3] for value in values),
                    "all_good": sum(value[4] == value[3] for value in values),
                }
            )
    keep("hireps_modes", rows, given.out)


if __name__ == "__main__":
    main()
