"""Does augmented random search do what its paper says?

The settings of Mania, Guy and Recht (2018, arXiv:1803.07055) in examples/ars_*.toml, seed by seed:
episodes until a held-out return is confirmed at the paper's threshold, within twice as many
episodes as the paper needed. The paper counts the episodes of the best of three seeds, on earlier
versions of these environments; of a hundred seeds some 70% got there, on Walker2d 20%.

Runs are kept, and an interrupted table goes on.

    python benchmarks/ars.py RUNS [--robots swimmer hopper ...] [--seeds 10]
        [--out benchmarks/results]
"""

from __future__ import annotations

import multiprocessing
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from common import keep, options

import distes
from distes.search.config_file import from_config, read_toml
from distes.search.search import Search

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@dataclass(frozen=True)
class Published:
    """What the paper says of an environment.

    Attributes:
        threshold: return at which it counts as solved.
        episodes: until then, of the best of three seeds.
    """

    threshold: float
    episodes: int


PAPER = {
    "swimmer": Published(325.0, 100),
    "hopper": Published(3_120.0, 1_973),
    "half_cheetah": Published(3_430.0, 1_707),
    "walker2d": Published(4_390.0, 24_000),
    "ant": Published(3_580.0, 20_800),
}


def run(job: tuple[Path, str, int]) -> dict[str, Any]:
    """Run one seed, or read what it has been."""
    folder, robot, seed = job
    warnings.simplefilter("ignore")
    published = PAPER[robot]
    out = folder / robot / str(seed)
    given = read_toml(EXAMPLES / f"ars_{robot}.toml") | {
        "seed": seed,
        "workers": 0,
        "out": str(out),
        "target": published.threshold,
        "max_env_steps": "none",
        "max_episodes": 2 * published.episodes,
    }
    result = from_config(given, Search).run(resume_if_exists=True)
    log = distes.load(out)
    generations = log.generations.set_index("generation")
    held = log.evaluations.query("purpose == 'heldout' and call == 0")
    reached = "reached the target" in result.stopped
    # The last held-out score is of the solution that was confirmed.
    end = int(held["generation"].max()) if reached else int(generations.index[-1])
    until = generations.loc[:end]
    return {
        "robot": robot,
        "seed": seed,
        "reached": reached,
        "episodes": int(until["episodes"].sum()),
        "steps": int(until["env_steps"].sum()),
        "score": round(result.score.mean, 1),
        "minutes": round(float(generations["elapsed_s"].iloc[-1]) / 60, 2),
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up the seeds of a robot, beside the paper."""
    published = PAPER[rows[0]["robot"]]
    there = [row for row in rows if row["reached"]]
    return {
        "robot": rows[0]["robot"],
        "threshold": published.threshold,
        "paper's episodes": published.episodes,
        "reached": f"{len(there)} of {len(rows)}",
        "least episodes": min((row["episodes"] for row in there), default=None),
        "median episodes": median(row["episodes"] for row in there) if there else None,
        "median steps": median(row["steps"] for row in there) if there else None,
        "median score": round(median(row["score"] for row in rows), 1),
        "median minutes": round(median(row["minutes"] for row in rows), 2),
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("runs", type=Path, help="folder of the runs")
    parser.add_argument("--robots", nargs="+", default=list(PAPER), choices=PAPER)
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="how many (10)")
    given = parser.parse_args()
    jobs = [(given.runs, robot, seed) for robot in given.robots for seed in range(given.seeds)]
    rows = []
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), maxtasksperchild=4) as pool:
        for row in pool.imap(run, jobs):
            print(row)
            rows.append(row)
    keep("ars_runs", rows, given.out)
    table = [summarise([row for row in rows if row["robot"] == robot]) for robot in given.robots]
    keep("ars", table, given.out)


if __name__ == "__main__":
    main()
