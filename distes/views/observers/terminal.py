"""How a run is shown: live in a terminal, one plain line per generation elsewhere."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from pandas import DataFrame
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from distes.population.statistics import Score
from distes.registry import name_of, to_plain
from distes.runs.storage.location import Location
from distes.search.observer import Observer
from distes.search.result import Result
from distes.search.settings import Settings
from distes.tasks.base import AnyTask
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask
from distes.views.replay.recording import renders

SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 40
REFRESHES_PER_SECOND = 2


class Display(Observer):
    """Shows a search as it goes, and at its end what came out and what to do next.

    Attributes:
        path: the run directory, once there is one.
    """

    def __init__(
        self, stream: TextIO | None = None, on_start: Callable[[], None] | None = None
    ) -> None:
        """Choose how to show.

        Args:
            stream: stdout by default; live only where it is a terminal.
            on_start: called when the workers are up.
        """
        self.path: Location | None = None
        self._stream = sys.stdout if stream is None else stream
        self._on_start = on_start
        self._console = Console(file=self._stream, highlight=False)
        self._live: Live | None = None
        self._search: Settings | None = None
        self._rows: list[Mapping[str, Any]] = []
        self._heldout: tuple[int, Score] | None = None
        self._target: float | None = None
        self._began = time.monotonic()
        self._steps = 0

    def starting(self, search: Settings) -> None:
        """Say what runs, before the seconds in which workers start."""
        self._print(_title(search))
        task = search.task
        if isinstance(task, Task) and task.step_limit() is None:
            self._print("no step limit: give --max-episode-steps if an episode may never end")
        if search.workers != 0:
            self._print("starting Ray workers (--workers 0 needs none)")

    def started(self, search: Settings, path: Location, resumed_at: int | None) -> None:
        """Say where the run is written."""
        self.path = path
        self._search = search
        self._began = time.monotonic()
        if self._on_start is not None:
            self._on_start()
        self._print(
            f"writes {path}"
            if resumed_at is None
            else f"{path} resumes at generation {resumed_at + 1}"
        )
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._panel,
                refresh_per_second=REFRESHES_PER_SECOND,
                transient=True,
            )
            self._live.start()

    def generation(self, row: Mapping[str, Any]) -> None:
        """Show a generation's figures."""
        # A new list each time: the panel may be drawn by a thread of its own.
        self._rows = [*self._rows[1 - SPARK_WIDTH :], row]
        self._steps += int(row["env_steps"])
        if self._live is None:
            self._print(self._line(row))

    def heldout(self, generation: int, score: Score, target: float | None, confirms: bool) -> None:
        """Remember the newest score on unseen episodes."""
        self._heldout = (generation, score)
        self._target = target

    def finished(self, result: Result) -> None:
        """Say what came out and which command is next."""
        self.close()
        if self.path is None:
            self._print(f"{result.path} is finished already")
        self._print(f"stopped: {result.stopped}")
        again = result.reevaluation
        if again is not None:
            self._print(
                f"top candidates: {_number(again.search_score)} during the search, "
                f"{_number(again.fresh_score)} on fresh seeds "
                f"(winner's curse {_number(again.gap)})"
            )
        self._print(f"score: {interval(result.score)}")
        self._print(f"run: {result.path}")
        path = shlex.quote(str(result.path))
        self._print(f"next: distes plot {path} --out curve.png")
        if isinstance(result.search.task, AnyTask) and result.search.task.context is not None:
            self._print(f"      distes plot {path} --over context --out context.png")
        if renders(result.search.task):
            self._print(f"      distes replay {path} --out solution.mp4")
        self._print(f"      distes evaluate {path} --episodes 1000 --seed 1")

    def close(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            if self._rows:
                self._print(self._line(self._rows[-1]))

    def _print(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def _line(self, row: Mapping[str, Any]) -> str:
        return generation_line(row, self._heldout[1] if self._heldout else None)

    def _panel(self) -> Group:
        """Lay out the live display from the newest figures."""
        width = max(8, min(SPARK_WIDTH, self._console.width - 24))
        search, rows = self._search, self._rows[-width:]
        if search is None or not rows:
            return Group(Text("first generation ...", style="dim"))
        row = rows[-1]
        waited = time.monotonic() - self._began
        limit = f" of {search.generations}" if search.generations else ""
        head = Text.assemble(
            "generation ",
            (f"{row['generation'] + 1}{limit}", "bold"),
            f"   elapsed {_clock(max(waited, row['elapsed_s']))}",
            f"   {row.get('workers', 0):.0f} workers" if row.get("workers") else "",
            f"   {_rate(row)} env steps/s",
            (f"   {row['failed']:.0f} episodes failed", "bold red") if row.get("failed") else "",
        )
        curves = {"mean": [_mean(r) for r in rows]}
        if "elite_return_mean" in row:
            curves["elite"] = [_elite(r) for r in rows]
        curves["best"] = [float(r["episode_return_max"]) for r in rows]
        finite = [v for curve in curves.values() for v in curve if math.isfinite(v)]
        bounds = (min(finite), max(finite)) if finite else (0.0, 0.0)
        table = Table.grid(padding=(0, 2))
        for name, curve in curves.items():
            figure = Text(_number(curve[-1]), style="bold", justify="right")
            table.add_row(name, figure, Text(sparkline(curve, *bounds), style="cyan"))
        target = f"target {_number(self._target)}" if self._target is not None else ""
        heldout = Text(self._heldout_text(), style="bold green", justify="right")
        after = f"after generation {self._heldout[0] + 1}" if self._heldout else ""
        table.add_row("held-out", heldout, ", ".join(filter(None, [after, target])))
        return Group(head, table)

    def _heldout_text(self) -> str:
        return _number(self._heldout[1].mean) if self._heldout else "-"


def generation_line(row: Mapping[str, Any], heldout: Score | None) -> str:
    """Say in one line what a generation came to.

    Args:
        row: of the generations log.
        heldout: the newest score at the time.
    """
    parts = [f"generation {row['generation'] + 1:>4}", f"mean {_number(_mean(row)):>8}"]
    parts += [f"elite {_number(_elite(row)):>8}"] if "elite_return_mean" in row else []
    parts += [f"best {_number(row['episode_return_max']):>8}"]
    parts += [f"held-out {_number(heldout.mean if heldout else None):>8}"]
    parts += [f"{_rate(row):>9} env steps/s", f"elapsed {_clock(row['elapsed_s'])}"]
    if row.get("failed"):
        parts += [f"{row['failed']:.0f} episodes failed"]
    return "  ".join(parts)


def interval(score: Score) -> str:
    """Say a score, its 95% confidence interval and the number of episodes.

    >>> interval(Score(mean=490.2, std=20.0, low=486.1, high=493.4, episodes=100, failed=0))
    '490.2, 95% confidence interval 486.1 to 493.4, 100 unseen episodes'
    """
    failed = f" and {score.failed} failed" if score.failed else ""
    return (
        f"{_number(score.mean)}, 95% confidence interval {_number(score.low)} to "
        f"{_number(score.high)}, {score.episodes} unseen episodes{failed}"
    )


def table_of_contexts(scores: DataFrame) -> str:
    """Lay out the scores at several contexts, as `distes.evaluate` gives them.

    >>> scores = DataFrame({"context_0": [-1.0, 0.5], "mean": [9.0, 10.25],
    ...     "low": [8.0, 9.0], "high": [9.9, 11.5], "episodes": [20, 19], "failed": [0, 1]})
    >>> print(table_of_contexts(scores))
    context 0  mean  95% confidence interval  episodes  failed
           -1     9                 8 to 9.9        20       0
          0.5  10.2                9 to 11.5        19       1
    """
    names = [str(name) for name in scores if str(name).startswith("context_")]
    columns = {name.replace("_", " "): scores[name].map(_short).tolist() for name in names}
    columns["mean"] = scores["mean"].map(_number).tolist()
    ends = zip(scores["low"].map(_number), scores["high"].map(_number), strict=True)
    columns["95% confidence interval"] = [" to ".join(pair) for pair in ends]
    columns["episodes"] = scores["episodes"].map(str).tolist()
    if scores["failed"].any():
        columns["failed"] = scores["failed"].map(str).tolist()
    widths = [max(map(len, [name, *cells])) for name, cells in columns.items()]
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """Draw values as bars between two bounds; a gap where a value is NaN.

    >>> sparkline([0.0, 1.0, float("nan"), 2.0], 0.0, 2.0)
    '▁▅ █'
    """
    span = (high - low) or 1.0
    return "".join(
        SPARKS[min(len(SPARKS) - 1, int((value - low) / span * len(SPARKS)))]
        if math.isfinite(value)
        else " "
        for value in values
    )


def _title(search: Settings) -> str:
    task: Any = search.task
    parts = [_task_name(task), name_of("strategies", type(search.strategy))]
    if not isinstance(task, FunctionTask):
        parts.append(name_of("policies", type(search.policy)))
        parts.append(f"{search.resolved_engine()} engine")
    contexts = task.num_contexts
    if contexts:
        parts.append(f"context of {contexts} from {task.contexts.name}")
    size = search.built_policy().num_parameters
    target = task.reward_threshold if search.target is None else search.target
    if target is not None:
        parts.append(f"target {target:g}")
    return f"{', '.join(parts)}, {size} parameters, seed {search.seed}"


def _task_name(task: Any) -> str:
    """Name a function that makes environments as the command line does: ``make`` says little."""
    reference = str(to_plain(task.env)) if isinstance(task, Task) else "<"
    return str(task.name) if reference.startswith("<") else reference


def _short(value: float) -> str:
    return f"{value:.6g}"


def _mean(row: Mapping[str, Any]) -> float:
    return float(row["episode_return_mean"])


def _elite(row: Mapping[str, Any]) -> float:
    return float(row["elite_return_mean"])


def _rate(row: Mapping[str, Any]) -> str:
    seconds = float(row["run_s"])
    return f"{row['env_steps'] / seconds:,.0f}" if seconds > 0 else "-"


def _number(value: float | None) -> str:
    """Write a return with about four digits.

    >>> [_number(v) for v in (486.123, -0.012345, 123456.7, float("nan"))]
    ['486.1', '-0.01235', '123457', 'nan']
    """
    if value is None or not math.isfinite(value):
        return "-" if value is None else str(value)
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.4g}"


def _clock(seconds: float) -> str:
    """Write seconds as minutes and seconds, with hours where there are any.

    >>> _clock(83.4), _clock(3723)
    ('1:23', '1:02:03')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
