"""Parallel CEM with 4096 candidates: a plain multiprocessing program beside distes.

The program is what one writes in an afternoon: a pool of processes, each with an environment
of its own, ``pool.map`` over the candidates, one seed each, no log. distes runs the same
search (examples/cartpole_v0_4096.toml, pendulum_4096.toml) on as many workers, with a log of
every episode. Both are timed from when all their workers are ready, in distes from the start
of the first episode; the program to the end of its last generation, distes until its log is on
disk, with the scores of its solution on unseen episodes, and beside that to the end of the last
generation.

    python benchmarks/seed_systems.py
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from common import keep, options

from distes import Search
from distes.runs.storage.location import Location
from distes.search.config_file import from_config, read_toml
from distes.search.observer import Observer

EXAMPLES = Path(__file__).parents[1] / "examples"
RUNS = {"cartpole_v0_4096": ("CartPole-v0", 8), "pendulum_4096": ("Pendulum-v1", 15)}
CANDIDATES, ELITES = 4096, 0.2
REPEATS = {"cartpole_v0_4096": 9, "pendulum_4096": 2}
"""The pendulum takes minutes."""

PHASES = ("ask_s", "run_s", "tell_s", "log_s")

_env: Any = None


def begin(name: str) -> None:
    """Make a process's environment."""
    global _env  # noqa: PLW0603 - what a pool's initializer is for
    _env = gym.make(name)


def evaluate(job: tuple[np.ndarray, int]) -> float:
    """Run an episode of a linear policy."""
    parameters, seed = job
    discrete = hasattr(_env.action_space, "n")
    width = _env.observation_space.shape[0]
    actions = _env.action_space.n if discrete else _env.action_space.shape[0]
    weights = parameters[: width * actions].reshape(width, actions)
    bias = parameters[width * actions :]
    seen, _ = _env.reset(seed=seed)
    total = 0.0
    while True:
        outputs = seen @ weights + bias
        action = int(outputs.argmax()) if discrete else np.clip(outputs, -2.0, 2.0)
        seen, reward, terminated, truncated, _ = _env.step(action)
        total += float(reward)
        if terminated or truncated:
            return total


def program(name: str, generations: int, workers: int) -> dict[str, float]:
    """Search with a pool of processes; seconds in all, and in evaluation."""
    generator = np.random.default_rng(0)
    probe = gym.make(name)
    discrete = hasattr(probe.action_space, "n")
    size = (probe.observation_space.shape[0] + 1) * (probe.action_space.n if discrete else 1)
    mean, std = generator.uniform(0.0, 1.0, size), np.ones(size)
    spent = 0.0
    with multiprocessing.get_context("spawn").Pool(workers, begin, (name,)) as pool:
        pool.map(evaluate, [(mean, 0)] * workers, chunksize=1)
        began = time.perf_counter()
        for generation in range(generations):
            extra = max(1.0 - generation / 10, 0.0) * 4.0
            scale = np.sqrt(std**2 + extra)
            candidates = mean + scale * generator.standard_normal((CANDIDATES, size))
            seeds = generator.integers(0, 2**31, CANDIDATES).tolist()
            asked = time.perf_counter()
            returns = np.array(pool.map(evaluate, list(zip(candidates, seeds, strict=True))))
            spent += time.perf_counter() - asked
            elites = candidates[np.argsort(-returns)[: int(ELITES * CANDIDATES)]]
            mean, std = elites.mean(axis=0), elites.std(axis=0)
        whole = time.perf_counter() - began
    return {"seconds": whole, "evaluation_s": spent, "last_mean": float(returns.mean())}


class Watch(Observer):
    """Notes when a search begins."""

    began = 0.0

    def started(self, search: Search, path: Location, resumed_at: int | None) -> None:
        """Note it."""
        self.began = time.time()


def ours(example: str, workers: int) -> dict[str, float]:
    """Run an example; seconds in all, and in each phase."""
    with tempfile.TemporaryDirectory() as folder:
        config = read_toml(EXAMPLES / f"{example}.toml")
        place = {"workers": workers, "min_workers": max(workers, 1), "out": f"{folder}/run"}
        watch = Watch()
        search = replace(from_config(config | place, Search), observers=(watch,))
        result = search.run()
        frame = result.run.generations
        # Until its workers are ready the first generation waits.
        first = result.run.episodes["started_at"].min().timestamp()
        written = max(path.stat().st_mtime for path in Path(f"{folder}/run").rglob("*"))
        waited = first - watch.began
        phases = {name: float(frame[name].sum()) for name in PHASES}
        phases["run_s"] -= waited
        return {
            "seconds": written - first,
            "generations_s": float(frame["elapsed_s"].iloc[-1]) - waited,
            "last_mean": float(frame["episode_return_mean"].iloc[-1]),
            "waited_s": waited,
            "kernel_s": float(result.run.episodes["duration_s"].sum()),
            **phases,
        }


def main() -> None:
    given = options(__doc__).parse_args()
    cores = os.cpu_count() or 1
    rows = []
    for example, (name, generations) in RUNS.items():
        for _ in range(REPEATS[example]):
            theirs = program(name, generations, cores)
            for workers in (0, cores):
                mine = ours(example, workers)
                rows.append(
                    {
                        "example": example,
                        "workers": workers,
                        "episodes": generations * CANDIDATES,
                        "program_s": theirs["seconds"],
                        "program_evaluation_s": theirs["evaluation_s"],
                        "program_last_mean": theirs["last_mean"],
                        "distes_s": mine["seconds"],
                        "distes_last_mean": mine["last_mean"],
                        "ratio": theirs["seconds"] / mine["seconds"],
                        **{f"distes_{k}": v for k, v in mine.items() if k.endswith("_s")},
                    }
                )
    keep("seed_systems", rows, given.out)


if __name__ == "__main__":
    main()
