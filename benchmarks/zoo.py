"""Environment steps until a held-out return is confirmed at its threshold: strategies by tasks.

Each run is a run directory, so that an interrupted table goes on where it was, and its curves
can be drawn. A run that does not get there within its budget counts as one that never does: a
median is given where more than half of the seeds got there.

    python benchmarks/zoo.py RUNS [--tasks CartPole-v1 ...] [--strategies cem ars ...]
        [--seeds 10] [--out benchmarks/results]
"""

from __future__ import annotations

import multiprocessing
import os
import warnings
from pathlib import Path
from statistics import median
from typing import Any

from common import keep, options

import distes
from distes.search.search import Search
from distes.strategies import ARS, CEM, CMAES, PGPE, OpenAIES
from distes.strategies.base import Strategy

TASKS: dict[str, tuple[float, int]] = {  # threshold, environment steps at most
    "CartPole-v1": (475.0, 500_000),
    "Acrobot-v1": (-100.0, 1_000_000),
    "MountainCarContinuous-v0": (90.0, 1_000_000),
    "Pendulum-v1": (-200.0, 3_000_000),
    "LunarLander-v3": (200.0, 3_000_000),
    "LunarLanderContinuous-v3": (200.0, 2_000_000),
    "BipedalWalker-v3": (300.0, 20_000_000),
    "InvertedPendulum-v5": (950.0, 1_000_000),
    "InvertedDoublePendulum-v5": (9_100.0, 3_000_000),
    "Swimmer-v5": (325.0, 3_000_000),
}
"""Those of the rl-zoo that a population solves on one machine."""

STRATEGIES: dict[str, Strategy[Any]] = {
    "cem": CEM(),
    "cmaes": CMAES(),
    "pgpe": PGPE(),
    "openai_es": OpenAIES(),
    "ars": ARS(),
}

SETTINGS: dict[str, dict[str, Any]] = {
    "Pendulum-v1": {"policy": "mlp"},
    "Swimmer-v5": {"heldout_every": 2},
}
"""What a task needs besides: a linear policy cannot swing a pendulum up."""


def run(job: tuple[Path, str, str, int]) -> dict[str, Any]:
    """Run one seed in this process, or read what it has been."""
    folder, task, strategy, seed = job
    warnings.simplefilter("ignore")
    threshold, budget = TASKS[task]
    out = folder / task / strategy / str(seed)
    search = Search(
        task,
        strategy=STRATEGIES[strategy],
        seed=seed,
        target=threshold,
        max_env_steps=budget,
        generations=None,
        workers=0,
        out=out,
        **{"normalize_observations": "v5" in task, **SETTINGS.get(task, {})},
    )
    result = search.run(resume_if_exists=True)
    generations = distes.load(out).generations
    return {
        "task": task,
        "strategy": strategy,
        "seed": seed,
        "steps": int(generations["env_steps"].sum()),
        "reached": "reached the target" in result.stopped,
        "score": result.score.mean,
        "seconds": float(generations["elapsed_s"].iloc[-1]),
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One line of the table."""
    steps = [row["steps"] if row["reached"] else float("inf") for row in rows]
    middle = median(steps)
    return {
        "task": rows[0]["task"],
        "threshold": TASKS[rows[0]["task"]][0],
        "strategy": rows[0]["strategy"],
        "seeds": len(rows),
        "reached": sum(row["reached"] for row in rows),
        "median steps": None if middle == float("inf") else round(middle),
        "median score": round(median(row["score"] for row in rows), 1),
        "least score": round(min(row["score"] for row in rows), 1),
        "median seconds": round(median(row["seconds"] for row in rows), 1),
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("runs", type=Path, help="folder of the runs")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES)
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="how many (10)")
    given = parser.parse_args()
    jobs = [
        (given.runs, task, strategy, seed)
        for task in given.tasks
        for strategy in given.strategies
        for seed in range(given.seeds)
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), maxtasksperchild=4) as pool:
        for row in pool.imap(run, jobs):
            print({name: row[name] for name in ("task", "strategy", "seed", "steps", "score")})
            groups.setdefault((row["task"], row["strategy"]), []).append(row)
    keep("zoo", [summarise(rows) for rows in groups.values()], given.out)


if __name__ == "__main__":
    main()
