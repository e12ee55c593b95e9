"""Learning curves of one run, or of several compared."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pandas import DataFrame

from distes.errors import UsageError, unknown
from distes.population.statistics import Score
from distes.runs.reader import Run
from distes.types import FloatArray
from distes.views import scores
from distes.views.figures import style
from distes.views.figures.base import Figure
from distes.views.figures.style import COLOURS, GREY, draw_band, format_axis_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

Axis = Literal["episodes", "env_steps", "seconds"]

GRID_POINTS = 400

_NOT_COMPARED = (
    {"seed", "workers", "cpus_per_worker", "address", "out", "reuse_env", "log_info"}
    | {"generations", "max_episodes", "max_env_steps", "max_seconds", "target"}
    | {"heldout_every", "heldout_episodes", "final_episodes", "reevaluate", "deploy"}
)
"""Settings that don't make a run another configuration: seeds are its repetitions; where
it ran, how long, and how it was scored do not change how it searches."""

TITLE_WIDTH, LABEL_WIDTH = 80, 20
"""Characters that fit above a figure, and beside it."""

_NO_BREAK = "\u00a0"
EARLY = 0.8
"""A line that ends before this share of the axis is named where it ends."""


@dataclass(frozen=True)
class LearningCurves(Figure):
    """Returns and scores while a search goes on.

    One run: population mean with its 25–75% and 5–95% quantiles, elite mean, held-out
    score with its 95% interval, and below it the search distribution's standard
    deviation. Several runs: held-out score and population mean of each configuration, the
    mean over its seeds in a band from the lowest to the highest.

    Attributes:
        x: along the horizontal axis: search ``episodes``, ``env_steps``, or ``seconds``.
        log_x: make that axis logarithmic.
        log_y: make the vertical axes logarithmic; returns must all be above 0, or all below.
        title: in place of the heading.
        size: of the figure, width and height in inches.
    """

    compares_runs = True
    x: Axis = "episodes"
    log_x: bool = False
    log_y: bool = False
    title: str | None = None
    size: style.Size | None = None

    def __post_init__(self) -> None:
        """Refuse another axis."""
        if self.x not in AXES:
            raise unknown("horizontal axis", self.x, AXES)

    def draw(self, runs: Sequence[Run]) -> MatplotlibFigure:
        """Draw one run, or compare several.

        Raises:
            UsageError: matplotlib is missing, a run has no generation yet, the runs'
                returns can't be compared, or have no logarithm.
        """
        if not runs:
            raise UsageError("no run is given: name at least one run directory")
        with style.import_matplotlib().rc_context(style.STYLE):
            curves = []
            for run in runs:
                rows = run.generations
                if rows.empty:
                    raise UsageError(f"{run.path} has no generation yet: there is nothing to draw")
                curves.append(_make_curves(run.config, rows, scores.score_heldout(run), self.x))
            if len(curves) > 1:
                return _draw_several(curves, self)
            config = runs[0].config
            heading, target = scores.name_run(config, " · "), scores.find_target(config)
            return _draw_one(curves[0], heading, target, self)


def draw_progress(
    rows: DataFrame, heldout: Mapping[int, Score], heading: str, target: float | None
) -> MatplotlibFigure:
    """Draw the learning curves of a search that goes on, from what its observers are told.

    Args:
        rows: of the generations log, one or more.
        heldout: generation, counted from 0 -> score, in order; of these rows alone.
        heading: lines above.
        target: a return to mark.

    Returns:
        A matplotlib figure, 9 inches wide.

    Raises:
        UsageError: matplotlib is missing.
    """
    with style.import_matplotlib().rc_context(style.STYLE):
        curves = _make_curves({}, rows, heldout, "episodes")
        return _draw_one(curves, heading, target, LearningCurves(), 9)


class _Curves(NamedTuple):
    """A run's log, along the horizontal axis, which is labelled.

    The columns of the generations table, (g,) each, stand at ``x`` (g,), where generations
    end; ``heldout`` (h, 3), the scores' means, low and high ends, at ``heldout_x`` (h,).
    """

    config: Mapping[str, Any]
    label: str
    x: FloatArray
    columns: Mapping[str, FloatArray]
    heldout_x: FloatArray
    heldout: FloatArray


AXES: dict[str, tuple[str, Callable[[Any], FloatArray]]] = {
    "episodes": ("search episodes", lambda rows: np.cumsum(rows["episodes"], dtype=np.float64)),
    "env_steps": ("environment steps", lambda rows: np.cumsum(rows["env_steps"], dtype=np.float64)),
    "seconds": ("elapsed time (s)", lambda rows: rows["elapsed_s"].astype(np.float64)),
}


def _make_curves(
    config: Mapping[str, Any], rows: DataFrame, heldout: Mapping[int, Score], axis: Axis
) -> _Curves:
    rows = rows.sort_values("generation")
    numbers = rows.select_dtypes("number")
    label, position = AXES[axis]
    x = np.asarray(position({name: rows[name].to_numpy() for name in rows}))
    generations = rows["generation"].to_numpy()
    heldout = {number: found for number, found in heldout.items() if number in generations}
    places = np.searchsorted(generations, list(heldout))
    columns = {str(name): numbers[name].to_numpy(dtype=np.float64) for name in numbers}
    ends = np.array([(s.mean, s.low, s.high) for s in heldout.values()]).reshape(-1, 3)
    return _Curves(config, label, x, columns, heldout_x=x[places], heldout=ends)


def _draw_one(
    curves: _Curves,
    heading: str,
    target: float | None,
    look: LearningCurves,
    letter_size: float = 12,
) -> MatplotlibFigure:
    """Draw one run: returns above, the search distribution's width below."""
    columns, x = curves.columns, curves.x
    widths = [name for name in ("std_mean", "step_size", "extra_std") if name in columns]
    figure, panels = _make_panels([3, 1] if widths else [1], look.size)
    top = panels[0]
    labels = _Labels(top)
    blue, orange, green = COLOURS[:3]
    quantiles = [columns[f"episode_return_{name}"] for name in ("q05", "q25", "q75", "q95")]
    draw_band(top, x, quantiles[0], quantiles[3], color=blue, alpha=0.13)
    draw_band(top, x, quantiles[1], quantiles[2], color=blue)
    _draw_line(top, x, columns["episode_return_mean"], blue)
    labels.add("population mean\n(bands: 25–75%, 5–95%)", x, columns["episode_return_mean"], blue)
    if "elite_return_mean" in columns:
        _draw_line(top, x, columns["elite_return_mean"], orange)
        labels.add("elite mean", x, columns["elite_return_mean"], orange)
    if len(curves.heldout_x):
        style.draw_intervals(
            top, curves.heldout_x, curves.heldout, fmt="o", color=green, clip_on=False
        )
        means = curves.heldout[:, 0]
        labels.add("held-out score\n(95% interval)", curves.heldout_x, means, green)
    if look.log_y:
        _scale_returns(top, [*quantiles, columns["episode_return_mean"], curves.heldout])
    _draw_target(top, target)
    top.set_ylabel("episode return")
    _head(figure, look.title, heading, letter_size)
    below = [_draw_width_panel(panels[1], x, columns, widths, look.log_y)] if widths else []
    _finish_axes(figure, panels, curves.label, [labels, *below], log_x=look.log_x)
    return figure


def _draw_width_panel(
    axes: Axes,
    x: FloatArray,
    columns: Mapping[str, FloatArray],
    widths: Sequence[str],
    log: bool,
) -> _Labels:
    labels = _Labels(axes)
    said = {
        "std_mean": ("mean over parameters\n(band: least to greatest)", GREY, "-"),
        "step_size": ("step size", COLOURS[6], "-"),
        "extra_std": ("extra, in sampling", COLOURS[3], "--"),
    }
    ends = [columns[name] for name in ("std_min", "std_max") if name in columns]
    if len(ends) == 2:
        draw_band(axes, x, *ends, color=GREY)
    for name in widths:
        label, colour, dashes = said[name]
        _draw_line(axes, x, columns[name], colour, dashes)
        labels.add(label, x, columns[name], colour)
    axes.set_ylabel("search std")
    if log:
        drawn = [columns[name] for name in widths]
        style.scale_logarithmically(axes.yaxis, np.concatenate([*drawn, *ends]), ticks=4)
    else:
        axes.set_ylim(bottom=0)
    return labels


def _draw_several(curves: Sequence[_Curves], look: LearningCurves) -> MatplotlibFigure:
    """Compare configurations: held-out score above, population mean below."""
    names = sorted({scores.name_task(each.config) for each in curves})
    if len(names) > 1:
        raise UsageError(
            f"the runs are of {len(names)} tasks ({', '.join(names)}), whose returns can't be "
            "compared: plot each by itself"
        )
    groups = _group_by_configuration(curves)
    if len(groups) > len(COLOURS):
        raise UsageError(
            f"the runs have {len(groups)} configurations, and a plot tells at most "
            f"{len(COLOURS)} apart: name fewer runs"
        )
    has_heldout = any(len(each.heldout_x) for each in curves)
    figure, panels = _make_panels([1, 1] if has_heldout else [1], look.size)
    drawn, held = [], False
    for axes, heldout in zip(panels, [True, False][-len(panels) :], strict=True):
        labels = _Labels(axes)
        for (label, members), colour in zip(groups.items(), COLOURS, strict=False):
            lines = [(each.x, each.columns["episode_return_mean"]) for each in members]
            if heldout:
                lines = [(each.heldout_x, each.heldout[:, 0]) for each in members]
            lines = [(x[found], y[found]) for x, y in lines if (found := np.isfinite(y)).any()]
            if lines:
                held |= _draw_group(axes, lines, colour, markers=heldout)
                ends = max(lines, key=lambda line: line[0][-1])[0]
                height = np.mean([y[-1] for _, y in lines])
                labels.add(label, ends[-1:], np.array([height]), colour, beside=True)
        if look.log_y:
            _scale_returns(axes, [np.asarray(line.get_ydata()) for line in axes.get_lines()])
        axes.set_ylabel("held-out score" if heldout else "population mean")
        drawn.append(labels)
    targets = {scores.find_target(each.config) for each in curves}
    _draw_target(panels[0], targets.pop() if len(targets) == 1 else None)
    notes = [names[0]]
    counts = {len(members) for members in groups.values()}
    if counts != {1}:
        # The same run twice is not two seeds.
        seeds = [[each.config["search"].get("seed") for each in group] for group in groups.values()]
        kind = "seeds" if all(len(set(each)) == len(each) for each in seeds) else "runs"
        over = f"{counts.pop()} {kind}" if len(counts) == 1 else kind
        notes.append(f"mean and range over {over}")
    if held:
        notes.append("dashed: ended runs keep their last value")
    # Two lines where one would run out of the figure.
    joint = "\n" if sum(map(len, notes)) > TITLE_WIDTH else " · "
    heading = joint.join([" · ".join(notes[:-1]), notes[-1]]) if notes[1:] else notes[0]
    _head(figure, look.title, heading)
    _finish_axes(figure, panels, curves[0].label, drawn, log_x=look.log_x)
    return figure


def _draw_group(
    axes: Axes, lines: Sequence[tuple[FloatArray, FloatArray]], colour: str, *, markers: bool
) -> bool:
    """Draw the mean and range of some runs' lines; says whether ended ones were held."""
    if len(lines) == 1:
        _draw_line(axes, *lines[0], colour, marker="o" if markers else "")
        return False
    start = max(x[0] for x, _ in lines)
    ends = sorted(x[-1] for x, _ in lines)
    # Where runs end is on the grid, so that their last values are met.
    grid = np.unique([*np.linspace(start, max(ends[-1], start), GRID_POINTS), *ends])
    grid = grid[grid >= start]
    table = np.array([np.interp(grid, x, y) for x, y in lines])
    draw_band(axes, grid, table.min(axis=0), table.max(axis=0), color=colour, alpha=0.15)
    mean = table.mean(axis=0)
    whole = grid <= max(ends[0], start)
    _draw_line(axes, grid[whole], mean[whole], colour)
    rest = grid >= max(ends[0], start)
    held = int(np.count_nonzero(rest)) > 1
    if held:
        axes.plot(grid[rest], mean[rest], color=colour, linestyle=(0, (2, 1.5)))
    return held


def _group_by_configuration(curves: Sequence[_Curves]) -> dict[str, list[_Curves]]:
    """Group runs by configuration, and name each by what sets it apart."""
    settings = [_flatten(each.config["search"]) for each in curves]
    keys = sorted({key for each in settings for key in each})
    members: dict[tuple[str, ...], list[int]] = {}
    for i, each in enumerate(settings):
        members.setdefault(tuple(str(each.get(key)) for key in keys), []).append(i)
    firsts = [settings[numbers[0]] for numbers in members.values()]
    equal = len({len(numbers) for numbers in members.values()}) == 1
    named: dict[str, list[_Curves]] = {}
    for first, numbers in zip(firsts, members.values(), strict=True):
        label = _describe_difference(first, firsts)
        if not equal:
            label += f" ({len(numbers)}{_NO_BREAK}seed{'s' if len(numbers) > 1 else ''})"
        label = textwrap.fill(label, LABEL_WIDTH, break_long_words=False)
        named[label.replace(",\n", "\n")] = [curves[i] for i in numbers]
    return named


def _describe_difference(own: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """Say in what one of several configurations differs, in few words."""
    said = []
    keys = dict.fromkeys(key for each in (own, *others) for key in each)
    for key in sorted(keys, key=lambda key: not key.endswith(".name")):
        table, _, field = key.rpartition(".")
        name = f"{table}.name"
        # Another strategy has other fields: its name says enough.
        rivals = others if field == "name" else [o for o in others if o.get(name) == own.get(name)]
        values = {str(each.get(key)) for each in rivals}
        if len(values) > 1:
            value = own.get(key, "none")
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            setting = shown if field == "name" else f"{field.replace('_', ' ')} {shown}"
            said.append(setting.replace(" ", _NO_BREAK))
    return ", ".join(said) or str(own.get("strategy.name", ""))


def _flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested settings into ``table.field`` keys, less what is not compared."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": item for inner, item in _flatten(value).items()}
        elif key not in _NOT_COMPARED:
            flat[key] = value
    return flat


def _make_panels(
    heights: Sequence[int], size: style.Size | None
) -> tuple[MatplotlibFigure, list[Axes]]:
    figure = style.make_figure(5.6 if len(heights) > 1 else 4.2, size)
    look: dict[str, Any] = {"squeeze": False, "gridspec_kw": {"height_ratios": heights}}
    return figure, list(figure.subplots(len(heights), 1, sharex=True, **look)[:, 0])


def _draw_line(
    axes: Axes, x: FloatArray, y: FloatArray, colour: str, dashes: str = "-", marker: str = ""
) -> None:
    """Draw a line; a single point, which would not show, gets a marker."""
    marker = "o" if len(x) == 1 else marker
    axes.plot(x, y, dashes, color=colour, marker=marker, markersize=4, clip_on=not marker)


def _head(figure: MatplotlibFigure, title: str | None, heading: str, size: float = 12) -> None:
    """Head a figure: with the user's title, or a heading above its first panel."""
    if title is None:
        figure.axes[0].set_title(heading, fontsize=size)
    else:
        style.set_title(figure, title)


def _scale_returns(axes: Axes, drawn: Sequence[FloatArray]) -> None:
    """Make the axis of returns logarithmic.

    Raises:
        UsageError: not all that is drawn lies on one side of 0.
    """
    values = np.concatenate([np.ravel(each) for each in drawn])
    values = values[np.isfinite(values)]
    if not ((values > 0).all() or (values < 0).all()):
        raise UsageError(
            f"returns from {values.min():.4g} to {values.max():.4g} have no logarithmic axis "
            "(log_y, --log-y): they would have to be all above 0, or all below"
        )
    style.scale_logarithmically(axes.yaxis, values)


def _draw_target(axes: Axes, value: float | None) -> None:
    """Draw the target where it doesn't squeeze the curves; name it in any case."""
    if value is None:
        return
    low, high = axes.get_ylim()
    text, height, shift = f"target {format_axis_number(value)}", value, 3
    if value > 2 * high - low:
        text, height, shift = f"{text}, above", high, -12
    elif value < 2 * low - high:
        text, height = f"{text}, below", low
    else:
        axes.axhline(value, color=GREY, linewidth=1.2, linestyle=(0, (5, 3)), zorder=1)
    where: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    axes.annotate(text, (0, height), xytext=(6, shift), color=GREY, fontsize=10, **where)


class _Labels:
    """Names of lines, written to the right of the panel, or where a line ends early."""

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        self._added: list[tuple[str, float, float, str, bool]] = []
        self._texts: list[Any] = []
        self._heights: list[float] = []

    def add(
        self, text: str, x: FloatArray, y: FloatArray, colour: str, *, beside: bool = False
    ) -> None:
        """Name a line by its last point that is a number.

        ``beside`` writes the name there if that is far from the right.
        """
        valid = np.flatnonzero(np.isfinite(y))
        if len(valid):
            self._added.append((text, float(x[valid[-1]]), float(y[valid[-1]]), colour, beside))

    def write(self) -> None:
        """Write the names, once the axes have their limits."""
        from matplotlib.patheffects import withStroke

        right = self._axes.get_xlim()[1]
        for text, x, y, colour, beside in self._added:
            look: dict[str, Any] = {"color": colour, "va": "center", "fontsize": 10.5}
            look |= {"linespacing": 1.15, "annotation_clip": False}
            if beside and x < EARLY * right:
                look["path_effects"] = [withStroke(linewidth=3, foreground="white")]
                look |= {"xytext": (6, 0), "textcoords": "offset points", "zorder": 6}
                self._axes.annotate(text, (x, y), **look)
                continue
            if x > 0.98 * right:
                line = {"arrowstyle": "-", "color": colour, "linewidth": 0.8, "alpha": 0.6}
                look["arrowprops"] = {**line, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
            look |= {"xytext": (1.035, y), "textcoords": ("axes fraction", "data")}
            self._heights.append(y)
            self._texts.append(self._axes.annotate(text, (right, y), **look))

    def spread(self) -> None:
        """Move names apart, as little as need be, once the panel has its height."""
        from matplotlib.text import Text

        if not self._texts:
            return
        box = self._axes.get_window_extent()
        to_pixels = self._axes.transData
        wanted = [float(to_pixels.transform((0, y))[1]) for y in self._heights]
        # Of the text alone: the annotation's own extent includes its line.
        sizes = [float(Text.get_window_extent(text).height) + 8 for text in self._texts]
        places = spread_apart(wanted, sizes, box.y0, box.y1)
        for text, place in zip(self._texts, places, strict=True):
            text.set_position((1.035, float(to_pixels.inverted().transform((0, place))[1])))


def spread_apart(
    wanted: Sequence[float], sizes: Sequence[float], low: float, high: float
) -> list[float]:
    """Place intervals in a row so that none overlap.

    Args:
        wanted: where each centre should be.
        sizes: of the intervals.
        low: where the row begins.
        high: where it ends; if they don't all fit, they run over the beginning.

    Returns:
        The centres, in the order given.

    >>> spread_apart([5.0, 5.0], [2.0, 2.0], 0.0, 6.0)
    [3.0, 5.0]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    places = list(wanted)
    for i in order:
        places[i] = max(places[i], low + sizes[i] / 2)
        low = places[i] + sizes[i] / 2
    for i in reversed(order):
        places[i] = min(places[i], high - sizes[i] / 2)
        high = places[i] - sizes[i] / 2
    return places


def _finish_axes(
    figure: MatplotlibFigure,
    panels: Sequence[Axes],
    label: str,
    labels: Sequence[_Labels],
    *,
    log_x: bool,
) -> None:
    """Label the axes, and move names apart once the panels have their places."""
    from matplotlib.ticker import MaxNLocator

    panels[-1].set_xlabel(label)
    for axis in (panels[-1].xaxis, panels[0].yaxis):
        axis.set_major_formatter(lambda value, _: format_axis_number(value))
    if log_x:
        lines = [np.asarray(line.get_xdata()) for line in panels[-1].get_lines()]
        style.scale_logarithmically(panels[-1].xaxis, np.concatenate(lines))
    else:
        panels[-1].set_xlim(left=0)
        ticks = max(2, round(6 * figure.get_figwidth() / style.WIDTH))
        panels[-1].xaxis.set_major_locator(MaxNLocator(ticks))
    figure.align_ylabels(panels)
    for each in labels:
        each.write()
    figure.draw_without_rendering()
    for each in labels:
        each.spread()
