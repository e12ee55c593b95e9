"""How much of its workers a run uses.

- Two workers against one on Pendulum, in turn.
- Sixteen workers on episodes that sleep 50 ms, against the ideal
  (episodes x 50 ms / 16) of each generation.
- Sixteen workers on episodes of heavy-tailed duration, against greedy list scheduling
  in dispatch order: each episode, in turn, to the worker that is free first.

    python benchmarks/workers.py
"""

from __future__ import annotations

import heapq
import time
from statistics import median
from typing import Any

import numpy as np
from common import in_turn, keep, machine, ratio

import distes
from distes import rollouts
from distes.distributions import Gaussian
from distes.evaluators.ray import RayEvaluator
from distes.population import Population, RunKey
from distes.randomness import noise_key

WORKERS = 16


def sleep_alike(parameters: Any, seed: int) -> float:
    """An environment that waits for its simulator, 50 ms an episode."""
    time.sleep(0.05)
    return float(parameters[0])


def heavy_tail(seed: int) -> float:
    """Seconds of an episode: log-normal, median 40 ms, a few of half a second."""
    return float(min(0.04 * np.exp(1.0 * np.random.default_rng(seed).standard_normal()), 0.8))


def sleep_unlike(parameters: Any, seed: int) -> float:
    """An environment whose episodes differ widely in length."""
    time.sleep(heavy_tail(seed))
    return float(parameters[0])


def evaluator(task: Any, workers: int, cpus: float) -> RayEvaluator:
    """Workers that wait need no whole processor."""
    policy = task.build_policy(None if isinstance(task, distes.FunctionTask) else _linear())
    engine = rollouts.resolve("auto", task)
    return RayEvaluator(task, policy, engine, workers=workers, cpus_per_worker=cpus)


def _linear() -> Any:
    return distes.policies.Linear()


def population(size: int, parameters: int, generation: int) -> Population:
    key = noise_key(0, generation)
    return Population(Gaussian(np.zeros(parameters), np.ones(parameters), key), size)


def two_against_one(pairs: int) -> dict[str, Any]:
    """Pendulum, 512 candidates a generation: about a second of work for one worker."""
    task = distes.Task("Pendulum-v1")
    one, two = evaluator(task, 1, 0.5), evaluator(task, 2, 0.5)
    asked = population(512, 4, 0)

    def run(which: RayEvaluator) -> None:
        which.submit(asked, RunKey(0, 0)).result()

    for which in (one, two):
        run(which)
    timed = in_turn(lambda: run(two), lambda: run(one), pairs)
    two.close()
    one.close()  # it started Ray
    return {
        "measure": "1 worker / 2 workers, Pendulum-v1, 512 episodes: seconds",
        "value": ratio(timed)["ratio_median"],
        "q25": ratio(timed)["ratio_q25"],
        "q75": ratio(timed)["ratio_q75"],
        "count": pairs,
    }


def sleeping(generations: int, size: int) -> dict[str, Any]:
    """Share of the ideal, generation by generation."""
    workers = evaluator(distes.FunctionTask(sleep_alike, 2, noisy=True), WORKERS, 0.1)
    shares = []
    for generation in range(generations + 2):
        began = time.perf_counter()
        workers.submit(population(size, 2, generation), RunKey(0, generation)).result()
        if generation >= 2:
            shares.append(size * 0.05 / WORKERS / (time.perf_counter() - began))
    workers.close()
    return {
        "measure": f"{WORKERS} workers, 50 ms episodes, {size} a generation: share of ideal",
        "value": median(shares),
        "q25": float(np.quantile(shares, 0.25)),
        "q75": float(np.quantile(shares, 0.75)),
        "count": generations,
    }


def greedy(durations: list[float]) -> float:
    """Seconds that greedy list scheduling takes."""
    free = [0.0] * WORKERS
    for duration in durations:
        heapq.heappush(free, heapq.heappop(free) + duration)
    return max(free)


def heavy_tailed(generations: int, size: int) -> dict[str, Any]:
    """Wall time over greedy list scheduling of the same durations."""
    workers = evaluator(distes.FunctionTask(sleep_unlike, 2, noisy=True), WORKERS, 0.1)
    over = []
    for generation in range(generations + 2):
        key = RunKey(0, generation)
        asked = population(size, 2, generation)
        began = time.perf_counter()
        workers.submit(asked, key).result()
        wall = time.perf_counter() - began
        if generation >= 2:
            over.append(wall / greedy([heavy_tail(int(s)) for s in asked.seeds(key, 0, size)]))
    workers.close()
    return {
        "measure": f"{WORKERS} workers, heavy-tailed, {size} a generation: time / greedy",
        "value": median(over),
        "q25": float(np.quantile(over, 0.25)),
        "q75": float(np.quantile(over, 0.75)),
        "count": generations,
    }


def main() -> None:
    rows = [two_against_one(25)] if (machine()["cores"] or 1) >= 2 else []
    rows += [sleeping(25, 960), sleeping(25, 320), heavy_tailed(25, 960)]
    keep("workers", rows)


if __name__ == "__main__":
    main()
