"""Parallel CEM with 4096 candidates: the published curves beside ours.

Runs examples/cartpole_v0_4096.toml and examples/pendulum_4096.toml and draws the mean
return of population and elites per generation. The published figures are those that are
legible in the source's plots: the first three generations and the seventh on CartPole,
first and last on Pendulum.

    python benchmarks/published_curves.py --figure docs/published_curves.png
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from common import keep, options
from matplotlib.ticker import MaxNLocator

from distes.search.config_file import from_config, read_toml
from distes.search.search import Search

EXAMPLES = Path(__file__).parents[1] / "examples"
PUBLISHED: dict[str, dict[str, list[tuple[int, float]]]] = {
    "cartpole_v0_4096": {
        "population": [(1, 22.0), (2, 33.0), (3, 46.0), (7, 145.0)],
        "elites": [(1, 65.0), (2, 93.0), (3, 125.0), (5, 200.0), (7, 200.0)],
    },
    "pendulum_4096": {
        "population": [(1, -1550.0), (15, -880.0)],
        "elites": [(1, -1350.0), (15, -80.0)],
    },
}
BLUE, ORANGE = "#0072B2", "#D55E00"


def run(name: str, workers: int | None) -> Any:
    """Run an example; returns its generations."""
    with tempfile.TemporaryDirectory() as folder:
        config = read_toml(EXAMPLES / f"{name}.toml") | {"out": str(Path(folder) / "run")}
        search = from_config(config, Search)
        search.workers = workers
        result = search.run()
        print(f"{name}: final {result.score}, {result.reevaluation}")
        return result.run.generations


def draw(axes: Any, name: str, frame: Any) -> None:
    """Draw ours as lines and the published figures as rings."""
    epochs = frame["generation"] + 1
    for who, column, colour in (
        ("population", "episode_return", BLUE),
        ("elites", "elite_return", ORANGE),
    ):
        mean, std = frame[f"{column}_mean"], frame[f"{column}_std"]
        axes.plot(epochs, mean, color=colour, lw=2, marker=".", ms=7)
        axes.fill_between(epochs, mean - std, mean + std, color=colour, alpha=0.15, lw=0)
        points = PUBLISHED[name][who]
        axes.plot(*zip(*points, strict=True), "o", mfc="none", mec=colour, ms=11, mew=2, ls="none")
        axes.annotate(
            who, (epochs.iloc[-1], mean.iloc[-1]), (7, 0), textcoords="offset points",
            color=colour, va="center", fontsize=12,
        )  # fmt: skip
    axes.set_xlabel("generation (4096 episodes each)")
    axes.set_ylabel("return")
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--figure", type=Path, help="draw the curves there")
    parser.add_argument("--workers", type=int, default=None)
    given = parser.parse_args()
    mpl.rcParams.update({"font.size": 12})
    figure, panels = plt.subplots(1, 2, figsize=(10.5, 4.2), constrained_layout=True)
    rows = []
    titles = {"cartpole_v0_4096": "CartPole-v0", "pendulum_4096": "Pendulum-v1"}
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        frame = run(name, given.workers)
        draw(axes, name, frame)
        axes.set_title(title, loc="left", fontsize=13)
        for _, row in frame.iterrows():
            published = {who: dict(points) for who, points in PUBLISHED[name].items()}
            epoch = int(row["generation"]) + 1
            rows.append(
                {
                    "example": name,
                    "generation": epoch,
                    "population": row["episode_return_mean"],
                    "published_population": published["population"].get(epoch, float("nan")),
                    "elites": row["elite_return_mean"],
                    "published_elites": published["elites"].get(epoch, float("nan")),
                    "elite_std": row["elite_return_std"],
                    "seconds": row["elapsed_s"],
                }
            )
    panels[0].plot([], [], "o", mfc="none", mec="0.35", ms=11, mew=2, label="published")
    panels[0].plot([], [], color="0.35", lw=2, marker=".", label="ours, ± 1 std")
    panels[0].legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 0.12))
    for axes in panels:
        axes.set_xlim(right=axes.get_xlim()[1] * 1.14)
    if given.figure is not None:
        figure.savefig(given.figure, dpi=110)
    keep("published_curves", rows, given.out)


if __name__ == "__main__":
    main()
