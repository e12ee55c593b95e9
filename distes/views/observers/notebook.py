"""A search's learning curves in a notebook, while they grow."""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Mapping
from typing import Any

from pandas import DataFrame

from distes.errors import UsageError
from distes.population.statistics import Score
from distes.runs.reader import load
from distes.runs.storage.location import Location
from distes.search.observer import Observer, in_notebook
from distes.search.result import Result
from distes.search.settings import Settings
from distes.views import scores
from distes.views.figures.learning_curves import draw_progress
from distes.views.figures.style import render_png
from distes.views.text import format_generation, format_score

MIN_SECONDS = 1.0
MAX_SHARE = 0.1
"""From one drawing to the next so many seconds at least, and so many that drawing takes no
larger share of the driver's time."""

MAX_LETTERS = 125
"""Of a line above the picture; longer ones lose their beginning."""


class LiveCurve(Observer):
    """Shows the population's returns and held-out scores, drawn anew again and again.

    Without matplotlib it is a line of text that changes.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._path = ""
        self._end: list[str] = []
        self._target: float | None = None
        self._rows: list[Mapping[str, Any]] = []
        self._heldout: dict[int, Score] = {}
        self._due = 0.0

    def started(self, search: Settings, path: Location, resumed_at: int | None) -> None:
        """Say where the run is written.

        Raises:
            UsageError: this is no notebook.
        """
        if not in_notebook():
            raise UsageError("the observer 'notebook' shows its curves in a notebook alone")
        self._path = str(path)
        if resumed_at:
            run = load(path)
            self._rows = run.generations.to_dict("records")  # type: ignore[assignment]
            self._heldout = scores.score_heldout(run)
        self._show()

    def generation(self, row: Mapping[str, Any]) -> None:
        """Add a generation."""
        self._rows.append(row)
        if time.monotonic() >= self._due:
            self._show()

    def heldout(self, generation: int, score: Score, target: float | None, confirms: bool) -> None:
        """Add a score on unseen episodes."""
        self._heldout[generation] = score
        self._target = target

    def finished(self, result: Result) -> None:
        """Draw all of it, and say what came out."""
        self._end = [f"stopped: {result.stopped}", f"score: {format_score(result.score)}"]
        self._show()

    def _show(self) -> None:
        from IPython.display import display

        began = time.monotonic()
        lines = [self._path]
        if self._rows:
            newest = max(self._heldout.items()) if self._heldout else None
            lines.append(format_generation(self._rows[-1], newest, MAX_LETTERS))
        lines += self._end
        shown = {"text/plain": "\n".join(lines)}
        if self._rows:
            short = [x if len(x) <= MAX_LETTERS else "…" + x[1 - MAX_LETTERS :] for x in lines]
            rows, heading = DataFrame(self._rows), "\n".join(short)
            with contextlib.suppress(UsageError):  # matplotlib is not installed
                figure = draw_progress(rows, self._heldout, heading, self._target)
                shown["image/png"] = base64.b64encode(render_png(figure)).decode("ascii")
        if self._handle is None:
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)
        ended = time.monotonic()
        self._due = ended + max(MIN_SECONDS, (ended - began) / MAX_SHARE)
