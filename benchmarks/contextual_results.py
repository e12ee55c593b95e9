"""What contextual search reaches, seed by seed: the mean policy over 100 fresh contexts.

python benchmarks/contextual_results.py wall_robot --seeds 10
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from common import keep, options

from distes.search.config_file import from_config, merge, read_toml
from distes.search.search import Search

EXAMPLES = Path(__file__).parents[1] / "examples"

PLAIN = {"name": "creps", "epsilon": 1.0, "entropy_loss": "none"}
COMPAT = {**PLAIN, "update": "ml", "dual_features": "linear", "pycreps_compat": True}


class Scenario(NamedTuple):
    """An example, what it is to reach, and other settings measured beside it."""

    example: str
    threshold: float | None
    beside: dict[str, dict[str, Any]]


SCENARIOS = {
    "wall_robot": Scenario(
        "wall_robot_creps", 235.0, {"pycreps_compat": COMPAT, "no entropy bound": PLAIN}
    ),
    "cartpole": Scenario("cartpole_creps", 195.0, {"pycreps_compat": COMPAT}),
    "acrobot": Scenario("acrobot_creps", -100.0, {}),
    "pendulum": Scenario(
        "pendulum_physical_creps",
        None,
        {"one policy for all contexts": {"name": "creps", "policy_features": "constant"}},
    ),
}


def one(job: tuple[str, str, dict[str, Any], int]) -> dict[str, Any]:
    """Run a scenario with a seed, in this process."""
    name, label, strategy, seed = job
    config = read_toml(EXAMPLES / f"{SCENARIOS[name].example}.toml")
    given = merge(config, {"strategy": strategy} if strategy else {})
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "run")
        search = from_config(
            given | {"seed": seed, "workers": 0, "out": out, "reevaluate": 0}, Search
        )
        result = search.run()
        generations = result.run.generations
        final = result.run.evaluations.query("purpose == 'test'")
        logged = {key: float(final[f"info_{key}"].mean()) for key in config.get("log_info", [])}
        return {
            "scenario": name,
            "settings": label,
            "seed": seed,
            "score": result.score.mean,
            "low": result.score.low,
            "high": result.score.high,
            "generations": len(generations),
            "episodes": int(generations["episodes"].sum()),
            "curve": [round(float(r), 1) for r in generations["episode_return_mean"]],
            **logged,
        }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--beside", type=int, help="other settings to measure; all if not given")
    given = parser.parse_args()
    scenario = SCENARIOS[given.scenario]
    settings = {"example": {}, **dict(list(scenario.beside.items())[: given.beside])}
    jobs = [
        (given.scenario, label, strategy, seed)
        for label, strategy in settings.items()
        for seed in range(given.seeds)
    ]
    rows = []
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for row in pool.imap(one, jobs):
            print(f"{row['settings']}, seed {row['seed']}: {row['score']:.1f}", flush=True)
            rows.append(row)
    keep(f"contextual_{given.scenario}", rows, given.out)
    for label in settings:
        scores = sorted(row["score"] for row in rows if row["settings"] == label)
        spread = f"least {scores[0]:.1f}, median {median(scores):.1f}, greatest {scores[-1]:.1f}"
        print(f"{label}: {len(scores)} seeds, {spread}")
        if scenario.threshold is not None:
            reached = sum(score >= scenario.threshold for score in scores)
            print(f"  {reached} of them reach {scenario.threshold:g}")


if __name__ == "__main__":
    main()
