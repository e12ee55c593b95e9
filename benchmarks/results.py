"""What the examples reach, seed by seed: final score over 100 unseen episodes.

python benchmarks/results.py examples/cartpole_cem.toml --seeds 10 --threshold 475
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from common import keep, options

from distes.search.config_file import from_config, read_toml
from distes.search.search import Search


def one(job: tuple[Path, int]) -> dict[str, Any]:
    """Run an example with a seed, in this process."""
    path, seed = job
    with tempfile.TemporaryDirectory() as folder:
        search = from_config(
            read_toml(path) | {"seed": seed, "workers": 0, "out": str(Path(folder) / "run")},
            Search,
        )
        result = search.run()
        frame = result.run.generations
        return {
            "example": path.name,
            "seed": seed,
            "score": result.score.mean,
            "low": result.score.low,
            "high": result.score.high,
            "generations": len(frame),
            "episodes": int(frame["episodes"].sum()),
            "env_steps": int(frame["env_steps"].sum()),
            "seconds": float(frame["elapsed_s"].iloc[-1]),
            "gap": result.reevaluation.gap if result.reevaluation else float("nan"),
        }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("example", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--threshold", type=float, required=True)
    given = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        rows = []
        for row in pool.imap(one, [(given.example, s) for s in range(given.seeds)]):
            print(f"seed {row['seed']}: {row['score']:.1f} after {row['generations']} generations")
            rows.append(row)
    keep(f"results_{given.example.stem}", rows, given.out)
    reached = sum(row["score"] >= given.threshold for row in rows)
    print(
        f"{given.example.stem}: {reached} of {len(rows)} seeds reach {given.threshold:g}; "
        f"median score {median(row['score'] for row in rows):.1f}"
    )


if __name__ == "__main__":
    main()
