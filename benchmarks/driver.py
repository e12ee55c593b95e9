"""What the driver costs: a generation of a free function, and the log.

First, seconds per generation of a function that costs next to nothing (population 256,
10 parameters, two Ray workers), less what the function alone costs. Second, the log's
share of a run of half a minute: the seconds that the loop spends in the log, and the
processor time of the writer's thread. Third, generations of 4096 candidates on the compiled
engine: what they take beyond the kernel's own time, and the driver's processor time, log and
parameters of every episode included; means over generations, since the log comes in bursts.

    python benchmarks/driver.py
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import keep, options

import distes
from distes.runs import writer
from distes.search.observer import Observer

NOT_MEASURED = {"driver_cpu_ms": float("nan"), "steps": float("nan")}


WARM = 10
"""Generations that are left out at the beginning."""


def sphere(parameters: Any) -> float:
    """Cost next to nothing."""
    return -float(np.dot(parameters, parameters))


def free_function(out: Path, workers: int) -> dict[str, Any]:
    """Time generations of a function task."""
    task = distes.FunctionTask(sphere, num_parameters=10)
    search = distes.Search(
        task, strategy="cem", population=256, generations=300, workers=workers, out=out, target=1.0
    )
    run = search.run().run
    rows = run.generations.iloc[20:]
    thetas = np.random.default_rng(0).standard_normal((256, 10))
    began = time.perf_counter()
    for _ in range(20):
        for theta in thetas:
            sphere(theta)
    function_s = (time.perf_counter() - began) / 20
    per_generation = rows["elapsed_s"].diff().median()
    return {
        "measure": f"free function, 256 x 10, workers={workers}",
        "median_ms": 1e3 * per_generation,
        "function_ms": 1e3 * function_s,
        "beyond_function_ms": 1e3 * (per_generation - function_s),
        "ask_ms": 1e3 * rows["ask_s"].median(),
        "run_ms": 1e3 * rows["run_s"].median(),
        "tell_ms": 1e3 * rows["tell_s"].median(),
        "log_ms": 1e3 * rows["log_s"].median(),
        "log_share": float("nan"),
        **NOT_MEASURED,
    }


def log_share(out: Path, workers: int, seconds: float, steps: int) -> dict[str, Any]:
    """Measure the log of a CartPole run of half a minute with episodes of given length."""
    threads: dict[str, float] = {}
    original = writer.RunLog._work

    def timed(self: Any) -> None:
        original(self)
        threads["writer"] = time.thread_time()

    writer.RunLog._work = timed  # type: ignore[method-assign]
    search = distes.Search(
        distes.Task("CartPole-v1", max_episode_steps=steps),
        strategy="cem",
        population=256,
        generations=None,
        max_seconds=seconds,
        workers=workers,
        out=out,
        engine="loop",
        target=1e9,
    )
    result = search.run()
    writer.RunLog._work = original  # type: ignore[method-assign]
    frame = result.run.generations
    in_loop = frame["log_s"].sum()
    wall = frame["elapsed_s"].iloc[-1]
    return {
        "measure": f"log, CartPole-v1 up to {steps} steps, {len(frame)} generations",
        "median_ms": 1e3 * frame["elapsed_s"].diff().median(),
        "function_ms": float("nan"),
        "beyond_function_ms": float("nan"),
        "ask_ms": 1e3 * frame["ask_s"].median(),
        "run_ms": 1e3 * frame["run_s"].median(),
        "tell_ms": 1e3 * frame["tell_s"].median(),
        "log_ms": 1e3 * frame["log_s"].median(),
        "log_share": (in_loop + threads["writer"]) / wall,
        **NOT_MEASURED,
    }


class Clock(Observer):
    """Notes the driver's processor time at each generation's end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def generation(self, row: Mapping[str, Any]) -> None:
        """Note it."""
        self.times.append(time.process_time())


def compiled(out: Path, workers: int) -> dict[str, Any]:
    """Time generations of 4096 candidates, one episode each, on the compiled engine."""
    clock = Clock()
    search = distes.Search(
        distes.Task("CartPole-v1"),
        strategy=distes.strategies.CEM(min_std=0.5),
        population=4096,
        generations=150,
        heldout_every=1000,
        engine="compiled",
        workers=workers,
        out=out,
        target=1e9,
        observers=(clock,),
    )
    run = search.run().run
    frame = run.generations.iloc[WARM:]
    kernels = run.episodes.groupby("generation")["duration_s"].sum().iloc[WARM:]
    # While the log is written kernels of this process wait for Python's lock: no work of theirs.
    kernel = kernels.median()
    mean = frame["elapsed_s"].diff().mean()
    busy = (clock.times[-1] - clock.times[WARM]) / (len(clock.times) - WARM - 1)
    beyond = mean - kernel / max(workers, 1)
    return {
        "measure": f"compiled, CartPole-v1, 4096 x {run.config['num_parameters']}, {workers=}",
        "median_ms": 1e3 * frame["elapsed_s"].diff().median(),
        "function_ms": 1e3 * kernel,
        "beyond_function_ms": 1e3 * beyond,
        "ask_ms": 1e3 * frame["ask_s"].median(),
        "run_ms": 1e3 * frame["run_s"].median(),
        "tell_ms": 1e3 * frame["tell_s"].median(),
        "log_ms": 1e3 * frame["log_s"].median(),
        "log_share": float("nan"),
        "driver_cpu_ms": 1e3 * (busy - (0.0 if workers else kernel)),
        "steps": float(frame["env_steps"].median()),
    }


def main() -> None:
    given = options(__doc__).parse_args()
    assert threading.current_thread() is threading.main_thread()
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            free_function(Path(folder) / "a", 0),
            free_function(Path(folder) / "b", 2),
            log_share(Path(folder) / "c", 2, 35.0, steps=500),
            log_share(Path(folder) / "d", 2, 35.0, steps=20),
            compiled(Path(folder) / "e", 0),
            compiled(Path(folder) / "f", 2),
        ]
    keep("driver", rows, given.out)


if __name__ == "__main__":
    main()
