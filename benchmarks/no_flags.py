"""How far does `distes run ENV` get without a flag?

`distes run ENV --max-env-steps 2000000 --seed S` on fourteen tasks, in processes of their own
(--workers 0 besides, which changes no result): the final score on 100 unseen episodes beside the
score at which the task counts as solved. Runs are kept, and an interrupted table goes on.

    python benchmarks/no_flags.py RUNS [--tasks CartPole-v1 ...] [--seeds 3]
        [--out benchmarks/results]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import keep, options

import distes

STEPS = 2_000_000
TASKS = {
    "CartPole-v1": 475.0,
    "Acrobot-v1": -100.0,
    "MountainCar-v0": -110.0,
    "MountainCarContinuous-v0": 90.0,
    "Pendulum-v1": -200.0,
    "LunarLander-v3": 200.0,
    "LunarLanderContinuous-v3": 200.0,
    "BipedalWalker-v3": 300.0,
    "InvertedPendulum-v5": 950.0,
    "InvertedDoublePendulum-v5": 9_100.0,
    "Swimmer-v5": 325.0,
    "Reacher-v5": -3.75,
    "Hopper-v5": 3_120.0,
    "HalfCheetah-v5": 3_430.0,
}


def run(folder: Path, task: str, seed: int) -> dict[str, Any]:
    """Run one seed, or read what it has been."""
    out = folder / task / str(seed)
    asked = ["run", task, "--max-env-steps", str(STEPS), "--seed", str(seed), "--workers", "0"]
    command = [sys.executable, "-m", "distes", *asked, "--out", str(out), "--resume-if-exists"]
    subprocess.run(command, check=True, capture_output=True)
    found = distes.load(out)
    settings, generations = found.config["search"], found.generations
    final = next(row for row in found.events if row["kind"] == "finished")
    return {
        "task": task,
        "seed": seed,
        "strategy": settings["strategy"]["name"],
        "policy": settings["policy"]["name"],
        "score": round(final["score"]["mean"], 2),
        "steps": int(generations["env_steps"].sum()),
        "seconds": round(float(generations["elapsed_s"].iloc[-1]), 1),
    }


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a task."""
    lines = []
    for task, threshold in TASKS.items():
        own = sorted((row for row in rows if row["task"] == task), key=lambda row: row["seed"])
        if own:
            lines.append(
                {
                    "task": task,
                    "threshold": threshold,
                    "strategy": own[0]["strategy"],
                    "policy": own[0]["policy"],
                    "scores": ", ".join(str(row["score"]) for row in own),
                    "reached": f"{sum(row['score'] >= threshold for row in own)} of {len(own)}",
                    "steps": ", ".join(f"{row['steps']:,}" for row in own),
                }
            )
    return lines


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("runs", type=Path, help="folder of the runs")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="how many (3)")
    given = parser.parse_args()
    rows = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            pool.submit(run, given.runs, task, seed)
            for task in given.tasks
            for seed in range(given.seeds)
        ]
        for job in jobs:
            rows.append(job.result())
            print(json.dumps(rows[-1]), flush=True)
    keep("no_flags", summarise(rows), given.out)


if __name__ == "__main__":
    main()
