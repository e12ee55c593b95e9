"""Reading what a run adds, commit by commit, while it is being written.

Only committed parts are read: a resumed run drops and writes anew what no checkpoint
covers, so each generation is seen once. A commit that was read is never read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from distes.errors import UsageError
from distes.population.records import Purpose
from distes.population.statistics import Score, compute_score
from distes.runs import checkpoint
from distes.runs.parts import Part, list_parts
from distes.runs.reader import parse_events
from distes.runs.schema import EVALUATIONS, EVENTS, GENERATIONS, TABLES, read_parquet
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
        self._generation = -1  # the last one that was given
        self._seen: dict[str, int] = {}

    def news(self) -> News:
        """Read what was added since the last call.

        Raises:
            UsageError: the run was removed or replaced meanwhile, or is damaged.
        """
        try:
            # Events first: those of a generation are written before its commit.
            events = parse_events(self._folder.read_lines(EVENTS, self._seen))
        except FileNotFoundError:
            raise self._explain_loss() from None
        listed = None
        while listed != (found := self._list_committed()):
            listed = found
            try:
                news = self._read_news(found[1])
            except FileNotFoundError:  # merged since it was listed, or removed
                continue
            news.events = _drop_earlier(news.rows, events) if self._commit is None else events
            self._commit = found[0]
            if news.rows:
                self._generation = news.rows[-1]["generation"]
            return news
        raise self._explain_loss()

    def _list_committed(self) -> tuple[int, dict[str, list[Part]]]:
        """Give the last commit, and the parts of the tables up to it, in order."""
        found = checkpoint.find_newest(self._folder)
        newest = -1 if found is None else found
        if self._commit is not None and newest < self._commit:
            raise self._explain_loss()
        parts = {table: list_parts(self._folder, table) for table in TABLES}
        return newest, {t: [part for part in parts[t] if part.last <= newest] for t in TABLES}

    def _read_news(self, parts: Mapping[str, list[Part]]) -> News:
        return self._read_last(parts) if self._commit is None else self._read_further(parts)

    def _read_last(self, parts: Mapping[str, list[Part]]) -> News:
        """Read the last generations of a run, and the held-out score before them."""
        news = News()
        for part in reversed(parts[GENERATIONS]):
            news.rows = (self._read_rows(part) + news.rows)[-self._last :]
            if len(news.rows) == self._last:
                break
        if not news.rows:
            return news
        for part in reversed(parts[EVALUATIONS]):
            news.heldout = self._read_heldout(part) | news.heldout
            if min(news.heldout, default=news.rows[0]["generation"]) < news.rows[0]["generation"]:
                break
        return news

    def _read_further(self, parts: Mapping[str, list[Part]]) -> News:
        """Read what came since the last call; of parts that also hold earlier rows, the rest."""
        assert self._commit is not None  # noqa: S101 - there was a first call
        news, told = News(), self._generation
        for part in parts[GENERATIONS]:
            if part.last > self._commit:
                news.rows += [row for row in self._read_rows(part) if row["generation"] > told]
        for part in parts[EVALUATIONS]:
            if part.last > self._commit:
                found, wide = self._read_heldout(part), part.first <= self._commit
                news.heldout |= {g: score for g, score in found.items() if not wide or g >= told}
        return news

    def _read_rows(self, part: Part) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._read_part(part).to_pylist()
        return rows

    def _read_heldout(self, part: Part) -> dict[int, Score]:
        columns = ["generation", "purpose", "call", "episode_return"]
        rows = self._read_part(part, columns).to_pandas()
        rows = rows[rows["purpose"] == Purpose.HELDOUT.name.lower()]
        batches = rows.groupby(["generation", "call"])["episode_return"]
        return {generation: compute_score(found.to_numpy()) for (generation, _), found in batches}

    def _read_part(self, part: Part, columns: list[str] | None = None) -> pa.Table:
        data = self._folder.read(part.name)
        return read_parquet(data, self._folder.root / part.name, columns=columns)

    def _explain_loss(self) -> UsageError:
        return UsageError(f"'{self._path}' was removed or replaced while it was followed")


def _drop_earlier(rows: list[dict[str, Any]], events: list[Event]) -> list[Event]:
    """Leave out the events before the first of some generations."""
    first = rows[0]["generation"] if rows else 0
    before = [n for n, event in enumerate(events) if event.get("generation", first) < first]
    return events[before[-1] + 1 :] if before else events
