"""A search's curve in a notebook, while it grows."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from distes.population.statistics import Score
from distes.runs.storage.location import Location
from distes.search.observer import Observer
from distes.search.result import Result
from distes.search.settings import Settings
from distes.views.figures.style import COLOURS, GREY, thousands
from distes.views.observers.terminal import generation_line, interval

SECONDS = 0.5
"""From one drawing to the next, at least."""

MAX_POINTS = 300
"""Of a line; longer runs are thinned out."""

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 760, 310, 70, 82, 34, 96
HEADING = 115
"""Letters of a line above the picture; longer ones lose their beginning."""

Point = tuple[float, float]


class LiveCurve(Observer):
    """Shows mean, elite and best returns and held-out scores, generation by generation.

    Whatever goes wrong with that, the search goes on.
    """

    def __init__(self) -> None:
        self._works = True
        self._handle: Any = None
        self._path = ""
        self._end: list[str] = []
        self._target: float | None = None
        self._row: Mapping[str, Any] | None = None
        self._heldout: Score | None = None
        self._curves: dict[str, list[Point]] = {"best": [], "elite": [], "mean": []}
        self._scores: list[Point] = []
        self._shown_at = -math.inf

    def started(self, search: Settings, path: Location, resumed_at: int | None) -> None:
        """Say where the run is written."""
        self._path = str(path)
        self._safely(self._show)

    def generation(self, row: Mapping[str, Any]) -> None:
        """Add a generation."""
        self._safely(lambda: self._add(row))

    def heldout(self, generation: int, score: Score, target: float | None, confirms: bool) -> None:
        """Add a score on unseen episodes."""
        self._heldout, self._target = score, target
        self._scores.append((generation + 1.0, score.mean))

    def finished(self, result: Result) -> None:
        """Draw all of it, and say what came out."""
        self._end = [f"stopped: {result.stopped}", f"score: {interval(result.score)}"]
        self._safely(self._show)

    def _add(self, row: Mapping[str, Any]) -> None:
        self._row = row
        x = float(row["generation"]) + 1
        names = {"mean": "episode_return_mean", "elite": "elite_return_mean"}
        names |= {"best": "episode_return_max"}
        for curve, name in names.items():
            if name in row:
                self._curves[curve].append((x, float(row[name])))
        if time.monotonic() - self._shown_at >= SECONDS:
            self._show()

    def _show(self) -> None:
        from IPython.display import display

        line = "" if self._row is None else generation_line(self._row, self._heldout)
        said = [each for each in (self._path, line, *self._end) if each]
        bundle = {
            "image/svg+xml": svg(self._curves, self._scores, said, self._target),
            "text/plain": "\n".join(said),
        }
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
        self._shown_at = time.monotonic()

    def _safely(self, show: Callable[[], None]) -> None:
        if not self._works:
            return
        try:
            show()
        except Exception as error:  # noqa: BLE001 - a picture is no reason to lose a run
            self._works = False
            logging.getLogger(__name__).warning("no live curve from here on: %r", error)


def svg(
    curves: Mapping[str, Sequence[Point]],
    scores: Sequence[Point],
    headings: Sequence[str],
    target: float | None = None,
) -> str:
    """Draw returns over generations; without any, only the headings.

    Args:
        curves: ``mean``, ``elite`` and ``best``, (generation, return) each.
        scores: held-out, (generation, mean).
        headings: lines above.
        target: a return to mark.
    """
    found = {name: [p for p in line if math.isfinite(p[1])] for name, line in curves.items()}
    held = [p for p in scores if math.isfinite(p[1])]
    points = [*held, *(p for line in found.values() for p in line)]
    parts = [
        f'<text x="6" y="{16 + 16 * i}" font-size="12">{escape(_heading(text))}</text>'
        for i, text in enumerate(headings)
    ]
    if points:
        parts += _plot(found, held, points, target)
    height = HEIGHT if points else 10 + 16 * len(headings)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" fill="#222222">'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>{"".join(parts)}</svg>'
    )


def _heading(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= HEADING else "…" + words[1 - HEADING :]


def _plot(
    curves: Mapping[str, Sequence[Point]],
    held: Sequence[Point],
    points: Sequence[Point],
    target: float | None,
) -> list[str]:
    heights = [y for _, y in points]
    low, high = min(heights), max(heights)
    if low == high:
        low, high = low - 1, high + 1
    last = max(2.0, *(x for x, _ in points))

    def place(point: Point) -> Point:
        x = LEFT + (point[0] - 1) / (last - 1) * (WIDTH - LEFT - RIGHT)
        y = TOP + (high - point[1]) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    def label(x: float, y: float, text: str, anchor: str, colour: str = GREY) -> str:
        return (
            f'<text x="{x}" y="{y}" font-size="12" text-anchor="{anchor}" '
            f'fill="{colour}">{text}</text>'
        )

    parts = []
    for value in (low, (low + high) / 2, high):
        _, y = place((1, value))
        parts.append(
            f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#E5E5E5"/>'
            + label(LEFT - 6, y + 4, thousands(float(f"{value:.4g}")), "end")
        )
    bottom = HEIGHT - BOTTOM + 18
    parts.append(label(LEFT, bottom, "generation 1", "start"))
    parts.append(label(WIDTH - RIGHT, bottom, thousands(last), "end"))
    if target is not None and low <= target <= high:
        _, y = place((1, target))
        dashes = f'stroke="{GREY}" stroke-dasharray="5 4"'
        parts.append(f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" {dashes}/>')
    # The names' colours tell which is which; they stand apart, whatever the ends do.
    for i, (name, line) in enumerate(curves.items()):
        colour = {"mean": COLOURS[0], "elite": COLOURS[1]}.get(name, COLOURS[5])
        if line:
            parts.append(_line([place(p) for p in _thinned(line)], colour))
            parts.append(label(WIDTH - RIGHT + 8, TOP + 10 + 18 * i, name, "start", colour))
    for point in held:
        x, y = place(point)
        parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{COLOURS[2]}"/>')
    if held:
        y = TOP + 10 + 18 * len(curves)
        parts.append(label(WIDTH - RIGHT + 8, y, "held-out", "start", COLOURS[2]))
    return parts


def _line(points: Sequence[Point], colour: str) -> str:
    joined = " ".join(f"{x:g},{y:g}" for x, y in points)
    if len(points) == 1:
        return f'<circle cx="{points[0][0]}" cy="{points[0][1]}" r="2.5" fill="{colour}"/>'
    return f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="1.8"/>'


def _thinned(line: Sequence[Point]) -> Sequence[Point]:
    """Keep every n-th point, and the last.

    >>> len(_thinned([(float(i), 0.0) for i in range(1000)]))
    251
    """
    step = -(-len(line) // MAX_POINTS)
    return line if step == 1 else [*line[::step], line[-1]]
