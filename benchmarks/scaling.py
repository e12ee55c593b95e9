"""What the driver costs on clusters of up to 10,000 workers, and where it saturates.

- Ray's own calls, measured on a real Ray with two workers that do nothing: processor time
  of all the driver's threads.
- The evaluator under a stand-in for Ray in virtual time (`fake_ray.py`), with those costs
  added: two generations of twenty episodes a worker, the second of which counts. Episodes
  take 0.5 to 1.5 times their mean.
- The learning side: ask, tell and log of a large generation.

    python benchmarks/scaling.py            # at most 10,000 workers, some minutes
    python benchmarks/scaling.py --most 1000  # at most 1,000 workers
"""

from __future__ import annotations

import logging
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import ray
from common import keep, options
from fake_ray import Costs, FakeRay, under

import distes
from distes.engines import choice
from distes.engines.wire import ROW, Chunk, WireTuple
from distes.evaluators.base import PlacedChunk, assemble_evaluated
from distes.evaluators.ray import RayEvaluator
from distes.evaluators.worker import Answer
from distes.population.distributions import Gaussian
from distes.population.records import Population, RunKey
from distes.population.statistics import summarise_generation
from distes.runs import writer
from distes.runs.writer import RunLog
from distes.search.problem import SearchProblem
from distes.seeds import noise_key
from distes.strategies.cem import CEM

WORKERS = (16, 64, 256, 1000, 4000, 10_000)
EPISODE_S = (0.01, 0.1, 1.0)
PER_WORKER = 20

LARGER = (
    (256, 0.1, 100),
    (1000, 0.01, 100),
    (1000, 0.1, 100),
    (4000, 0.1, 100),
    (4000, 1.0, 100),
    (10000, 0.1, 100),
    (10000, 1.0, 60),
)
"""Workers, seconds of an episode, and episodes for each worker of larger generations."""


class Nothing:
    """A worker that does nothing."""

    def run(self, evaluation: int, start: int, stop: int, oldest: int, sent: object) -> WireTuple:
        """Answer at once."""
        return Answer(Chunk(start, stop, np.zeros(stop - start, ROW)), 0.0).to_wire()


def cpu_s(work: Callable[[], object], times: int, repeats: int = 5) -> float:
    """Give the processor time of all threads, per time."""
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        taken.append((time.process_time() - began) / times)
    return median(taken)


def ray_calls() -> tuple[Costs, list[dict[str, Any]]]:
    """Measure Ray's calls as the driver makes them."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    actor_class = ray.remote(num_cpus=1)(Nothing)
    actors = [actor_class.remote() for _ in range(2)]

    def call(number: int) -> Any:
        return actors[number % 2].run.remote(1, number, number + 1, 1, None)

    def rounds() -> None:
        running = [call(number) for number in range(4)]
        for number in range(1000):
            (ready,), running = ray.wait(running, num_returns=1)
            ray.get(ready)
            running.append(call(number))
        ray.get(running)

    rounds()
    round_s = cpu_s(rounds, 1000)
    held: list[Any] = []
    submit, get = [], []
    for _ in range(5):
        held.clear()
        submit.append(cpu_s(lambda: held.extend(call(n) for n in range(1000)), 1000, repeats=1))
        ray.wait(held, num_returns=len(held))
        get.append(cpu_s(lambda: [ray.get(each) for each in held], 1000, repeats=1))
    # References that never resolve: of an actor that finds no room.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    waiting = [actor_class.options(num_cpus=1000).remote() for _ in range(500)]
    memory_kb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 500
    rows = [
        {"call": "submit", "cpu_us": 1e6 * median(submit)},
        {"call": "get", "cpu_us": 1e6 * median(get)},
        {"call": "submit, wait among 4, get: a whole round", "cpu_us": 1e6 * round_s},
    ]
    looks: list[float] = []
    pending: list[Any] = []
    for references in (128, 2000, 20_000):
        while len(pending) < references:
            pending.append(waiting[len(pending) % 500].run.remote(1, 0, 1, 1, None))
        times = 20 if references < 10_000 else 5

        def looked(times: int = times) -> None:
            for _ in range(times):
                ray.wait([*pending, held[0]], num_returns=1, timeout=0)
                ray.wait([*pending, held[0]], num_returns=len(pending) + 1, timeout=0)

        looks.append(cpu_s(looked, times))
        rows.append(
            {"call": f"wait, twice, among {references} references", "cpu_us": 1e6 * looks[-1]}
        )
    rows.append({"call": "an actor's handle: KB of memory", "cpu_us": memory_kb})
    ray.shutdown()
    # What a round takes beyond the calls is of Ray's threads: it goes with the submission.
    get_s = median(get)
    return Costs(round_s - get_s, get_s, looks[1] / 2000 / 2), rows


def value(parameters: Any, seed: int) -> float:
    """Is never called."""
    raise NotImplementedError


def generation(
    workers: int, episode_s: float, costs: Costs, per_worker: int = PER_WORKER
) -> dict[str, Any]:
    """Drive two generations, and tell of the second."""
    fake = FakeRay(costs)
    task = distes.FunctionTask(value, 10, noisy=True)
    size = workers * per_worker
    rng = np.random.default_rng(0)
    with under(fake, workers):
        evaluator = RayEvaluator(
            task,
            task.build_policy(None),
            choice.resolve("auto", task),
            workers=workers,
            min_workers=workers,
        )
        clock = fake.clock
        for number in range(2):
            durations = episode_s * rng.uniform(0.5, 1.5, size)
            fake.ends[number + 1] = np.concatenate([[0.0], np.cumsum(durations)])
            distribution = Gaussian(np.zeros(10), np.ones(10), noise_key(0, number))
            before, parts = (clock.now(), clock.ray_s, clock.idle_s), dict(clock.parts)
            fake.chunks = 0
            evaluator.submit(Population(distribution, size), RunKey(0, number)).result()
        wall = clock.now() - before[0]
        evaluator.close()
    part = {name: clock.parts[name] - parts.get(name, 0.0) for name in sorted(clock.parts)}
    busy = wall - (clock.idle_s - before[2])
    looks_s = clock.ray_s - before[1] - fake.chunks * (costs.submit_s + costs.get_s)
    return {
        "workers": workers,
        "episode_s": episode_s,
        "episodes_per_worker": per_worker,
        "episodes_per_chunk": size / fake.chunks,
        "dispatch_us": 1e6 * part["dispatch"] / fake.chunks,
        "receive_us": 1e6 * (part["receive"] + part["step"]) / fake.chunks,
        "assemble_us": 1e6 * part["assemble"] / fake.chunks,
        "ray_wait_us": 1e6 * looks_s / fake.chunks,
        "ray_rest_us": 1e6 * (costs.submit_s + costs.get_s),
        "driver_us_per_episode": 1e6 * busy / size,
        "driver_busy": busy / wall,
        "share_of_ideal": float(durations.sum()) / workers / wall,
    }


def learning(size: int, parameters: int) -> dict[str, Any]:
    """Time ask, tell and log of one large generation, per episode."""
    task = distes.FunctionTask(value, parameters, noisy=True)
    problem = SearchProblem(
        task=task,
        engine="function",
        policy=task.build_policy(None),
        start=np.zeros(parameters),
        seed=0,
        population_size=size,
        episodes=1,
        common_seeds=False,
    )
    strategy = CEM()
    state = strategy.init(problem)
    key = RunKey(0, 0)
    rows = np.zeros(size, ROW)
    rows["episode_return"] = np.random.default_rng(0).standard_normal(size)
    rows["duration_s"] = np.random.default_rng(1).uniform(0.5, 1.5, size)
    rows["started_at"] = 1.7e9 + rows["duration_s"]
    population = strategy.ask(problem, state)
    answer = assemble_evaluated(
        population, key, task, [PlacedChunk(Chunk(0, size, rows))], ["node"], summary={}
    )
    thread: list[float] = []
    original = writer.RunLog._work

    def timed(self: Any) -> None:
        original(self)
        thread.append(time.thread_time())

    writer.RunLog._work = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        log = RunLog.create(Path(folder) / "run", {})
        began = time.thread_time()
        log.add_generation(
            summarise_generation(population, answer.episodes), key, population, answer
        )
        log.commit(state, now=True)
        log_s = time.thread_time() - began
        log.close()
        files = list((Path(folder) / "run" / "episodes").iterdir())
        disk = sum(each.stat().st_size for each in files)
    writer.RunLog._work = original  # type: ignore[method-assign]
    arrays = [*vars(answer.episodes).values(), *vars(answer.telemetry).values()]
    return {
        "episodes": size,
        "parameters": parameters,
        "ask_us": 1e6 * cpu_s(lambda: strategy.ask(problem, state), size),
        "tell_us": 1e6
        * cpu_s(lambda: strategy.tell(problem, state, population, answer.episodes), size),
        "log_in_loop_us": 1e6 * log_s / size,
        "log_thread_us": 1e6 * thread[0] / size,
        "log_bytes": disk / size,
        "memory_bytes": sum(each.nbytes for each in arrays if isinstance(each, np.ndarray)) / size,
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--most", type=int, default=max(WORKERS), help="workers, at most")
    given = parser.parse_args()
    most = given.most
    costs, calls = ray_calls()
    keep("scaling_ray", calls, given.out)
    keep(
        "scaling_learning",
        [learning(20_000, 10), learning(200_000, 10), learning(20_000, 1000)],
        given.out,
    )
    rows = [
        generation(workers, episode_s, costs)
        for workers in WORKERS
        if workers <= most
        for episode_s in EPISODE_S
    ]
    keep("scaling", rows, given.out)
    keep(
        "scaling_larger",
        [generation(n, each_s, costs, many) for n, each_s, many in LARGER if n <= most],
    )


if __name__ == "__main__":
    main()
