"""A run over three nodes that come apart, and a driver that is killed: is it the same run?

Some hundred generations on a cluster of raylets on this machine. At random moments, from a
seeded generator, workers and nodes are killed, nodes are removed, drained and added, and
the driver is killed or stopped, and resumed. At the end every value of its tables that is
not about time or place, its populations and its result are compared with those of a run
in one process that nothing happened to. The same on the same nodes, left in peace, tells
what the faults cost.

    python benchmarks/chaos.py [--seed SEED] [--out benchmarks/results]
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

# Before anything imports ray.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

from common import keep, options
from disturbances import Stage, differences, schedule, storm

import distes

COUNTS = {
    "worker killed": 12,
    "node killed": 4,
    "node removed": 3,
    "node drained": 3,
    "node added": 10,
    "driver killed": 5,
    "driver killed while it resumes": 2,
    "driver stopped": 3,
}
PACE_S = 0.03
GAP = (2, 9)
SETTINGS = {
    "population": 40,
    "episodes": 3,
    "generations": 360,
    "seed": 9,
    "normalize_observations": True,
    "heldout_every": 5,
    "heldout_episodes": 20,
    "final_episodes": 100,
    "target": 1e9,
    "strategy": {"name": "cem", "extra_std": 0.3, "extra_decay": "constant"},
}


def compared(struck: Path, quiet: Path) -> dict[str, int]:
    """Sum up by what kind of fault the two runs differ."""
    found = Counter({"lost": 0, "doubled": 0, "differing values": 0})
    for name, count in differences(struck, quiet).items():
        print(f"differs: {name}: {count}")
        what = name.rpartition(": ")[2]
        found[what if what in ("lost", "doubled") else "differing values"] += count
    return dict(found)


def hits(stage: Stage) -> dict[str, str]:
    """Count faults by kind, and those of them that the run's own events tell of."""
    counts = Counter(fault["kind"] for fault in stage.faults)
    traced = Counter(fault["kind"] for fault in stage.faults if stage.traced(fault))
    return {kind: f"{counts[kind]} ({traced[kind]} in events)" for kind in COUNTS}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    given = parser.parse_args()
    seed = given.seed
    generator = random.Random(seed)
    kinds = schedule(COUNTS, generator, nodes=3)
    with tempfile.TemporaryDirectory() as folder:
        quiet, struck, peace = (Path(folder) / name for name in ("quiet", "struck", "peace"))
        with Stage(struck, SETTINGS, generator) as stage:
            stage.undisturbed(quiet)
            struck_s = storm(stage, kinds, generator, pace=PACE_S, gap=GAP)
        with Stage(peace, SETTINGS, generator) as calm:
            peace_s = storm(calm, [], generator, pace=PACE_S, gap=GAP)
        run = distes.load(struck)
        told = Counter(event["kind"] for event in run.events)
        measures: dict[str, Any] = {
            **hits(stage),
            "faults": len(stage.faults),
            "generations": len(run.generations),
            "episodes": len(run.episodes),
            "held-out and final episodes": len(run.evaluations),
            **compared(struck, quiet),
            "events: worker lost": told["worker_lost"],
            "events: worker left": told["worker_left"],
            "events: resumed": told["resumed"],
            "episodes run again": int((run.episodes["attempt"] > 1).sum()),
            "seconds": round(struck_s, 1),
            "seconds without faults": round(peace_s, 1),
            "seed of the faults": seed,
        }
        assert not any(compared(peace, quiet).values())
    faults = [{k: v for k, v in fault.items() if k != "events"} for fault in stage.faults]
    keep("chaos_faults", faults, given.out)
    keep(
        "chaos", [{"measure": name, "value": value} for name, value in measures.items()], given.out
    )
    if any(measures[name] for name in ("lost", "doubled", "differing values")):
        sys.exit("the run that was struck differs from the one that was not")


if __name__ == "__main__":
    main()
