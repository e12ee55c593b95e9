"""What all figures share: colours, style, titles, and how a file is written."""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Collection, Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distes.errors import UsageError, unknown
from distes.runs.reader import Run
from distes.runs.storage.location import URI, locate
from distes.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.figure import Figure as MatplotlibFigure
    from matplotlib.ticker import MaxNLocator

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart with any colour vision (Okabe & Ito 2008)."""

GREY = "#666666"
WIDTH = 9.0
"""Of a figure, in inches."""

SIZES = (3.0, 50.0)
"""Least and greatest width and height that may be asked for, in inches."""

LETTERS = 9
"""Letters of a title in an inch."""

LITERAL: Mapping[str, Any] = {"parse_math": False}
"""How texts are drawn that may hold dollar signs."""

FORMATS = (".html", ".pdf", ".png", ".svg")

Size = tuple[float, float]
"""Width and height, in inches."""

STYLE = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titlepad": 12.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.xmargin": 0.0,
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "figure.constrained_layout.use": True,
}


def locate_image(out: str | Path, *, force: bool = False) -> Path:
    """Where an image is to be written; ``force`` may overwrite one.

    Raises:
        UsageError: it is no local path, there is a file already, or the format is unknown.
    """
    return locate_file(out, "an image", "image format", FORMATS, force=force)


def locate_file(
    out: str | Path, what: str, kind: str, suffixes: Collection[str], *, force: bool
) -> Path:
    """Where a file of a ``kind`` of format, one of the suffixes, is to be written."""
    place = locate(out)
    if isinstance(place, URI):
        raise UsageError(f"'{place}' is a URI: {what} is written to a local path")
    if place.name.lower() in suffixes:
        raise UsageError(f"'{place}' has no name before its format: for example a{place.name}")
    if place.suffix.lower() not in suffixes:
        raise unknown(kind, place.suffix or place.name, suffixes)
    if place.is_dir():
        raise UsageError(f"'{place}' is a directory: name a file")
    if place.exists() and not force:
        raise UsageError(
            f"'{place}' is there already: name another file, or overwrite it with force (--force)"
        )
    return place


def save_figure(figure: MatplotlibFigure, place: Path) -> None:
    """Write a figure to where `locate_image` says, the same one as the same file.

    Raises:
        UsageError: it can't be written.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _write_figure(figure, place)
    except OSError as fault:
        raise UsageError(f"'{place}' can't be written: {fault.strerror or fault}") from fault


def _write_figure(figure: MatplotlibFigure, place: Path) -> None:
    kind = place.suffix.lower()
    dates: Mapping[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with import_matplotlib().rc_context({"svg.hashsalt": "distes"}):
        if kind == ".html":
            image = BytesIO()
            figure.savefig(image, format="svg", metadata=dates[".svg"])
            drawing = image.getvalue().decode()
            place.write_text(make_page(drawing, describe_figure(figure)), encoding="utf-8")
        else:
            figure.savefig(place, dpi=150, metadata=dates.get(kind))


def make_page(drawing: str, description: Sequence[str]) -> str:
    """Make a web page of a drawing that needs nothing besides.

    Args:
        drawing: an SVG file.
        description: for those who do not see it; the first line is the page's title.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(description[0])}</title>\n"
        "<style>svg { max-width: 100%; height: auto; }</style>\n</head>\n<body>\n"
        f'<div role="img" aria-label="{escape(". ".join(description))}">\n'
        f"{drawing[drawing.index('<svg') :]}</div>\n</body>\n</html>\n"
    )


def describe_figure(figure: MatplotlibFigure) -> list[str]:
    """Describe a figure in words: its heading, and of each panel the axes and what is named."""
    titles = (axes.get_title(place) for axes in figure.axes for place in ("left", "center"))
    lines = (figure.get_suptitle() or next(filter(None, titles), "figure")).splitlines()
    for axes in figure.axes:
        shared: Any = axes.get_shared_x_axes().get_siblings(axes)
        x = next((each.get_xlabel() for each in shared if each.get_xlabel()), "")
        named = [text.get_text() for text in axes.texts]
        named += axes.get_legend_handles_labels()[1]
        parts = " over ".join(filter(None, [axes.get_ylabel(), x])), ", ".join(named)
        lines.append(" ".join(": ".join(filter(None, parts)).split()))
    return list(filter(None, lines))


def render_png(figure: MatplotlibFigure) -> bytes:
    """Draw a figure as a notebook shows it: small enough to be kept within the notebook."""
    image = BytesIO()
    figure.savefig(image, format="png", dpi=75)
    return image.getvalue()


def import_matplotlib() -> Any:
    """Import matplotlib, or refuse where it is not installed."""
    try:
        return importlib.import_module("matplotlib")
    except ModuleNotFoundError:
        said = "plots need matplotlib, which is not installed: pip install 'distes[plot]'"
        raise UsageError(said) from None


def make_figure(height: float, size: Size | None = None) -> MatplotlibFigure:
    """Make an empty figure of the width that all have, as many inches high, or of a size."""
    from matplotlib.figure import Figure

    return Figure(figsize=size or (WIDTH, height))


def check_size(size: Sequence[float]) -> Size:
    """Take a width and a height in inches.

    Raises:
        UsageError: they are not two numbers from `SIZES`.
    """
    low, high = SIZES
    ends: list[Any] = [size] if isinstance(size, str | float | int) else list(size)
    if len(ends) != 2 or not all(isinstance(e, int | float) and low <= e <= high for e in ends):
        given = "x".join(f"{e:g}" if isinstance(e, float) else str(e) for e in ends)
        raise UsageError(
            f"size {given} is not WIDTHxHEIGHT in inches, each from {low:g} to {high:g}: for "
            "example 9x5, in Python (9, 5)"
        )
    return ends[0], ends[1]


def set_title(figure: MatplotlibFigure, title: str) -> None:
    """Head a figure with a user's title, in as many lines as it needs."""
    text = textwrap.fill(title, int(LETTERS * float(figure.get_figwidth())))
    _set_heading(figure, text)


def _set_heading(figure: MatplotlibFigure, text: str) -> None:
    look: dict[str, Any] = {"fontsize": 12, "linespacing": 1.4, **LITERAL}
    figure.suptitle(text, x=0.015, ha="left", **look)


def scale_logarithmically(axis: XAxis | YAxis, values: FloatArray, ticks: int = 6) -> None:
    """Make an axis logarithmic; below 0, of the distance to it.

    Args:
        axis: of a panel.
        values: all that is drawn along it; those that are not finite are passed over.
        ticks: about so many of them have labels.
    """
    from matplotlib.ticker import MaxNLocator, NullLocator, SymmetricalLogLocator

    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if not len(sizes):
        return
    least, greatest = float(sizes.min()), float(sizes.max())
    # Linear nowhere but nearer to 0 than anything that is drawn, margins included.
    linear = least / 10
    set_scale = axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale
    set_scale("symlog", linthresh=linear)
    if greatest < 5 * least:  # too short for powers of ten
        axis.set_major_locator(MaxNLocator(ticks))
    else:
        steps = [1.0, 2.0, 5.0] if greatest < 100 * least else [1.0]
        powers = SymmetricalLogLocator(base=10, linthresh=linear, subs=steps)
        powers.set_params(numticks=ticks)
        axis.set_major_locator(powers)
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: format_axis_number(value))


def format_axis_number(value: float) -> str:
    """Write a number for an axis: format_axis_number with commas, millions with M.

    >>> [format_axis_number(v) for v in (0.5, 1500, -20_000, 2_500_000, 0)]
    ['0.5', '1,500', '−20,000', '2.5M', '0']
    """
    if abs(value) >= 1e6:
        text = f"{value / 1e6:,.6g}M"
    else:
        text = f"{value:,.0f}" if value == round(value) else f"{value:.6g}"
    return text.replace("-", "−")


def choose_components(components: Sequence[int] | None, size: int) -> list[int]:
    """Check which components of a context are to be shown.

    Args:
        components: counted from 0; None takes all.
        size: k.

    Raises:
        UsageError: there is no such component, or one is named twice.
    """
    if components is None:
        return list(range(size))
    for each in components:
        if not 0 <= each < size:
            said = f"component {each} is not one of the {size} of a context, counted from 0"
            raise UsageError(said)
    if len(set(components)) < len(components) or not components:
        named = ",".join(map(str, components))
        raise UsageError(f"components {named} are not one or more, each once")
    return list(components)


def widen_range(low: float, high: float) -> tuple[float, float]:
    """Make a range wide enough to be seen, if it is a single value."""
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def count_columns(panels: int) -> int:
    """Columns in which panels of equal rank stand; three are legible side by side.

    >>> [count_columns(panels) for panels in (1, 2, 3, 4, 5, 9)]
    [1, 2, 3, 2, 3, 3]
    """
    return 2 if panels == 4 else min(panels, 3)


def make_locator(columns: int) -> MaxNLocator:
    """Where ticks stand whose labels fit into a column of several."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(max(3, 6 // columns), steps=[1, 2, 4, 5, 10])


def draw_band(axes: Axes, x: FloatArray, low: FloatArray, high: FloatArray, **look: Any) -> None:
    """Fill what lies between two lines, (m,) each."""
    axes.fill_between(x, low, high, linewidth=0, **{"alpha": 0.2, **look})


def draw_intervals(axes: Axes, x: FloatArray, scores: FloatArray, **how: Any) -> None:
    """Draw means with their intervals.

    Args:
        axes: to draw into.
        x: (m,).
        scores: (m, 3) means, low and high ends; a single episode has none, NaN.
        how: more for matplotlib's ``errorbar``.
    """
    mean, low, high = scores.T
    errors = np.maximum(np.where(np.isnan(low), 0.0, [mean - low, high - mean]), 0.0)
    axes.errorbar(x, mean, errors, markersize=5, capsize=3, elinewidth=1.4, zorder=5, **how)


def add_headings(
    figure: MatplotlibFigure, headings: Sequence[str], title: str | None = None
) -> None:
    """Head a figure, and explain below it what is drawn.

    Args:
        figure: its panels are drawn; the first one explains all.
        headings: lines; empty ones are left out.
        title: in place of them.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if title is None:
        _set_heading(figure, "\n".join(filter(None, headings)))
    else:
        set_title(figure, title)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=3, frameon=False, fontsize=10.5)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)  # noqa: S101 - of the style
    engine.set(w_pad=0.12)


def label_components(run: Run, size: int) -> list[str]:
    """Name the components of a context, (k,) of them, on axes."""
    if run.context_names is not None:
        return run.context_names
    return ["context"] if size == 1 else [f"context {each}" for each in range(size)]
