"""How a run is shown: live in a terminal, one plain line per generation elsewhere."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from distes.population.statistics import Score
from distes.runs.reader import load
from distes.runs.storage.location import Location, shorten
from distes.search.observer import Observer
from distes.search.result import Result
from distes.search.settings import Settings
from distes.signals import say, say_in
from distes.tasks.base import AnyTask
from distes.tasks.environment import Task
from distes.views.escapes import escape_controls
from distes.views.forecast import forecast_seconds
from distes.views.replay.recording import can_be_filmed
from distes.views.text import (
    describe_search,
    draw_sparkline,
    format_clock,
    format_generation,
    format_rate,
    format_return,
    format_score,
)

CURVES = {"mean": "episode_return_mean", "elite": "elite_return_mean", "best": "episode_return_max"}
"""Lines of the panel, and their columns of the generations log."""

ONE_LINE: dict[str, Any] = {"no_wrap": True, "overflow": "ellipsis"}
"""How a line of the panel is kept within the terminal's width."""

SPARK_WIDTH = 40
REFRESHES_PER_SECOND = 2


class Display(Observer):
    """Shows a search as it goes, and at its end what came out and what to do next.

    Args:
        stream: stdout by default; live only where it is a terminal.
        quiet: say nothing but the result, in one line.

    Attributes:
        path: the run directory, once there is one.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self.path: Location | None = None
        self._stream = sys.stdout if stream is None else stream
        self._quiet = quiet
        self._console = Console(file=self._stream, highlight=False)
        self._live: Live | None = None
        self._search: Settings | None = None
        self._rows: list[Mapping[str, Any]] = []
        self._asked: tuple[int, Callable[[], float]] | None = None
        self._episodes = self._env_steps = 0  # of the search so far
        self._said: list[str] = []  # by handlers of signals, while the display is live
        self._heldout: tuple[int, Score] | None = None
        self._target: float | None = None
        self._began = time.monotonic()

    def starting(self, search: Settings) -> None:
        """Say what runs, before the seconds in which workers start."""
        if self._quiet:
            return
        self._print(describe_search(search))
        task = search.task
        if isinstance(task, Task) and task.step_limit() is None:
            self._print(
                "no step limit: an episode that does not end by itself runs for ever; "
                "--max-episode-steps 1000 (max_episode_steps) ends each after 1,000"
            )

    def note(self, text: str) -> None:
        """Say it."""
        if not self._quiet:
            self._print(text)

    def started(self, search: Settings, path: Location, resumed_at: int | None) -> None:
        """Say where the run is written."""
        self.path = path
        place = shorten(path)
        self._search = search
        self._began = time.monotonic()
        if self._quiet:
            return
        at = f"{place} resumes at generation {resumed_at}"
        self._print(f"writes {place}" if resumed_at is None else at)
        if self._console.is_terminal:
            if resumed_at and (search.max_episodes or search.max_env_steps):
                begun = load(path).snapshot()
                if begun is not None:
                    self._episodes, self._env_steps = begun.episodes, begun.env_steps
            say_in(self._said)
            how: dict[str, Any] = {"refresh_per_second": REFRESHES_PER_SECOND, "transient": True}
            self._live = Live(console=self._console, get_renderable=self._panel, **how)
            self._live.start()

    def asked(self, generation: int, share: Callable[[], float]) -> None:
        """Remember whom to ask how far a generation is."""
        self._asked = generation, share

    def generation(self, row: Mapping[str, Any]) -> None:
        """Show a generation's figures."""
        self._episodes += row["episodes"]
        self._env_steps += row["env_steps"]
        # A new list each time: the panel may be drawn by a thread of its own.
        self._rows = [*self._rows[1 - SPARK_WIDTH :], row]
        if self._live is None and not self._quiet:
            self._print(self._line(row))

    def heldout(self, generation: int, score: Score, target: float | None, confirms: bool) -> None:
        """Remember the newest score on unseen episodes."""
        self._heldout = (generation, score)
        self._target = target

    def finished(self, result: Result) -> None:
        """Say what came out and which command is next."""
        self.close()
        if self._quiet:
            self._print(f"{shorten(result.path)}: {format_score(result.score)}")
            return
        if self.path is None:
            self._print(f"{shorten(result.path)} is finished already")
        self._print(f"stopped: {result.stopped}")
        again = result.reevaluation
        if again is not None:
            self._print(
                f"top candidates: {format_return(again.search_score)} during the search, "
                f"{format_return(again.fresh_score)} on fresh seeds "
                f"(winner's curse {format_return(again.gap)})"
            )
        self._print(f"deployed: {result.deployed}")
        self._print(f"score: {format_score(result.score)}")
        self._print(f"run: {shorten(result.path)}")
        path = shlex.quote(shorten(result.path))
        self._print(f"next: distes plot {path} --out curve.png")
        if isinstance(result.search.task, AnyTask) and result.search.task.context is not None:
            self._print(f"      distes plot {path} --over context --out context.png")
        if can_be_filmed(result.search.task):
            self._print(f"      distes replay {path} --out solution.mp4")
        self._print(f"      distes evaluate {path} --episodes 1000 --seed 1")

    def interrupted(self) -> None:
        """Give the terminal back."""
        self.close()

    def close(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            say_in(None)
            if self._rows:
                self._print(self._line(self._rows[-1]))
            while self._said:
                say(self._said.pop(0))

    def _print(self, text: str) -> None:
        shown = escape_controls(text)
        if self._live is not None:  # above the panel
            self._console.print(shown, markup=False, soft_wrap=True)
            return
        self._stream.write(shown + "\n")
        self._stream.flush()

    def _line(self, row: Mapping[str, Any]) -> str:
        width = self._console.width if self._console.is_terminal else None
        return format_generation(row, self._heldout, width)

    def _panel(self) -> Group:
        """Lay out the live display from the newest figures."""
        width = max(8, min(SPARK_WIDTH, self._console.width - 24))
        search, rows = self._search, self._rows[-width:]
        said = [Text(text, style="bold", **ONE_LINE) for text in self._said]
        if search is None or not rows:
            number = 0 if self._asked is None else self._asked[0]
            begun = f"generation {number}   {self._share(number) or '...'}"
            return Group(Text(begun, style="dim"), *said)
        row = rows[-1]
        waited = time.monotonic() - self._began
        done = row["generation"] + 1
        last = search.resolved_generations
        limit = f", {done} of {last} done" if last else ""
        share = self._share(done)
        coming = f", next {share}" if share else ""
        left_s = forecast_seconds(search, rows, self._episodes, self._env_steps)
        left = "" if left_s is None else f"   at most {format_clock(left_s)} left"
        head = Text.assemble(
            "generation ",
            (f"{row['generation']}{limit}{coming}", "bold"),
            (f"   {row['failed']:.0f} episodes failed", "bold red") if row.get("failed") else "",
            f"{left}   elapsed {format_clock(max(waited, row['elapsed_s']))}",
            f"   {row.get('workers', 0):.0f} workers" if row.get("workers") else "",
            f"   {format_rate(row)} env steps/s",
            **ONE_LINE,
        )
        shown = {name: column for name, column in CURVES.items() if column in row}
        curves = {name: [float(each[column]) for each in rows] for name, column in shown.items()}
        finite = [v for curve in curves.values() for v in curve if math.isfinite(v)]
        bounds = (min(finite), max(finite)) if finite else (0.0, 0.0)
        table = Table.grid(padding=(0, 2))
        for _ in range(3):
            table.add_column(**ONE_LINE)
        for name, curve in curves.items():
            figure = Text(format_return(curve[-1]), style="bold", justify="right")
            table.add_row(name, figure, Text(draw_sparkline(curve, *bounds), style="cyan"))
        target = f"target {format_return(self._target)}" if self._target is not None else ""
        generation, score = self._heldout or (None, None)
        heldout = format_return(None if score is None else score.mean)
        after = "" if generation is None else f"after generation {generation}"
        figure = Text(heldout, style="bold green", justify="right")
        table.add_row("held-out", figure, ", ".join(filter(None, [after, target])))
        return Group(head, table, *said)

    def _share(self, generation: int) -> str:
        """Say how far a generation is, in percent of its episodes; nothing unless it runs."""
        number, share = self._asked or (-1, None)
        return f"{share():.0%}" if share is not None and number == generation else ""
