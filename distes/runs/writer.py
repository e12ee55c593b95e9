"""Writing a run: callers queue records, a thread commits them in groups.

A commit writes its parts first, each whole or not at all, and then its checkpoint.
The checkpoint is what makes the parts count: `RunLog.resume` drops parts beyond it.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distes.errors import StorageError, UsageError
from distes.population.records import Evaluated, Population, RunKey
from distes.runs import checkpoint, codec, inventory, merging, schema
from distes.runs.commit_files import Batch, CommitFiles, Row
from distes.runs.inventory import Sums
from distes.runs.parts import Part
from distes.runs.reader import read_config, read_generations_schema
from distes.runs.storage.folder import Folder, open_folder, say_nothing
from distes.runs.storage.location import shorten
from distes.runs.storage.locks import Lock
from distes.signals import shielded

MAX_QUEUED_EPISODES = 1_000_000  # with more the caller waits for the disk: memory stays bounded
ROW_GROUP = 8192  # episodes that are made Parquet of at once, before their commit is due
WRITTEN = (schema.CONFIG, schema.EVENTS, schema.CHECKPOINTS, *schema.PARTS)


class RunLog:
    """The log of a run that is being written; there is one writer at a time.

    Queueing takes microseconds and copies nothing: records and snapshots must not be
    changed afterwards. A fault of the thread (a full disk, say) is raised by the next
    call; what was committed before stays readable.

    Attributes:
        path: the run's directory.
    """

    def __init__(
        self,
        folder: Folder,
        lock: Lock,
        committed: tuple[int, Sums],
        interval_s: float | None,
        info: Sequence[str],
    ) -> None:
        """Start the thread; use `create` or `resume`."""
        self.path = folder.root
        self._folder, self._locks = folder, [lock]
        self._number, self._sums = committed  # of the next commit; of what the run has so far
        self._rows = schema.GenerationRows(read_generations_schema(folder))
        self._interval_s = folder.commit_s if interval_s is None else interval_s
        self._changed = threading.Condition()
        self._queued = Batch()  # not yet covered by a commit point
        self._ready = Batch()  # covered by the newest commit point
        self._info = info
        self._files = CommitFiles(info)  # likewise, as files: the thread's own
        self._waiting = 0  # episodes in both
        self._events: list[str] = []
        self._warnings: set[object] = set()  # of simulators, that are among them
        self._snapshot: Any = None
        self._points, self._durable = 0, 0  # commit points so far, and those that are on disk
        self._urgent = self._closing = self._fault_raised = False
        self._fault: Exception | None = None
        self._last_commit = time.monotonic()
        self._last_events = -math.inf
        self._thread = threading.Thread(target=self._work, name="distes-log", daemon=True)
        self._thread.start()

    @classmethod
    def create(
        cls,
        path: str | Path,
        config: Mapping[str, Any],
        *,
        interval_s: float | None = None,
        info: Sequence[str] = (),
    ) -> RunLog:
        """Start the log of a new run.

        Args:
            path: a directory that is new or empty, or the URI of one.
            config: written to ``config.json``, with the schema version.
            interval_s: seconds between commits, at least; None is what suits the place.
            info: names of the episodes' info to log.

        Raises:
            UsageError: the path is taken, or the configuration is no JSON.
            StorageError: the directory cannot be written.
        """
        refuse_taken(path)
        folder = open_folder(path)
        data = _format_config(config)
        try:
            lock = folder.begin(schema.CONFIG, data)
            folder.make_folders(schema.PARTS)
            return cls(folder, lock, (0, {}), interval_s, info)
        except OSError as error:
            raise _storage_error(folder, error) from error

    @classmethod
    def resume(
        cls,
        path: str | Path,
        *,
        interval_s: float | None = None,
        info: Sequence[str] = (),
        say: Callable[[str], None] = say_nothing,
    ) -> tuple[RunLog, Any | None]:
        """Go on with a run from its last whole commit; what was written after it is dropped.

        A commit is whole if every file that it stands on is as it was written.

        Args:
            path: run directory.
            interval_s: as for `create`.
            info: as the run was created with.
            say: told if it has to wait until another writer is known to be gone, and if the
                last commit is not whole, but one before it is.

        Returns:
            The log, and the snapshot of that commit: None if there is none.

        Raises:
            UsageError: it is no run directory, a newer version's, still being written, what
                it writes is a symbolic link, or of the commits that are kept none is whole,
                or can be decoded.
            StorageError: the directory cannot be written.
        """
        read_config(path)
        folder = open_folder(path)
        folder.refuse_links(WRITTEN)
        try:
            lock = folder.lock(schema.CONFIG, say)
            try:
                found = checkpoint.find_whole(folder, say)
                if inventory.is_config_altered(folder):
                    raise UsageError(f"'{shorten(folder.root / schema.CONFIG)}' is damaged")
                last, snapshot, sums = found or (-1, None, {})
                checkpoint.drop_beyond(folder, last, sums)
                return cls(folder, lock, (last + 1, sums), interval_s, info), snapshot
            except BaseException:
                lock.close()
                raise
        except OSError as error:
            raise _storage_error(folder, error) from error

    @shielded
    def change_config(self, config: Mapping[str, Any]) -> None:
        """Write ``config.json`` again, at once.

        Raises:
            StorageError: it cannot be written; the old one stays.
        """
        try:
            self._locks += self._folder.rewrite(schema.CONFIG, _format_config(config))
        except OSError as error:
            raise _storage_error(self._folder, error) from error

    @shielded
    def add_generation(
        self, row: Row, key: RunKey, population: Population, evaluated: Evaluated
    ) -> None:
        """Queue a generation: its figures, its episodes, its population, its events.

        Args:
            row: figures by column; names and types as in the first generation.
            key: of the search's own population.
            population: what was evaluated.
            evaluated: the answer.
        """
        self._check_usable()
        row = {"generation": key.generation, **row}
        self._rows.check(row)
        self._queued.rows.append(row)
        self._queued.generations.append(schema.Record(key, population, evaluated))
        self._queue_events(key, population, evaluated)

    @shielded
    def add_evaluation(self, key: RunKey, population: Population, evaluated: Evaluated) -> None:
        """Queue the episodes and events of any further evaluation."""
        self._check_usable()
        self._queued.evaluations.append(schema.Record(key, population, evaluated))
        self._queue_events(key, population, evaluated)

    @shielded
    def add_event(self, kind: str, **fields: object) -> None:
        """Write an event soon, with the time; it does not wait for a commit."""
        self._check_usable()
        with self._changed:
            self._events.append(_format_event({"kind": kind, **fields}))
            self._changed.notify_all()

    @shielded
    def commit(self, snapshot: Any, *, now: bool = False) -> None:
        """Make a commit point: all that was queued so far belongs to the snapshot.

        It is written at once if the last commit is ``interval_s`` ago, and otherwise
        then; of several commit points that wait, the newest snapshot is written.

        Args:
            snapshot: what `resume` is to return; see `codec.dumps` for what it may hold.
            now: wait until it is on disk.
        """
        self._check_usable()
        with self._changed:
            self._waiting += self._queued.num_episodes
            self._ready.extend(self._queued)
            self._queued = Batch()
            self._snapshot = snapshot
            self._points += 1
            point = self._points
            now = now or self._waiting >= MAX_QUEUED_EPISODES
            self._urgent = self._urgent or now
            # A waiting thread knows when the interval ends; it is woken for more only.
            if now or point == self._durable + 1 or self._ready.num_episodes >= ROW_GROUP:
                self._changed.notify_all()
            if now:
                self._changed.wait_for(lambda: self._durable >= point or self._fault is not None)
        self._raise_fault()

    @shielded
    def close(self) -> None:
        """Write the newest commit point, and end the thread; what has none is dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._folder.hurry()
        self._thread.join()
        for lock in self._locks:
            lock.close()
        if not self._fault_raised:
            self._raise_fault()

    def _queue_events(self, key: RunKey, population: Population, evaluated: Evaluated) -> None:
        self._queued.num_episodes += len(evaluated.episodes.candidate)
        if evaluated.events:
            place = {"generation": key.generation, "purpose": population.purpose.name.lower()}
            events = [each for each in evaluated.events if self._is_news(each)]
            with self._changed:
                self._events += [_format_event({**place, **event}) for event in events]
                self._changed.notify_all()

    def _is_news(self, event: Mapping[str, object]) -> bool:
        """Whether an event is to be logged: a simulator's warning is once, whoever hears it."""
        if event["kind"] != "simulator_warning":
            return True
        news = event["warning"] not in self._warnings
        self._warnings.add(event["warning"])
        return news

    def _check_usable(self) -> None:
        self._raise_fault()
        if self._closing:
            raise RuntimeError("the log is closed")

    def _raise_fault(self) -> None:
        if self._fault is not None:
            self._fault_raised = True
            if isinstance(self._fault, OSError):
                raise _storage_error(self._folder, self._fault) from self._fault
            raise self._fault

    def _work(self) -> None:
        try:
            # The first takes longer: now nobody waits for it.
            schema.write_parquet(schema.make_empty_table(schema.EPISODES))
            while self._step():
                pass
        except Exception as error:  # noqa: BLE001 - raised by the caller's next call
            with self._changed:
                self._fault = error
                self._changed.notify_all()

    def _step(self) -> bool:
        """Wait for something to write, and write it; False when all is done."""
        with self._changed:
            while not (self._closing or (due_s := self._due_s()) <= 0):
                self._changed.wait(None if due_s == math.inf else due_s)
            closing, point, batch = self._closing, None, Batch()
            if self._commit_due_s() <= 0 or (closing and self._points > self._durable):
                point, snapshot = self._points, self._snapshot
                self._urgent = False
                self._waiting = 0
            if point is not None or self._ready.num_episodes >= ROW_GROUP:
                batch, self._ready = self._ready, batch
            events: list[str] = []
            if closing or point is not None or self._events_due_s() <= 0:
                events, self._events = self._events, events
        if events or point is not None:
            for lock in self._locks:
                lock.check()
        if events:
            self._folder.append(schema.EVENTS, "".join(events).encode())
            self._last_events = time.monotonic()
        self._files.add(batch)
        if point is not None:
            state = codec.dumps(snapshot)
            files, self._files = self._files, CommitFiles(self._info)
            for folder, data, rows in files.finish(self._rows):
                name = Part(folder, self._number, self._number).name
                self._folder.write(name, data)
                self._sums[name] = inventory.take_sum(data, rows)
            checkpoint.write(self._folder, self._number, state, self._sums)
            self._number += 1
            with self._changed:
                self._last_commit = time.monotonic()
                self._durable = point
                self._changed.notify_all()
            if not closing:
                merging.merge_parts(self._folder, self._number - checkpoint.KEEP, self._sums)
        overcome = self._folder.take_overcome_faults()
        with self._changed:
            self._events += [_format_event({"kind": "storage_fault", **each}) for each in overcome]
        return not closing

    def _due_s(self) -> float:
        """Seconds until there is something to do."""
        if self._ready.num_episodes >= ROW_GROUP:
            return 0.0
        return min(self._commit_due_s(), self._events_due_s())

    def _commit_due_s(self) -> float:
        """Seconds until the newest commit point is to be written."""
        if self._points == self._durable:
            return math.inf
        return 0.0 if self._urgent else self._last_commit + self._interval_s - time.monotonic()

    def _events_due_s(self) -> float:
        """Seconds until the events are to be written."""
        if not self._events:
            return math.inf
        return self._last_events + self._folder.append_s - time.monotonic()


def refuse_taken(path: str | Path) -> None:
    """Refuse a path that a new run cannot have.

    Raises:
        UsageError: it is a file, or a directory with something in it, or it can't be read.
        StorageError: its store does not answer.
    """
    folder = open_folder(path)
    if folder.is_taken():
        if folder.is_locked(schema.CONFIG):
            raise UsageError(f"'{path}' is being written by a search that still runs")
        raise UsageError(
            f"'{path}' exists and is not empty: name a new directory, or go on with the run "
            "that is there (distes resume, --resume-if-exists)"
        )


def _format_config(config: Mapping[str, Any]) -> bytes:
    """Write a configuration as JSON, with the schema version.

    Raises:
        UsageError: it is no JSON.
    """
    try:
        return inventory.encode_config({"schema_version": schema.SCHEMA_VERSION, **config})
    except (TypeError, ValueError) as error:
        raise UsageError(f"the configuration cannot be written as JSON: {error}") from error


def _format_event(event: Mapping[str, object]) -> str:
    text = json.dumps({"time": datetime.now(UTC).isoformat(), **event}, default=str)
    # Numbers that JSON does not have become text: nan, inf, -inf.
    return json.dumps(json.loads(text, parse_constant=lambda name: str(float(name)))) + "\n"


def _storage_error(folder: Folder, error: OSError) -> StorageError:
    if isinstance(error, StorageError):
        return StorageError(f"{error}; what was committed before stays readable")
    cause = error.strerror or str(error)
    return StorageError(
        f"'{shorten(folder.root)}' cannot be written ({cause}); what was committed before "
        "stays readable"
    )
