"""Draw the kept tables of engines.py and seed_systems.py.

python benchmarks/figures.py docs
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib.pyplot as plt
from common import RESULTS

PLAIN, MLP = "linear", "MLP 64-64 relu"
MARKS = {
    ("loop_steps_s", PLAIN): ("loop engine", "#0072B2", "o"),
    ("envpool_steps_s", PLAIN): ("EnvPool", "#E69F00", "s"),
    ("vector_steps_s", PLAIN): ("Gymnasium's vector CartPole", "#009E73", "^"),
    ("compiled_steps_s", MLP): ("compiled, 64-64 ReLU network", "#56B4E9", "D"),
    ("compiled_steps_s", PLAIN): ("compiled, linear policy", "#D55E00", "o"),
}
TITLES = {
    "cartpole_v0_4096": "CartPole-v0, 8 generations of 4,096 episodes",
    "pendulum_4096": "Pendulum-v1, 15 generations of 4,096 episodes",
}


def rows(name: str) -> list[dict[str, Any]]:
    """Read a kept table."""
    kept: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = kept["rows"]
    return found


def engines(out: Path) -> None:
    """Steps a second on one core, one line for each environment."""
    table = rows("engines")
    names = list(dict.fromkeys(row["environment"] for row in table))
    figure, axes = plt.subplots(figsize=(9, 4.4), constrained_layout=True)
    for (column, policy), (label, colour, mark) in MARKS.items():
        found = [(names.index(r["environment"]), r[column]) for r in table if r["policy"] == policy]
        shown = [(y, x) for y, x in found if not math.isnan(x)]
        axes.plot(
            [x for _, x in shown], [y for y, _ in shown], mark, color=colour, ms=8, label=label
        )
        for y, x in shown:
            if label in ("loop engine", "compiled, linear policy"):
                text = f"{x / 1e6:.3g} M" if x > 1e6 else f"{x / 1e3:.0f} k"
                left = label == "loop engine"
                axes.annotate(
                    text,
                    (x, y),
                    xytext=(-8 if left else 8, 0),
                    textcoords="offset points",
                    ha="right" if left else "left",
                    va="center",
                    color=colour,
                    fontsize=9,
                )
    axes.set(xscale="log", xlim=(1e4, 1.2e8), ylim=(len(names) - 0.5, -0.5))
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("environment steps a second, one core")
    axes.grid(axis="x", color="#E5E5E5")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(out / "engines.png", dpi=110)


def seed_systems(out: Path) -> None:
    """Seconds of a search: a pool of processes beside distes."""
    table = rows("seed_systems")
    figure, panels = plt.subplots(len(TITLES), 1, figsize=(9, 4.4), constrained_layout=True)
    for axes, (example, title) in zip(panels, TITLES.items(), strict=True):
        own = [row for row in table if row["example"] == example]
        cores = max(row["workers"] for row in own)
        slowest = median(row["program_s"] for row in own)
        bars = {f"multiprocessing, {cores} processes": (slowest, "")}
        for workers, label in ((0, "distes, one process"), (cores, f"distes, {cores} Ray workers")):
            these = [row for row in own if row["workers"] == workers]
            times = median(row["ratio"] for row in these)
            seconds = median(row["distes_s"] for row in these)
            bars[label] = seconds, f"  ({times:.0f} times as fast)"
        for y, (label, (seconds, said)) in enumerate(bars.items()):
            colour = "#D55E00" if label.startswith("distes") else "0.6"
            axes.barh(y, seconds, color=colour)
            axes.text(seconds * 1.06, y, f"{seconds:.3g} s{said}", va="center", fontsize=9)
        axes.set_yticks(range(len(bars)), list(bars))
        axes.set(xscale="log", xlim=(0.05, slowest * 6))
        axes.invert_yaxis()
        axes.set_title(title, loc="left", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("seconds from ready workers until all is on disk (logarithmic)")
    figure.savefig(out / "seed_systems.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    engines(out)
    seed_systems(out)


if __name__ == "__main__":
    main()
