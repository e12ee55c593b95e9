"""How episode returns are distributed, generation by generation, and what was elite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pandas import DataFrame

from distes.errors import UsageError
from distes.runs.reader import Run
from distes.types import FloatArray, IntArray
from distes.views import scores
from distes.views.figures import style
from distes.views.figures.base import Figure
from distes.views.figures.style import COLOURS, format_axis_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

MAX_COLUMNS = 150
"""Generations side by side; of longer runs neighbours share a column."""

RETURN_BINS = 50
MARGIN = 0.04
"""Of the height, left free above and below the bins."""

OUTLIERS = 0.002
"""Share of the episodes at either end that may lie outside, if they would squeeze the rest."""


@dataclass(frozen=True)
class Returns(Figure):
    """A histogram of episode returns for each generation, as a heat map.

    With the mean return, and the elite threshold of strategies that have elites: the least
    fitness among them, where fitness is in the units of a return.

    Attributes:
        title: in place of the heading.
        size: of the figure, width and height in inches.
    """

    title: str | None = None
    size: style.Size | None = None

    def draw(self, runs: Sequence[Run]) -> MatplotlibFigure:
        """Draw one run.

        Raises:
            UsageError: matplotlib is missing, there is no generation yet, there are no
                episodes, or all failed.
        """
        (run,) = runs
        if run.generations.empty:
            raise UsageError(f"{run.path} has no generation yet: there is nothing to draw")
        generation, returns = run.returns()
        if not len(returns):
            raise UsageError(f"{run.path} holds no episodes: there is nothing to draw")
        valid = np.isfinite(returns)
        if not valid.any():
            said = f"all {len(returns):,} episodes of {run.path} failed: there is no return"
            raise UsageError(said)
        rows = run.generations.sort_values("generation")
        with style.import_matplotlib().rc_context(style.STYLE):
            figure = style.make_figure(5, self.size)
            axes = figure.subplots()
            counts = count_returns(generation[valid], returns[valid], len(rows))
            _draw_heat_map(figure, axes, *counts)
            _draw_lines(axes, rows, has_threshold=_is_fitness_a_return(run))
            axes.set_xlabel("generation")
            axes.set_ylabel("episode return")
            axes.yaxis.set_major_formatter(lambda value, _: format_axis_number(value))
            failed = int((~valid).sum())
            notes = f"{len(returns):,} search episodes"
            notes += f", {failed:,} failed" if failed else ""
            headings = [scores.name_run(run.config, " · "), notes]
            style.add_headings(figure, headings, self.title)
            return figure


def count_returns(
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
    low, high = _find_range(returns)
    counts, _, y = np.histogram2d(
        generation, returns, bins=[x, np.linspace(low, high, RETURN_BINS + 1)]
    )
    totals = np.histogram(generation, x)[0]
    shares: FloatArray = counts / np.maximum(totals, 1)[:, np.newaxis]
    return shares, x, y


def _find_range(returns: FloatArray) -> tuple[float, float]:
    """Where returns lie; a few far outliers would leave one row to all others."""
    low, high = float(returns.min()), float(returns.max())
    inner = np.quantile(returns, [OUTLIERS, 1 - OUTLIERS])
    if (width := float(inner[1] - inner[0])) > 0:
        low, high = max(low, inner[0] - width), min(high, inner[1] + width)
    return style.widen_range(low, high)


def _draw_heat_map(
    figure: MatplotlibFigure, axes: Axes, shares: FloatArray, x: FloatArray, y: FloatArray
) -> None:
    """Draw what `count_returns` gives."""
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    colours = LinearSegmentedColormap.from_list(
        "returns", ["#FFFFFF", "#C6DDEE", "#5FA3CF", COLOURS[0], "#003F66"]
    )
    # Single episodes of many stay visible.
    norm = PowerNorm(0.5, 0, max(float(shares.max()), 1e-9))
    axes.grid(visible=False)
    mesh = axes.pcolormesh(x, y, shares.T, cmap=colours, norm=norm, rasterized=True)
    # Lines at the least and the greatest return are seen whole.
    space = MARGIN * (y[-1] - y[0])
    axes.set_ylim(y[0] - space, y[-1] + space)
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=30)
    bar.set_label("share of the generation's episodes")
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    bar.outline.set_visible(False)


def _draw_lines(axes: Axes, rows: DataFrame, *, has_threshold: bool) -> None:
    from matplotlib import patheffects
    from matplotlib.ticker import MaxNLocator

    # Seen on dark cells, too.
    stroke = [patheffects.withStroke(linewidth=4, foreground="white")]

    def line(column: str, **look: Any) -> None:
        values = rows[column].to_numpy(dtype=np.float64)
        alone = find_isolated(values)
        look |= {"marker": "o" if alone else None, "markersize": 5, "markevery": alone}
        axes.plot(rows["generation"].to_numpy(), values, path_effects=stroke, **look)

    line("episode_return_mean", color=COLOURS[6], label="mean return")
    if has_threshold and np.isfinite(rows.get("elite_fitness_min", np.nan)).any():
        label = "elite threshold: least fitness of an elite"
        line("elite_fitness_min", color=COLOURS[1], linewidth=2.4, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def find_isolated(values: FloatArray) -> list[int]:
    """Find the values without a neighbour, of which a line shows nothing.

    Args:
        values: (g,); NaN where there is none.

    >>> find_isolated(np.array([1.0, np.nan, 2.0, 3.0, np.nan, 4.0]))
    [0, 5]
    """
    there = np.concatenate([[False], np.isfinite(values), [False]])
    found: list[int] = np.flatnonzero(there[1:-1] & ~there[:-2] & ~there[2:]).tolist()
    return found


def _is_fitness_a_return(run: Run) -> bool:
    """Whether fitness can be drawn on an axis of returns."""
    settings = run.config["search"]
    rule = str(settings.get("fitness", "mean")).partition(":")[0]
    return rule in {"mean", "min", "cvar"} and not settings.get("reward_shift")
