"""Reading what a run adds, commit by commit, while it is being written.

Only committed parts are read: a resumed run drops and writes anew what no checkpoint
covers, so each generation is seen once. A commit that was read is never read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from distes.errors import UsageError
from distes.population.records import Purpose
from distes.population.statistics import Score, compute_score
from distes.runs import checkpoint
from distes.runs.reader import parse_events
from distes.runs.schema import (
    EVALUATIONS,
    EVENTS,
    GENERATIONS,
    part_name,
    part_number,
    read_parquet,
)
from distes.runs.storage.folder import open_folder

Event = dict[str, Any]


@dataclass
class News:
    """What a run has added."""

    rows: list[dict[str, Any]] = field(default_factory=list)  # generations, in order
    # By generation, of the solution after it: the confirming batch's where there is one.
    heldout: dict[int, Score] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)  # in the order of writing


class Tail:
    """A place in a run's log, which moves on as the run does.

    Args:
        path: run directory.
        last: how many generations the first reading gives, at most.
    """

    def __init__(self, path: str | Path, last: int) -> None:
        self._path = path
        self._folder = open_folder(path)
        self._last = last
        self._commit: int | None = None
        self._seen: dict[str, int] = {}

    def news(self) -> News:
        """Read what was added since the last call.

        Raises:
            UsageError: the run was removed or replaced meanwhile, or is damaged.
        """
        try:
            # Events first: those of a generation are written before its commit.
            events = parse_events(self._folder.read_lines(EVENTS, self._seen))
            found = checkpoint.find_newest(self._folder)
            newest = -1 if found is None else found
            if self._commit is not None and newest < self._commit:
                raise self._explain_loss()
            if self._commit is None:
                news = self._read_last(newest)
                news.events = _drop_earlier(news.rows, events)
            else:
                numbers = range(self._commit + 1, newest + 1)
                rows = [row for n in numbers for row in self._read_rows(n)]
                held = {g: s for n in numbers for g, s in self._read_heldout(n).items()}
                news = News(rows, held, events)
            self._commit = newest
        except FileNotFoundError:
            raise self._explain_loss() from None
        return news

    def _read_last(self, newest: int) -> News:
        """Read the last generations of a run, and the held-out score before them."""
        news = News()
        for number in self._number_backwards(GENERATIONS, newest):
            news.rows = (self._read_rows(number) + news.rows)[-self._last :]
            if len(news.rows) == self._last:
                break
        if not news.rows:
            return news
        for number in self._number_backwards(EVALUATIONS, newest):
            news.heldout = self._read_heldout(number) | news.heldout
            if min(news.heldout, default=news.rows[0]["generation"]) < news.rows[0]["generation"]:
                break
        return news

    def _number_backwards(self, folder: str, newest: int) -> Iterator[int]:
        numbers = [part_number(name) for name in self._folder.list_names(folder)]
        return iter(sorted((n for n in numbers if n is not None and n <= newest), reverse=True))

    def _read_rows(self, number: int) -> list[dict[str, Any]]:
        table = self._read_part(GENERATIONS, number)
        rows: list[dict[str, Any]] = [] if table is None else table.to_pylist()
        return rows

    def _read_heldout(self, number: int) -> dict[int, Score]:
        columns = ["generation", "purpose", "call", "episode_return"]
        table = self._read_part(EVALUATIONS, number, columns)
        if table is None:
            return {}
        rows = table.to_pandas()
        rows = rows[rows["purpose"] == Purpose.HELDOUT.name.lower()]
        batches = rows.groupby(["generation", "call"])["episode_return"]
        return {generation: compute_score(found.to_numpy()) for (generation, _), found in batches}

    def _read_part(
        self, folder: str, number: int, columns: list[str] | None = None
    ) -> pa.Table | None:
        name = part_name(folder, number)
        if not self._folder.exists(name):
            return None  # a commit writes only what it has
        return read_parquet(self._folder.read(name), self._folder.root / name, columns=columns)

    def _explain_loss(self) -> UsageError:
        return UsageError(f"'{self._path}' was removed or replaced while it was followed")


def _drop_earlier(rows: list[dict[str, Any]], events: list[Event]) -> list[Event]:
    """Leave out the events before the first of some generations."""
    first = rows[0]["generation"] if rows else 0
    before = [n for n, event in enumerate(events) if event.get("generation", first) < first]
    return events[before[-1] + 1 :] if before else events
