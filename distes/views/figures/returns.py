"""How episode returns are distributed, generation by generation, and what was elite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distes.errors import UsageError
from distes.runs.reader import Run, load
from distes.types import FloatArray, IntArray
from distes.views.figures.style import COLOURS, STYLE, finish, matplotlib, thousands, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_COLUMNS = 150
"""Generations side by side; of longer runs neighbours share a column."""

RETURN_BINS = 50
MARGIN = 0.04
"""Of the height, left free above and below the bins."""

OUTLIERS = 0.002
"""Share of the episodes at either end that may lie outside, if they would squeeze the rest."""


def draw_distribution(path: str | Path) -> Figure:
    """Draw a histogram of episode returns for each generation, as a heat map.

    With the mean return, and the elite threshold of strategies that have elites: the least
    fitness among them, where fitness is in the units of a return.

    Args:
        path: run directory; of a run in progress as far as it is.

    Returns:
        A matplotlib figure, 9 inches wide.

    Raises:
        UsageError: matplotlib is missing, there is no generation yet, there are no episodes,
            or all failed.
    """
    from matplotlib.figure import Figure

    run = load(path)
    if run.generations.empty:
        raise UsageError(f"{run.path} has no generation yet: there is nothing to draw")
    generation, returns = run.returns()
    if not len(returns):
        raise UsageError(f"{run.path} holds no episodes: there is nothing to draw")
    valid = np.isfinite(returns)
    if not valid.any():
        raise UsageError(f"all {len(returns):,} episodes of {run.path} failed: there is no return")
    rows = run.generations.sort_values("generation")
    columns = {
        name: rows[name].to_numpy(dtype=np.float64)
        for name in ("generation", "episode_return_mean", "elite_fitness_min")
        if name in rows
    }
    with matplotlib().rc_context(STYLE):
        figure = Figure(figsize=(9, 5))
        axes = figure.subplots()
        _heat(figure, axes, generation[valid], returns[valid], len(rows))
        _lines(axes, columns, elites=_in_returns(run))
        axes.set_xlabel("generation")
        axes.set_ylabel("episode return")
        axes.yaxis.set_major_formatter(lambda value, _: thousands(value))
        failed = int((~valid).sum())
        notes = f"{len(returns):,} search episodes"
        finish(figure, [title(run), notes + (f", {failed:,} failed" if failed else "")])
        return figure


def histograms(
    generation: IntArray, returns: FloatArray, generations: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Count returns, each generation by itself.

    Args:
        generation: (m,) of each episode, from 0.
        returns: (m,) finite.
        generations: how many there are.

    Returns:
        Shares (g, b), of each column's episodes in each bin, which add up to 1 but for
        outliers; the columns' edges (g + 1,); the bins' edges (b + 1,).
    """
    columns = min(generations, MAX_COLUMNS)
    x = np.unique(np.linspace(0, generations, columns + 1).round()) - 0.5
    low, high = _range(returns)
    counts, _, y = np.histogram2d(
        generation, returns, bins=[x, np.linspace(low, high, RETURN_BINS + 1)]
    )
    totals = np.histogram(generation, x)[0]
    shares: FloatArray = counts / np.maximum(totals, 1)[:, np.newaxis]
    return shares, x, y


def _range(returns: FloatArray) -> tuple[float, float]:
    """Where returns lie; a few far outliers would leave one row to all others."""
    low, high = float(returns.min()), float(returns.max())
    inner = np.quantile(returns, [OUTLIERS, 1 - OUTLIERS])
    width = float(inner[1] - inner[0])
    if width > 0:
        low, high = max(low, inner[0] - width), min(high, inner[1] + width)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return low, high


def _heat(
    figure: Figure, axes: Axes, generation: IntArray, returns: FloatArray, generations: int
) -> None:
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    shares, x, y = histograms(generation, returns, generations)
    colours = LinearSegmentedColormap.from_list(
        "returns", ["#FFFFFF", "#C6DDEE", "#5FA3CF", COLOURS[0], "#003F66"]
    )
    # Single episodes of many stay visible.
    norm = PowerNorm(0.5, 0, max(float(shares.max()), 1e-9))
    axes.grid(visible=False)
    # Generations are counted from 1 on an axis, as everywhere that people read.
    mesh = axes.pcolormesh(x + 1, y, shares.T, cmap=colours, norm=norm, rasterized=True)
    # Lines at the least and the greatest return are seen whole.
    space = MARGIN * (y[-1] - y[0])
    axes.set_ylim(y[0] - space, y[-1] + space)
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=30)
    bar.set_label("share of the generation's episodes")
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    bar.outline.set_visible(False)


def _lines(axes: Axes, columns: Mapping[str, FloatArray], *, elites: bool) -> None:
    from matplotlib import patheffects
    from matplotlib.ticker import MaxNLocator

    x = columns["generation"] + 1
    # Seen on dark cells, too.
    stroke = [patheffects.withStroke(linewidth=4, foreground="white")]

    def line(values: FloatArray, **more: Any) -> None:
        alone = isolated(values)
        axes.plot(
            x,
            values,
            marker="o" if alone else None,
            markersize=5,
            markevery=alone,
            path_effects=stroke,
            **more,
        )

    line(columns["episode_return_mean"], color=COLOURS[6], label="mean return")
    threshold = columns.get("elite_fitness_min")
    if elites and threshold is not None and np.isfinite(threshold).any():
        label = "elite threshold: least fitness of an elite"
        line(threshold, color=COLOURS[1], linewidth=2.4, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def isolated(values: FloatArray) -> list[int]:
    """Find the values without a neighbour, of which a line shows nothing.

    Args:
        values: (g,); NaN where there is none.

    >>> isolated(np.array([1.0, np.nan, 2.0, 3.0, np.nan, 4.0]))
    [0, 5]
    """
    there = np.concatenate([[False], np.isfinite(values), [False]])
    found: list[int] = np.flatnonzero(there[1:-1] & ~there[:-2] & ~there[2:]).tolist()
    return found


def _in_returns(run: Run) -> bool:
    """Whether fitness can be drawn on an axis of returns."""
    settings = run.config["search"]
    rule = str(settings.get("fitness", "mean")).partition(":")[0]
    return rule in {"mean", "min", "cvar"} and not settings.get("reward_shift")
