"""How much of its workers a run uses.

- Two workers against one on Pendulum, in turn.
- Sixteen workers on episodes that sleep 50 ms, against the ideal
  (episodes x 50 ms / 16) of each generation.
- Sixteen workers on episodes of heavy-tailed duration, against greedy list scheduling
  in dispatch order: each episode, in turn, to the worker that is free first.
- Sixty-four workers on episodes that sleep 50 to 200 ms, against the ideal (sum of the
  sleeps / 64); and on heavy-tailed ones, four times as long.

    python benchmarks/workers.py            # all
    python benchmarks/workers.py --only-64  # those with 64 workers
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from common import in_turn, keep, machine, options, ratio

import distes
from distes.evaluators.ray import RayEvaluator
from distes.population.distributions import Gaussian
from distes.population.records import Population, RunKey
from distes.seeds import noise_key

WORKERS = 16
MANY = 64


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


def long_tail(seed: int) -> float:
    """Four times as long: for four times the workers, as many chunks a second."""
    return 4 * heavy_tail(seed)


def sleep_long(parameters: Any, seed: int) -> float:
    """An environment whose longer episodes differ widely in length."""
    time.sleep(long_tail(seed))
    return float(parameters[0])


def uniform(seed: int) -> float:
    """Seconds of an episode: 50 to 200 ms."""
    return float(np.random.default_rng(seed).uniform(0.05, 0.2))


def sleep_uniform(parameters: Any, seed: int) -> float:
    """An environment whose episodes differ somewhat in length."""
    time.sleep(uniform(seed))
    return float(parameters[0])


def evaluator(task: Any, workers: int, cpus: float) -> RayEvaluator:
    """Workers that wait need no whole processor."""
    free = isinstance(task, distes.FunctionTask)
    policy = task.build_policy(None if free else _linear())
    engine = "function" if free else "loop"
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


def greedy(durations: list[float], workers: int) -> float:
    """Seconds that greedy list scheduling takes."""
    free = [0.0] * workers
    for duration in durations:
        heapq.heappush(free, heapq.heappop(free) + duration)
    return max(free)


def against_sum(
    function: Callable[[Any, int], float],
    duration: Callable[[int], float],
    number: int,
    cases: list[tuple[int, int]],
) -> list[dict[str, Any]]:
    """Share of ideal, and time over greedy list scheduling, of the same durations.

    Args:
        function: what workers run.
        duration: seconds that it takes, by seed.
        number: workers.
        cases: generations and their size.
    """
    workers = evaluator(distes.FunctionTask(function, 2, noisy=True), number, 0.1)
    rows, at = [], 0
    for generations, size in cases:
        shares, over, duplicates, busy = [], [], [], []
        for generation in range(at, at + generations + 2):
            key, asked = RunKey(0, generation), population(size, 2, generation)
            durations = [duration(int(seed)) for seed in asked.seeds(key, 0, size)]
            began, used = time.perf_counter(), time.process_time()
            answer = workers.submit(asked, key).result()
            wall = time.perf_counter() - began
            if generation >= at + 2:
                shares.append(sum(durations) / number / wall)
                over.append(wall / greedy(durations, number))
                duplicates.append(answer.telemetry.summary["duplicates"] / size)
                busy.append((time.process_time() - used) / wall)
        at += generations + 2
        what = f"{number} workers, {function.__name__}, {size} a generation"
        measures = {
            "share of ideal": shares,
            "time / greedy": over,
            "run twice": duplicates,
            "driver's processor time": busy,
        }
        rows += [
            {
                "measure": f"{what}: {name}",
                "value": median(values),
                "q25": float(np.quantile(values, 0.25)),
                "q75": float(np.quantile(values, 0.75)),
                "count": generations,
            }
            for name, values in measures.items()
        ]
    workers.close()
    return rows


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only-64", action="store_true", help="only those with 64 workers")
    given = parser.parse_args()
    rows = []
    if not given.only_64:
        rows += [two_against_one(25)] if (machine()["cores"] or 1) >= 2 else []
        rows += [sleeping(25, 960), sleeping(25, 320)]
        rows += against_sum(sleep_unlike, heavy_tail, WORKERS, [(25, 960)])
    rows += against_sum(sleep_uniform, uniform, MANY, [(10, MANY * 40), (5, MANY * 100)])
    rows += against_sum(sleep_long, long_tail, MANY, [(8, MANY * 60)])
    keep("workers_64" if given.only_64 else "workers", rows, given.out)


if __name__ == "__main__":
    main()
