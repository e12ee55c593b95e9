"""Parameters over context: what the upper policy chooses, and how widely it explores."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from distes.errors import UsageError
from distes.population.records import Population
from distes.runs.reader import Run
from distes.search.solution import context_range, read_solution
from distes.search.trust import recall_features
from distes.types import FloatArray, IntArray
from distes.views import scores
from distes.views.figures import style
from distes.views.figures.base import Figure
from distes.views.figures.style import COLOURS, make_locator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

POINTS = 121
"""Contexts along a line."""

SAMPLED, SAMPLES = 13, 400
"""Contexts along a line at which the width of exploration is estimated, and candidates
drawn for that, which leaves it an error of 3.5%."""

MAX_PANELS = 12
MAX_COLUMNS = 4
LABEL_WIDTH = 20
"""Characters that fit beside a panel."""


@dataclass(frozen=True)
class Parameters(Figure):
    """The parameters that the newest upper policy chooses along each component of the context.

    The other components stay in the middle of their range. A band of one standard deviation
    to each side shows how widely the last generation explored. Of many parameters those are
    shown that vary most with the context.

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
            UsageError: matplotlib is missing, the run has no generation yet, its parameters
                do not depend on contexts, or there is no such component.
        """
        (run,) = runs
        if not scores.has_contexts(run.config):
            raise UsageError(f"{run.path} has no contexts: its parameters depend on nothing")
        solution = read_solution(run)
        if not solution.distribution.uses_context:
            raise UsageError(
                f"the solution of {run.path} has the same parameters for every context"
            )
        recall_features(run, trust=None)
        low, high = context_range(run)
        shown = style.choose_components(self.components, len(low))
        if len(shown) > MAX_COLUMNS:
            raise UsageError(
                f"a context has {len(low)} components, and a figure shows at most "
                f"{MAX_COLUMNS}: choose components"
            )
        explored = None
        with suppress(UsageError):  # it was too large to be kept
            explored = run.population(int(run.generations["generation"].max()))
        labels = style.label_components(run, len(low))
        lines = [
            _follow_component(solution, explored, (low, high), each, labels[each]) for each in shown
        ]
        rows = choose_most_varying([line.mean for line in lines], MAX_PANELS // len(shown))
        with style.import_matplotlib().rc_context(style.STYLE):
            figure, notes = _draw_panels(run, lines, rows, self.size)
            headings = [scores.name_run(run.config, " · "), notes]
            style.add_headings(figure, headings, self.title)
            return figure


class _Line(NamedTuple):
    """What the upper policy does along one component.

    For values ``x`` (P,) of the component the ``mean`` (P, d) of the parameters, and the
    ``std`` (P, d) of exploration, NaN where that is not known.
    """

    label: str
    x: FloatArray
    mean: FloatArray
    std: FloatArray


def _follow_component(
    solution: Population,
    explored: Population | None,
    ends: tuple[FloatArray, FloatArray],
    component: int,
    label: str,
) -> _Line:
    """Ask the upper policy along one component, the others in the middle of their ranges.

    ``explored`` is the last generation's population, if it was kept; contexts lie between
    the ``ends``, (k,) each.
    """
    low, high = ends

    def along(count: int) -> FloatArray:
        contexts = np.tile((low + high) / 2, (count, 1))
        contexts[:, component] = np.linspace(low[component], high[component], count)
        return contexts

    contexts = along(POINTS)
    mean = solution.distribution.draw(np.zeros(POINTS, dtype=np.int64), contexts)
    std = np.full_like(mean, np.nan)
    if explored is not None:
        few = along(SAMPLED)
        candidates = np.repeat(np.arange(SAMPLES), SAMPLED)
        drawn = explored.distribution.draw(candidates, np.tile(few, (SAMPLES, 1)))
        widths = drawn.reshape(SAMPLES, SAMPLED, -1).std(axis=0, ddof=1)
        x, known = contexts[:, component], few[:, component]
        std = np.stack([np.interp(x, known, width) for width in widths.T], axis=1)
    return _Line(label, contexts[:, component], mean, std)


def choose_most_varying(means: Sequence[FloatArray], count: int) -> IntArray:
    """Choose the parameters that change most along any line, in their order.

    Those that do not change at all are left out.

    Args:
        means: (points, d) of each line.
        count: how many at most.

    >>> choose_most_varying([np.array([[0.0, 5.0, 1.0], [1.0, 5.0, 9.0]])], 2).tolist()
    [0, 2]
    """
    ranges = np.max([np.ptp(each, axis=0) for each in means], axis=0)
    best = np.argsort(-ranges, kind="stable")[: min(count, int(np.count_nonzero(ranges)))]
    return np.sort(best)


def _draw_panels(
    run: Run, lines: Sequence[_Line], shown: IntArray, size: style.Size | None
) -> tuple[MatplotlibFigure, str]:
    """One panel for each parameter or, with several components, a row; and what to say of it."""
    columns = len(lines) if len(lines) > 1 else style.count_columns(len(shown))
    rows = len(shown) if len(lines) > 1 else -(-len(shown) // columns)
    figure = style.make_figure(4.2 if rows == 1 else 1.4 + 1.9 * rows, size)
    grid = figure.subplots(rows, columns, sharex="col", squeeze=False,
                           sharey="row" if len(lines) > 1 else False)  # fmt: skip
    panels: list[Axes] = list(grid.flat)
    cells = [(line, parameter) for parameter in shown.tolist() for line in lines]
    for axes in panels[len(cells) :]:
        axes.remove()
    for number, (axes, (line, parameter)) in enumerate(zip(panels, cells, strict=False)):
        _draw_line(axes, line, parameter)
        axes.xaxis.set_major_locator(make_locator(columns))
        if number % columns == 0 or len(lines) == 1:
            name = run.parameter_names[parameter] if run.parameter_names else None
            axes.set_ylabel(
                textwrap.fill(name or f"parameter {parameter}", LABEL_WIDTH), **style.LITERAL
            )
        if number + columns >= len(cells):
            axes.set_xlabel(line.label, **style.LITERAL)
            axes.tick_params(labelbottom=True)
    total = lines[0].mean.shape[1]
    same = total - int(np.count_nonzero(np.max([np.ptp(each.mean, axis=0) for each in lines], 0)))
    notes = []
    if len(shown) < total - same:
        notes.append(f"the {len(shown)} of {total} parameters that vary most")
    if same:
        notes.append(f"{same} of {total} parameters are the same for all contexts")
    if run.config.get("num_contexts", 1) > 1:
        notes.append("other components of the context at their middle")
    return figure, ", ".join(notes)


def _draw_line(axes: Axes, line: _Line, parameter: int) -> None:
    mean, std = line.mean[:, parameter], line.std[:, parameter]
    axes.plot(line.x, mean, color=COLOURS[0], label="mean of the upper policy")
    if np.isfinite(std).all():
        label = "±1 standard deviation of the last generation's exploration"
        style.draw_band(axes, line.x, mean - std, mean + std, color=COLOURS[0], label=label)
    axes.yaxis.set_major_locator(make_locator(2))
    axes.ticklabel_format(axis="y", useOffset=False)
