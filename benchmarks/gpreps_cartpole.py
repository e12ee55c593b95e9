"""GPREPS on CartPole-v0: how few real episodes a policy needs.

Runs examples/cartpole_gpreps.toml with several seeds, without stopping early: after ten
real episodes the mean policy is scored on 100 unseen ones, so that no score has chosen it.
Beside it, after how many real episodes the policy first held 195 over 100 held-out ones.

    python benchmarks/gpreps_cartpole.py --seeds 10
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from common import keep, options

from distes.search.config_file import from_config, read_toml
from distes.search.search import Search

EXAMPLE = Path(__file__).parents[1] / "examples" / "cartpole_gpreps.toml"
SOLVED = 195.0


def one(seed: int) -> dict[str, Any]:
    """Run the example with a seed, in this process."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        changes = {"seed": seed, "workers": 0, "out": str(Path(folder) / "run")}
        changes |= {"target": 1000.0, "heldout_episodes": 100}  # never reached: all ten are run
        result = from_config(read_toml(EXAMPLE) | changes, Search).run()
        evaluations = result.run.evaluations
        frame = result.run.generations
    heldout = evaluations[evaluations.purpose == "heldout"]
    scores = heldout.groupby("generation").episode_return.mean()
    solved = scores.index[scores >= SOLVED]
    return {
        "seed": seed,
        "real_episodes": int(frame["episodes"].sum()),
        "real_steps": int(frame["env_steps"].sum()),
        "first_solved_after": int(solved[0]) + 1 if len(solved) else None,
        "score": result.score.mean,
        "low": result.score.low,
        "high": result.score.high,
        "imagined_episodes": int((evaluations.purpose == "model").sum()),
        "model_rmse": float(frame["model_rmse"].iloc[-1]),
        "seconds": time.perf_counter() - began,
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    rows = []
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for row in pool.imap(one, range(given.seeds)):
            print(
                f"seed {row['seed']}: {row['score']:.1f} after {row['real_episodes']} episodes, "
                f"solved first after {row['first_solved_after']}",
                flush=True,
            )
            rows.append(row)
    keep("gpreps_cartpole", rows, given.out)
    reached = sum(row["score"] >= SOLVED for row in rows)
    print(f"{reached} of {len(rows)} seeds are solved ({SOLVED:g}) with ten real episodes")


if __name__ == "__main__":
    main()
