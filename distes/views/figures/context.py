"""Return over context: what the newest solution earned in the contexts that it met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from distes.errors import UsageError
from distes.population.statistics import compute_score
from distes.runs.reader import Run
from distes.types import Array, FloatArray, IntArray
from distes.views import scores
from distes.views.figures import style
from distes.views.figures.base import Figure
from distes.views.figures.style import COLOURS, GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

MAX_BINS = 20
PER_CELL = 8
"""Episodes on average in a cell of two components."""

FEW = 300
"""Episodes up to which each is a mark that stands out."""

MAX_PANELS = 9


@dataclass(frozen=True)
class Context(Figure):
    """What the newest solution earned over the contexts of its episodes.

    They are those of the final test or, before the end, of the newest held-out score: fresh
    contexts. One component: episodes, and the mean with its 95% interval in bins of as many
    episodes. Two: the mean in cells. More: a panel for each.

    Attributes:
        components: of the context; None takes all.
        title: in place of the heading.
        size: of the figure, width and height in inches.
    """

    components: Sequence[int] | None = None
    title: str | None = None
    size: style.Size | None = None

    def draw(self, runs: Sequence[Run]) -> MatplotlibFigure:
        """Draw one run.

        Raises:
            UsageError: matplotlib is missing, the run has no contexts, no score yet, or no
                such component.
        """
        (run,) = runs
        scored = _find_scored(run)
        size = scored.contexts.shape[1]
        shown = style.choose_components(self.components, size)
        if len(shown) > MAX_PANELS:
            raise UsageError(
                f"a context has {size} components, and a figure shows at most {MAX_PANELS}: "
                "choose components"
            )
        with style.import_matplotlib().rc_context(style.STYLE):
            pair = len(shown) == 2
            figure = (_draw_cells if pair else _draw_panels)(scored, shown, self.size)
            headings = [scores.name_run(run.config, " · "), scored.name]
            style.add_headings(figure, headings, self.title)
            return figure


class _Scored(NamedTuple):
    """Episodes of one solution.

    What they are, what the components of a context are called (k,), contexts (m, k), and
    returns (m,) with NaN = failed.
    """

    name: str
    labels: Sequence[str]
    contexts: FloatArray
    returns: FloatArray


def _find_scored(run: Run) -> _Scored:
    """Find the newest solution's episodes in the log."""
    if not scores.has_contexts(run.config):
        raise UsageError(f"{run.path} has no contexts: there is no return over them")
    rows = run.evaluations
    test = scores.find_test_rows(run, rows)
    heldout = rows[rows["purpose"] == "heldout"]
    if len(test):
        rows, name = test, "test episodes of the solution"
    elif len(heldout):
        rows = heldout[heldout["generation"] == heldout["generation"].max()]
        rows = rows[rows["call"] == rows["call"].max()]
        after = int(rows["generation"].iloc[0])
        name = f"held-out episodes of the solution after generation {after}"
    else:
        raise UsageError(f"{run.path} has no held-out score yet: there is nothing to draw")
    contexts = np.stack([np.asarray(each, dtype=np.float64) for each in rows["context"]])
    known = np.isfinite(contexts).all(axis=1)
    returns = rows["episode_return"].to_numpy()[known]
    if not np.isfinite(returns).any():
        raise UsageError(f"all {len(rows)} {name} failed: there is no return to draw")
    labels = style.label_components(run, contexts.shape[1])
    name = f"{len(rows):,} {name}, each with a fresh context"
    return _Scored(name, labels, contexts[known], returns)


def assign_bins(values: FloatArray, most: int) -> IntArray:
    """Put numbers into bins of about as many each; equal numbers share one.

    Args:
        values: (m,).
        most: bins, >= 1.

    Returns:
        (m,) the bin of each, counted from 0.

    >>> assign_bins(np.array([5.0, 1.0, 2.0, 6.0]), 2).tolist()
    [1, 0, 0, 1]
    """
    edges = np.unique(np.quantile(values, np.linspace(0, 1, most + 1)[1:-1]))
    if len(np.unique(values)) <= most:
        edges = np.unique(values)[1:]
    placed: IntArray = np.searchsorted(edges, values, side="right")
    return np.unique(placed, return_inverse=True)[1]


def _draw_panels(
    scored: _Scored, shown: Sequence[int], size: style.Size | None
) -> MatplotlibFigure:
    """One panel for each component, all with the same vertical axis."""
    columns = style.count_columns(len(shown))
    rows = -(-len(shown) // columns)
    figure = style.make_figure(4.6 if rows == 1 else 1.4 + 2.6 * rows, size)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    panels: list[Axes] = list(grid.flat)
    for axes in panels[len(shown) :]:
        axes.remove()
    for axes, component in zip(panels, shown, strict=False):
        _draw_episodes(axes, scored.contexts[:, component], scored.returns)
        axes.xaxis.set_major_locator(style.make_locator(columns))
        axes.set_xlabel(scored.labels[component], **style.LITERAL)
    for axes in grid[:, 0]:
        axes.set_ylabel("episode return")
        axes.yaxis.set_major_formatter(lambda value, _: style.format_axis_number(value))
    return figure


def _draw_episodes(axes: Axes, x: FloatArray, returns: FloatArray) -> None:
    """Draw episodes and their mean over one component."""
    valid = np.isfinite(returns)
    look: dict[str, Any] = {"s": 14, "color": COLOURS[0], "alpha": 0.45, "linewidth": 0}
    axes.scatter(x[valid], returns[valid], label="episodes", **look)
    # Enough of them to see a shape, and enough episodes in each to see it through their noise.
    placed = assign_bins(x[valid], int(np.clip(0.7 * np.sqrt(valid.sum()), 1, MAX_BINS)))
    found = [compute_score(returns[valid][placed == each]) for each in range(placed.max() + 1)]
    centres = np.array([x[valid][placed == each].mean() for each in range(len(found))])
    ends = np.array([(each.mean, each.low, each.high) for each in found])
    line: dict[str, Any] = {"fmt": "o-", "color": COLOURS[1], "linewidth": 1.2}
    style.draw_intervals(axes, centres, ends, label="mean and its 95% interval", **line)
    _mark_failures(axes, x[~valid], np.full(int((~valid).sum()), 0.02), axes.get_xaxis_transform())
    low, high = style.widen_range(x.min(), x.max())
    axes.set_xlim(low - 0.03 * (high - low), high + 0.03 * (high - low))


def _mark_failures(axes: Axes, x: FloatArray, y: FloatArray, transform: object) -> None:
    """Mark the contexts of failed episodes."""
    if len(x):
        look: dict[str, Any] = {"s": 28, "marker": "x", "color": "black", "linewidth": 1.2}
        axes.scatter(x, y, transform=transform, label=f"{len(x):,} failed", zorder=6, **look)


def _draw_cells(scored: _Scored, shown: Sequence[int], size: style.Size | None) -> MatplotlibFigure:
    """Draw the mean return in cells of two components."""
    x, y = scored.contexts[:, shown].T
    valid = np.isfinite(scored.returns)
    count = int(np.clip(np.sqrt(len(x) / PER_CELL), 2, MAX_BINS))
    edges = [
        np.linspace(*style.widen_range(column.min(), column.max()), count + 1) for column in (x, y)
    ]
    places = [
        np.clip(np.searchsorted(ends, column[valid], side="right") - 1, 0, count - 1)
        for ends, column in zip(edges, (x, y), strict=True)
    ]
    means = average_cells(places, scored.returns[valid], (count, count))
    figure = style.make_figure(5.6, size)
    axes = figure.subplots()
    axes.grid(visible=False)
    axes.set_facecolor("#EEEEEE")
    mesh = axes.pcolormesh(edges[0], edges[1], means.T, cmap="viridis")
    area, width = (9, 0.5) if len(x) <= FEW else (5, 0.3)
    look: dict[str, Any] = {"facecolor": "white", "edgecolor": GREY, "label": "episodes"}
    axes.scatter(x[valid], y[valid], area, linewidth=width, **look)
    _mark_failures(axes, x[~valid], y[~valid], axes.transData)
    for axis, component in zip((axes.xaxis, axes.yaxis), shown, strict=True):
        axis.set_label_text(scored.labels[component], **style.LITERAL)
        axis.set_major_locator(style.make_locator(1))
    axes.margins(0)
    bar = figure.colorbar(mesh, label="mean episode return")
    bar.ax.yaxis.set_major_formatter(lambda value, _: style.format_axis_number(value))
    return figure


def average_cells(
    places: Sequence[IntArray], returns: FloatArray, shape: tuple[int, int]
) -> FloatArray:
    """Mean return in each cell; NaN where there is no episode.

    Args:
        places: (m,) the cell of each episode, along each of two axes.
        returns: (m,).
        shape: cells along each axis.
    """
    flat: Array = np.ravel_multi_index(tuple(places), shape)
    counts = np.bincount(flat, minlength=shape[0] * shape[1])
    sums = np.bincount(flat, returns, minlength=shape[0] * shape[1])
    with np.errstate(invalid="ignore"):
        means: FloatArray = (sums / counts).reshape(shape)
    return means
