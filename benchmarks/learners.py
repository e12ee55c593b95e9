"""Learning from trajectories, seed by seed: what the examples reach, and how.

Runs the examples of deep_cem, tabular_cem and reinforce with several seeds, keeps what each
reaches with its curve, and draws the curves: the median over the seeds of a generation's mean
return, from the lowest to the highest seed as a band.

    python benchmarks/learners.py --out benchmarks/results --figure docs/learners.png
    python benchmarks/learners.py cartpole_deep_cem --seeds 10
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from common import RESULTS, keep, options

from distes import Result, Search, Task
from distes.evaluators.serial import SerialEvaluator
from distes.population.records import Purpose, RunKey
from distes.search.config_file import from_config, read_toml

EXAMPLES = Path(__file__).parents[1] / "examples"
BLUE, GREY = "#0072B2", "0.45"


@dataclass(frozen=True)
class Aim:
    """What an example is to reach.

    Attributes:
        title: of its panel.
        figure: which of a row's figures is compared.
        least: that it is to reach.
        seeds: unless asked otherwise.
    """

    title: str
    figure: str
    least: float
    seeds: int = 10


AIMS = {
    "cartpole_deep_cem": Aim("CartPole-v0, deep_cem", "best_mean", 190.0),
    "cartpole_reinforce": Aim("CartPole-v0, softmax", "confirmed", 195.0),
    "cartpole_reinforce_sigmoid": Aim("CartPole-v0, sigmoid", "confirmed", 195.0),
    "taxi_tabular_cem": Aim("Taxi-v4, tabular_cem", "last_mean", 0.0),
    "frozen_lake_tabular_cem": Aim("FrozenLake-v1, tabular_cem", "score", 0.7),
    "mountain_car_deep_cem": Aim("MountainCar-v0, deep_cem", "score", -150.0),
    "mountain_car_continuous_deep_cem": Aim("MountainCarContinuous-v0, deep_cem", "score", 80.0),
    "lunar_lander_deep_cem": Aim("LunarLander-v3, deep_cem", "score", 50.0, seeds=5),
}


def one(job: tuple[str, int]) -> dict[str, Any]:
    """Run an example with a seed, in this process."""
    name, seed = job
    with tempfile.TemporaryDirectory() as folder:
        config = read_toml(EXAMPLES / f"{name}.toml") | {"seed": seed, "workers": 0}
        search = from_config(config | {"out": str(Path(folder) / "run")}, Search)
        result = search.run()
        frame = result.run.generations
        curve = frame["episode_return_mean"].round(2).tolist()
        return {
            "example": name,
            "seed": seed,
            "score": result.score.mean,
            "low": result.score.low,
            "high": result.score.high,
            "score_at_own_limit": at_own_limit(search, result),
            "best_mean": max(curve),
            "last_mean": curve[-1],
            "confirmed": AIMS[name].least if "confirmed" in result.stopped else None,
            "stopped": result.stopped,
            "episodes": int(frame["episodes"].sum()),
            "env_steps": int(frame["env_steps"].sum()),
            "seconds": float(frame["elapsed_s"].iloc[-1]),
            "engine": result.run.config["engine"],
            "population": int(frame["episodes"].iloc[0]),
            "curve": curve,
        }


def at_own_limit(search: Search, result: Result) -> float | None:
    """Score where the environment's own step limit holds; None where it held anyway."""
    task = search.task
    if not isinstance(task, Task) or task.max_episode_steps is None:
        return None
    evaluator = SerialEvaluator(Task(task.env), search.built_policy(), "loop")
    solution = replace(result.solution, episodes=100, purpose=Purpose.TEST)
    returns = evaluator.submit(solution, RunKey(search.seed, 0)).result().episodes.episode_return
    return float(returns.mean())


def draw(axes: Any, aim: Aim, rows: list[dict[str, Any]]) -> None:
    """Draw the curves of an example's seeds over episodes; finished ones keep their last mean."""
    longest = max(len(row["curve"]) for row in rows)
    curves = [row["curve"] for row in rows]
    table = np.array([curve + [curve[-1]] * (longest - len(curve)) for curve in curves])
    episodes = rows[0]["population"] * np.arange(1, longest + 1)
    axes.fill_between(episodes, table.min(0), table.max(0), color=BLUE, alpha=0.2, lw=0)
    axes.plot(episodes, np.median(table, axis=0), color=BLUE, lw=2)
    axes.axhline(aim.least, color=GREY, lw=1, ls="--")
    axes.set_title(f"{aim.title}\n{len(rows)} seeds", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.02)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("names", nargs="*", metavar="EXAMPLE")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--figure", type=Path, help="draw the kept tables of all examples")
    given = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for name in given.names or AIMS:
            aim = AIMS[name]
            rows = pool.map(one, [(name, s) for s in range(given.seeds or aim.seeds)], chunksize=1)
            keep(f"learners_{name}", rows, given.out)
            reached = [row for row in rows if (row[aim.figure] or -np.inf) >= aim.least]
            scores = [row["score"] for row in rows]
            print(
                f"{name}: {len(reached)} of {len(rows)} seeds reach {aim.figure} {aim.least:g}; "
                f"scores {min(scores):.1f} ... {median(scores):.1f} ... {max(scores):.1f}; "
                f"median episodes {median(row['episodes'] for row in rows):.0f}",
                flush=True,
            )
    if given.figure is not None:
        mpl.rcParams.update({"font.size": 10})
        figure, panels = plt.subplots(2, 4, figsize=(13, 6.2), constrained_layout=True)
        for axes, (name, aim) in zip(panels.flat, AIMS.items(), strict=True):
            kept = json.loads((RESULTS / f"learners_{name}.json").read_text(encoding="utf-8"))
            draw(axes, aim, kept["rows"])
        figure.supxlabel("episodes")
        figure.supylabel("mean return of a generation")
        figure.savefig(given.figure, dpi=110)


if __name__ == "__main__":
    main()
