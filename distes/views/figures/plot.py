"""Every figure by one function: learning curves, or one run in another way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal

from distes.errors import UsageError, unknown
from distes.views.figures import learning_curves
from distes.views.figures.context_parameters import draw_parameters
from distes.views.figures.context_returns import draw_returns
from distes.views.figures.return_distribution import draw_distribution
from distes.views.figures.style import image, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OVER = ("context", "parameters", "returns")


def plot(
    runs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    x: learning_curves.Axis | None = None,
    *,
    over: Literal["context", "parameters", "returns"] | None = None,
    components: Sequence[int] | None = None,
) -> Figure:
    """Draw runs, as ``distes plot`` does; a notebook shows the figure by itself.

    Args:
        runs: run directories, or one.
        out: image to write, too: ``.png``, ``.svg`` or ``.pdf``; its folder is made if needed.
        x: of learning curves: search ``episodes``, which None takes, ``env_steps`` or
            ``seconds``.
        over: None draws learning curves. Of one run, ``context`` draws returns over the
            context, ``parameters`` what the upper policy chooses over it, ``returns`` how
            they are distributed in each generation.
        components: of the context; None takes all.

    Returns:
        A matplotlib figure.

    Raises:
        UsageError: there is nothing to draw, arguments do not go together, matplotlib is
            missing, or the file can't be written.
    """
    named = [runs] if isinstance(runs, str | PurePath) else list(runs)
    if over not in (None, *OVER):
        raise unknown("value of over", str(over), OVER)
    if components is not None and over not in ("context", "parameters"):
        raise UsageError(
            "components (--components) are those of a context: "
            + ("give over (--over), too" if over is None else "leave them out here")
        )
    place = None if out is None else image(out)
    if over is None:
        figure = learning_curves.draw(named, x or "episodes")
    else:
        if len(named) != 1:
            raise UsageError(f"--over {over} draws one run, and {len(named)} are given")
        if x is not None:
            raise UsageError(
                f"x (--x) is an axis of learning curves: leave it out with --over {over}"
            )
        if over == "returns":
            figure = draw_distribution(named[0])
        else:
            draw = draw_returns if over == "context" else draw_parameters
            figure = draw(named[0], components)
    if place is not None:
        save(figure, place)
    return figure
