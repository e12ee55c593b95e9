"""Environment steps until a held-out return is confirmed at its threshold: entries by tasks.

An entry is a strategy of ours with its settings, or a peer: the packages cma and cmaes, driven by
strategy `external`, and EvoTorch's PGPE with ClipUp (pip install cma cmaes evotorch). Held-out
episodes are no steps; those that count are the ones that the confirmed solution was made from. A
run that does not get there within its budget counts as one that never does: a median is given
where more than half of the seeds got there.

Each run is a run directory, or a small file for EvoTorch, so that an interrupted table goes on
where it was. With --out, zoo_runs.json keeps a row for every run, with its held-out curve, and
what it had from other times; zoo.json and zoo_best.json sum all of them up. zoo_curves.py draws
the curves.

    python benchmarks/zoo.py RUNS [--tasks CartPole-v1 ...] [--entries cmaes package-cma ...]
        [--seeds 10] [--out benchmarks/results]
"""

from __future__ import annotations

import json
import multiprocessing
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import keep, options
from zoo_peers import LANDER, NARROW, SMALL_NETWORK, WALKER, EvoTorchPGPE, measure_evotorch

import distes
from distes.policies import MLP
from distes.search.search import Search
from distes.strategies import ARS, CEM, CMAES, PGPE, External
from distes.strategies.base import Strategy


@dataclass(frozen=True)
class Goal:
    """What is asked on a task, of whom, and with what.

    Attributes:
        threshold: held-out return to be confirmed.
        max_env_steps: after which a search gives up.
        ours: entries, chosen by a pilot of two seeds.
        peers: entries; cma and cmaes are tried on all.
        settings: of `Search`, for all entries that are run by it.
    """

    threshold: float
    max_env_steps: int
    ours: tuple[str, ...]
    peers: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entries(self) -> tuple[str, ...]:
        """All who take part."""
        return (*self.ours, "package-cma", "package-cmaes", *self.peers)


NORMALIZED = {"normalize_observations": True}
SMALL, LINEAR, WALKING = ("evotorch-network",), ("evotorch-lander",), ("evotorch-walker",)
CLASSIC, LANDERS, ROBOTS = ("cmaes", "cem", "ars"), ("cmaes", "ars", "pgpe"), ("cmaes", "ars")
TASKS = {
    "CartPole-v1": Goal(475, 150_000, CLASSIC, SMALL, NORMALIZED),
    "Acrobot-v1": Goal(-100, 200_000, CLASSIC, SMALL),
    "MountainCarContinuous-v0": Goal(90, 300_000, CLASSIC, SMALL, NORMALIZED),
    "Pendulum-v1": Goal(
        threshold=-200,
        max_env_steps=1_500_000,
        ours=CLASSIC,
        peers=SMALL,
        # A linear policy cannot swing a pendulum up.
        settings={"policy": MLP(hidden=(16, 16), rescale_actions=True)},
    ),
    "LunarLander-v3": Goal(200, 1_500_000, LANDERS, LINEAR, NORMALIZED),
    "LunarLanderContinuous-v3": Goal(200, 2_000_000, LANDERS, LINEAR, NORMALIZED),
    "BipedalWalker-v3": Goal(
        threshold=300,
        max_env_steps=10_000_000,
        ours=ROBOTS,
        peers=WALKING,
        settings={**NORMALIZED, "heldout_every": 5},
    ),
    "InvertedPendulum-v5": Goal(950, 300_000, ROBOTS, SMALL),
    "InvertedDoublePendulum-v5": Goal(9_100, 1_000_000, ROBOTS, SMALL),
    "Swimmer-v5": Goal(325, 1_500_000, ROBOTS, LINEAR, NORMALIZED),
}
"""Those of the rl-zoo that a population solves on one machine. Budgets are three to fifteen times
what the fastest of ours took in the pilot; who needs more counts as one that never gets there."""

FIRST_SEED = 1_000
"""No pilot had these seeds."""


@dataclass(frozen=True)
class Entry:
    """One who takes part.

    Attributes:
        strategy: of ours, or EvoTorch with what it searches.
        settings: of `Search`, on all tasks; EvoTorch takes ``heldout_every`` alone.
        tasks: settings on one task that go before all others; ``strategy`` is one of them.
        package: whose it is; it is a peer then.
    """

    strategy: Strategy[Any] | EvoTorchPGPE
    settings: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    package: str = ""

    def settings_for(self, task: str) -> dict[str, Any]:
        """Settings of the search on a task, with the strategy."""
        own = {"strategy": self.strategy, **self.settings, **self.tasks.get(task, {})}
        return {"policy": "linear", "heldout_every": 1, **TASKS[task].settings, **own}


COMMON, ALWAYS = {"common_seeds": True}, {"heldout_every": 1}


def drive(package: str) -> Entry:
    """Let a package's optimiser take part."""
    wide, narrow = (
        External(f"zoo_peers:make_{width}{package}", recommendation="mean")
        for width in ("", "narrow_")
    )
    return Entry(wide, tasks={"Pendulum-v1": {**COMMON, "strategy": narrow}}, package=package)


ENTRIES = {
    "cem": Entry(CEM()),
    "cmaes": Entry(
        CMAES(),
        COMMON,
        tasks={
            "CartPole-v1": {"population": 4},
            "Acrobot-v1": {"population": 8, "common_seeds": False},
            "MountainCarContinuous-v0": {"population": 6, "common_seeds": False},
            "Pendulum-v1": {"strategy": CMAES(initial_std=NARROW), "population": 16},
            "LunarLander-v3": {"population": 32, "generation_env_steps": 5_000},
            "LunarLanderContinuous-v3": {"population": 24},
        },
    ),
    "pgpe": Entry(PGPE()),
    "ars": Entry(ARS()),
    "package-cma": drive("cma"),
    "package-cmaes": drive("cmaes"),
    "evotorch-network": Entry(SMALL_NETWORK, ALWAYS, package="evotorch"),
    "evotorch-lander": Entry(LANDER, ALWAYS, package="evotorch"),
    "evotorch-walker": Entry(WALKER, ALWAYS, package="evotorch"),
}
"""Ours have a population of a pilot's choice, the packages their own number, 4 + 3 ln d; common
seeds and initial standard deviation are the pilot's for both. EvoTorch documents settings for
three tasks, and none for others: the nearest is taken."""


def run(job: tuple[Path, str, str, int]) -> dict[str, Any]:
    """Run one seed in this process, or read what it has been."""
    folder, task, name, seed = job
    warnings.simplefilter("ignore")
    entry, goal = ENTRIES[name], TASKS[task]
    settings = entry.settings_for(task)
    out = folder / task / name / str(seed)
    if isinstance(settings["strategy"], EvoTorchPGPE):
        found = measure_evotorch(
            settings["strategy"],
            task,
            seed,
            threshold=goal.threshold,
            max_env_steps=goal.max_env_steps,
            heldout_every=settings["heldout_every"],
            out=out.with_suffix(".json"),
        )
    else:
        found = measure(goal, task=task, seed=seed, out=out, **settings)
    found["curve"] = [(steps, round(score, 2)) for steps, score in found["curve"]]
    return {"task": task, "entry": name, "seed": seed, "peer": bool(entry.package), **found}


def measure(goal: Goal, **settings: Any) -> dict[str, Any]:
    """Run a search, and read from its run directory what it took."""
    search = Search(
        target=goal.threshold,
        max_env_steps=goal.max_env_steps,
        generations=None,
        workers=0,
        **settings,
    )
    result = search.run(resume_if_exists=True)
    log = distes.load(settings["out"])
    generations = log.generations.set_index("generation")
    total = generations["env_steps"].cumsum()
    held = log.evaluations.query("purpose == 'heldout' and call == 0")
    means = held.groupby("generation")["episode_return"].mean()
    curve = [(int(total[generation]), float(mean)) for generation, mean in means.items()]
    reached = "reached the target" in result.stopped
    return {
        # The last held-out score is of the solution that was confirmed; the search went on with
        # its next generation meanwhile.
        "steps": curve[-1][0] if reached else int(total.iloc[-1]),
        "reached": reached,
        "score": result.score.mean,
        "seconds": float(generations["elapsed_s"].iloc[-1]),
        "curve": curve,
    }


def merge(rows: list[dict[str, Any]], out: Path | None) -> list[dict[str, Any]]:
    """Put rows in place of kept ones of the same runs, or beside them, and keep all."""
    if out is None:
        return rows
    place = out / "zoo_runs.json"
    kept = json.loads(place.read_text()) if place.exists() else []
    found = {(row["task"], row["entry"], row["seed"]): row for row in [*kept, *rows]}
    merged = [found[key] for key in sorted(found, key=lambda key: ([*TASKS].index(key[0]), key))]
    merged = [row for row in merged if row["entry"] in TASKS[row["task"]].entries]
    out.mkdir(parents=True, exist_ok=True)
    place.write_text("[\n" + ",\n".join(json.dumps(row) for row in merged) + "\n]\n")
    return merged


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up the seeds of an entry on a task."""
    first = rows[0]
    middle = median(row["steps"] if row["reached"] else np.inf for row in rows)
    return {
        "task": first["task"],
        "threshold": TASKS[first["task"]].threshold,
        "entry": first["entry"],
        "peer": first["peer"],
        "seeds": len(rows),
        "reached": sum(row["reached"] for row in rows),
        "median steps": None if middle == np.inf else round(middle),
        "median score": round(median(row["score"] for row in rows), 1),
        "least score": round(min(row["score"] for row in rows), 1),
        "median seconds": round(median(row["seconds"] for row in rows), 1),
    }


def compare(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Set the best entry of ours beside the best peer, of a task's lines of the table."""

    def rank(row: dict[str, Any]) -> tuple[float, int]:
        return row["median steps"] or np.inf, -row["reached"]

    compared = {"task": rows[0]["task"], "threshold": rows[0]["threshold"]}
    for who, peer in (("ours", False), ("peer", True)):
        those = [row for row in rows if row["peer"] == peer]
        best = min(those, key=rank, default={})
        compared[f"best {who}"] = best.get("entry")
        compared[f"{who} steps"] = best.get("median steps")
        compared[f"{who} reached"] = f"{best['reached']}/{best['seeds']}" if best else None
    return compared


def group(rows: list[dict[str, Any]], *columns: str) -> list[list[dict[str, Any]]]:
    """Gather rows that are alike in some columns, in the order of the rows."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in columns), []).append(row)
    return list(groups.values())


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("runs", type=Path, help="folder of the runs")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--entries", nargs="+", choices=ENTRIES, help="those of each task")
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="how many (10)")
    given = parser.parse_args()
    entries = {task: given.entries or TASKS[task].entries for task in given.tasks}
    named = {name for names in entries.values() for name in names}
    packages = {ENTRIES[name].package for name in named} - {""}
    absent = [package for package in sorted(packages) if find_spec(package) is None]
    if absent:
        parser.error(f"not installed: {', '.join(absent)}; install them, or name other --entries")
    jobs = [
        (given.runs, task, entry, seed)
        for task in given.tasks
        for entry in entries[task]
        for seed in range(FIRST_SEED, FIRST_SEED + given.seeds)
    ]
    rows = []
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), maxtasksperchild=4) as pool:
        for row in pool.imap(run, jobs):
            print({name: row[name] for name in ("task", "entry", "seed", "steps", "score")})
            rows.append(row)
    table = [summarise(seeds) for seeds in group(merge(rows, given.out), "task", "entry")]
    keep("zoo", table, given.out)
    keep("zoo_best", [compare(entries) for entries in group(table, "task")], given.out)


if __name__ == "__main__":
    main()
