"""Every figure by one function: learning curves, or one run in another way."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from distes.errors import UsageError
from distes.registry import find
from distes.runs.reader import load
from distes.views.figures.base import Figure
from distes.views.figures.style import check_size, locate_image, save_figure, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure


def plot(
    runs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    x: str | None = None,
    *,
    over: str | None = None,
    components: Sequence[int] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    title: str | None = None,
    size: Sequence[float] | None = None,
    force: bool = False,
) -> MatplotlibFigure:
    """Draw runs, as ``distes plot`` does; a notebook shows the figure by itself.

    Args:
        runs: run directories, or one.
        out: image to write, too: ``.png``, ``.svg`` or ``.pdf``, or ``.html``, a page that
            needs nothing besides; its folder is made if needed.
        x: of learning curves: search ``episodes``, which None takes, ``env_steps`` or
            ``seconds``.
        over: a figure's name, or ``package.module:Class`` of your own `Figure`. None draws
            learning curves. Of one run, ``context`` draws returns over the context,
            ``parameters`` what the upper policy chooses over it, ``returns`` how they are
            distributed in each generation.
        components: of the context; None takes all.
        log_x: of learning curves: a logarithmic horizontal axis.
        log_y: of learning curves: logarithmic vertical axes; of returns below 0 their distance
            to it.
        title: in place of the heading.
        size: width and height in inches; None takes what suits the figure.
        force: overwrite ``out`` if it is there.

    Returns:
        A matplotlib figure.

    Raises:
        UsageError: there is nothing to draw, arguments do not go together, matplotlib is
            missing, or the file is there already, or can't be written.
    """
    paths = [runs] if isinstance(runs, str | PurePath) else list(runs)
    kind: Any = find("views.figures", over or "learning_curves", Figure)
    heeded = inspect.signature(kind).parameters
    if components is not None and "components" not in heeded:
        raise UsageError(
            "components (--components) are those of a context: "
            + ("give over (--over), too" if over is None else "leave them out here")
        )
    place = None if out is None else locate_image(out, force=force)
    if len(paths) != 1 and not kind.compares_runs:
        raise UsageError(f"--over {over} draws one run, and {len(paths)} are given")
    axes = {"x": x, "log_x": log_x or None, "log_y": log_y or None}
    for name, value in axes.items():
        if value is not None and name not in heeded:
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{name} ({flag}) is of learning curves: leave it out with --over {over}"
            )
    checked = None if size is None else check_size(size)
    given = {**axes, "components": components, "title": title, "size": checked}
    taken = {name: value for name, value in given.items() if value is not None and name in heeded}
    figure: MatplotlibFigure = kind(**taken).draw([load(path) for path in paths])
    if checked is not None and "size" not in heeded:
        figure.set_size_inches(checked)
    if title is not None and "title" not in heeded:
        set_title(figure, title)
    if place is not None:
        save_figure(figure, place)
    return figure
