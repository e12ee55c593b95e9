"""Following a run that another process writes, as plain lines."""

from __future__ import annotations

import shlex
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from distes.errors import RunFailed
from distes.population.statistics import Score
from distes.runs.follow import Event, News, Tail
from distes.runs.reader import load
from distes.views import report, scores
from distes.views.escapes import escape_controls
from distes.views.text import format_generation

LAST = 10
"""Generations of which is told that were there before, as ``tail`` does with lines."""

POLL_S = 1.0
PATIENCE_S = 15.0
"""Seconds in which a run that stopped while it was followed may be resumed: a Ray job that
is tried again needs some ten seconds."""

FIELD_WIDTH = 60
_OUTCOMES = ("finished", "failed")
_PLACE = {"time", "kind", "generation", "purpose"}


def follow(
    path: str | Path,
    say: Callable[[str], None],
    *,
    poll_s: float = POLL_S,
    patience_s: float = PATIENCE_S,
) -> None:
    """Tell of each generation as it is committed, and of events; at the end, sum up.

    Only reads, and holds nothing that a writer could wait for.

    Args:
        path: run directory.
        say: given one line, or the closing summary, at a time.
        poll_s: seconds between looks.
        patience_s: seconds to wait for a resume when the run stops meanwhile.

    Raises:
        UsageError: it is not a run directory that can be read, or no longer.
        RunFailed: nobody writes the run, and it is not finished.
    """

    def show(text: str) -> None:
        say(escape_controls(text))

    show(f"following {path}: {scores.name_run(load(path).config, ', ')}")
    tail, narrator = Tail(path, LAST), _Narrator(show)
    left_at: float | None = None
    seen = False
    while True:
        # Asked before reading: what a search wrote before it left is then read, too.
        written = load(path).is_written()
        narrator.tell(tail.news())
        finished = narrator.finished and report.is_finished(path)
        if finished:
            narrator.tell(tail.news())  # what the last commit brought, after its event
            # Its files are there a moment before they count, and are told of.
            finished = narrator.has_told(load(path).generations["generation"].max())
        if finished:
            break
        if written:
            seen, left_at = True, None
        elif not seen or narrator.failed:
            break
        elif left_at is None:
            left_at = time.monotonic()
            show(f"nobody writes it now: waiting {patience_s:.0f} s for a resume")
        elif time.monotonic() - left_at > patience_s:
            break
        time.sleep(poll_s)
    narrator.end()
    show("")
    show(report.describe_run(path))
    if not finished:
        run = load(path)
        said = f"'{path}' is not in progress: {report.describe_state(run)}"
        if report.can_resume(run):
            said += f"; go on with: distes resume {shlex.quote(str(path))}"
        raise RunFailed(said)


class _Narrator:
    """Puts a run's news into lines, in the order in which they happened.

    Attributes:
        finished: the last session said that it is done.
        failed: the last session said that it gave up.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.finished = self.failed = False
        self._say = say
        self._heldout: dict[int, Score] = {}
        self._next: int | None = None
        self._waiting: deque[tuple[str, int | None]] = deque()

    def tell(self, news: News) -> None:
        """Tell what there is; events wait until the generations before them are told."""
        self._heldout |= news.heldout
        self._waiting += _write_event_lines(news.events)
        if self._next is None and news.rows:
            self._next = news.rows[0]["generation"]
        self._tell_due_events()
        for row in news.rows:
            self._tell_generation(row)
            self._next = row["generation"] + 1
            self._tell_due_events()
        for event in news.events:
            kind = event.get("kind")
            if kind in _OUTCOMES or kind == "resumed":
                self.finished, self.failed = kind == "finished", kind == "failed"

    def has_told(self, generation: int) -> bool:
        """Whether a generation was told of."""
        return self._next is not None and generation < self._next

    def end(self) -> None:
        """Tell what waits for generations that were never committed."""
        for line, _ in self._waiting:
            self._say(line)

    def _tell_due_events(self) -> None:
        while self._waiting and (self._waiting[0][1] or 0) <= (self._next or 0):
            self._say(self._waiting.popleft()[0])

    def _tell_generation(self, row: Mapping[str, Any]) -> None:
        # A score is there when the generation after the scored one is told of.
        known = [g for g in self._heldout if g < row["generation"]]
        self._heldout = {g: s for g, s in self._heldout.items() if g >= max(known, default=g)}
        newest = (max(known), self._heldout[max(known)]) if known else None
        self._say(format_generation(row, newest))


def _write_event_lines(events: Iterable[Event]) -> Iterator[tuple[str, int | None]]:
    """Say each event in a line, workers that join together in one, with its generation."""
    for kind, group in groupby(events, key=lambda event: event.get("kind")):
        alike = list(group)
        if kind in _OUTCOMES or kind == "simulator_warning":
            continue  # the summary says the ones; the others concern no progress
        if kind == "worker_joined" and len(alike) > 1:
            nodes = sorted({str(event.get("node")) for event in alike})
            on = nodes[0] if len(nodes) == 1 else f"{len(nodes)} nodes"
            yield f"{len(alike)} workers joined on {on}", alike[0].get("generation")
            continue
        for event in alike:
            line = " ".join(write_event_line(event).split())
            yield line, event.get("generation")


def write_event_line(event: Event) -> str:
    """Say an event in one line.

    >>> write_event_line({"kind": "worker_lost", "worker": 3, "node": "a", "error": "OSError"})
    'worker 3 on a lost: OSError'
    >>> write_event_line({"kind": "drained", "node": "b", "reason": "spot"})
    'drained: node b, reason spot'
    """
    kind = event.get("kind")
    where = f"worker {event.get('worker')} on {event.get('node') or 'an unknown node'}"
    at = f"generation {event.get('generation')}"
    if kind == "worker_joined":
        return f"{where} joined"
    if kind == "worker_lost":
        again = len(event.get("retried") or ())
        retried = f"; chunks to run again: {again}" if again else ""
        preempted = " (preempted)" if event.get("preempted") else ""
        return f"{where} lost: {event.get('error')}{preempted}{retried}"
    if kind == "episode_error":
        last = (str(event.get("traceback", "")).strip().splitlines() or ["unknown"])[-1]
        candidate, episode = event.get("candidate"), event.get("episode")
        return _shorten(f"{at}, candidate {candidate}, episode {episode} failed: {last}", 160)
    if kind == "resumed":
        return f"resumed at {at}"
    said = [f"{k} {_shorten(str(v))}" for k, v in event.items() if k not in _PLACE]
    return f"{kind}: {', '.join(said)}" if said else str(kind)


def _shorten(text: str, width: int = FIELD_WIDTH) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3] + "..."
