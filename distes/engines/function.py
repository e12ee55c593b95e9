"""The engine for functions of the parameters."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from distes.engines.base import Engine, draw_contexts, read_number, write_fault
from distes.engines.wire import MAX_FAULTS, ROW, Chunk
from distes.errors import EpisodeError, UsageError
from distes.population.records import Population, RunKey, Status
from distes.signals import is_request_to_stop
from distes.tasks.function import FunctionTask
from distes.types import Array, FloatArray


class FunctionEngine(Engine):
    """Calls the task's function; an evaluation counts as an episode of one step."""

    solves = FunctionTask
    preference = 0

    def run(self, population: Population, key: RunKey, start: int, stop: int) -> Chunk:
        """Evaluate the flat episodes ``start .. stop``.

        Raises:
            UsageError: trajectories are asked for, which a function has not.
        """
        if population.records:
            raise UsageError(
                f"{self._task.name} is a function of the parameters: it has no trajectory"
            )
        candidate, _ = population.locate(start, stop)
        seeds = population.seeds(key, start, stop)
        contexts, lost = draw_contexts(population, self._task, candidate, seeds)
        rows = np.zeros(stop - start, dtype=ROW)
        rows["episode_length"] = 1
        rows["terminated"] = True
        rows["started_at"] = time.time()
        rows["status"][list(lost)] = Status.ERROR
        rows["episode_return"][list(lost)] = np.nan
        faults = [(start + i, write_fault(error)) for i, error in lost.items()]
        kept: Any = np.flatnonzero(rows["status"] == Status.OK) if lost else slice(None)
        shown = None if contexts is None else contexts[kept]
        given: list[Array] = [population.distribution.draw(candidate[kept], shown)]
        if shown is not None and self._task.context is not None:
            given.append(shown)
        if self._task.noisy:
            given.append(seeds[kept])
        called = rows[kept]
        if not (self._task.vectorised and self._call_all(called, given)):
            numbers = np.arange(start, stop)[kept].tolist()
            faults += [(numbers[i], text) for i, text in self._call_each(called, given)]
        rows[kept] = called
        failed = rows["status"] != Status.OK
        bad = ~failed & ~np.isfinite(rows["episode_return"])
        rows["status"][bad] = Status.NAN
        return Chunk(start, stop, rows, contexts=contexts, faults=sorted(faults)[:MAX_FAULTS])

    def _call_all(self, rows: Array, given: Sequence[Array]) -> bool:
        """Call a vectorised function; whether that worked."""
        began = time.perf_counter()
        try:
            rows["episode_return"] = self._call(given)
        except BaseException as error:
            if is_request_to_stop(error):
                raise
            return False  # which rows are at fault is found one by one
        rows["duration_s"] = (time.perf_counter() - began) / max(len(rows), 1)
        return True

    def _call_each(self, rows: Array, given: Sequence[Array]) -> list[tuple[int, str]]:
        """Call the function for each row; the tracebacks of those that fail."""
        faults: list[tuple[int, str]] = []
        for i, row in enumerate(rows):
            # A vectorised function gets arrays of one row.
            chosen: Any = slice(i, i + 1) if self._task.vectorised else i
            began = time.perf_counter()
            try:
                row["episode_return"] = self._call([each[chosen] for each in given]).item()
            except BaseException as error:
                if is_request_to_stop(error):
                    raise
                row["status"] = Status.ERROR
                row["episode_return"] = np.nan
                faults.append((i, write_fault(error)))
            row["duration_s"] = time.perf_counter() - began
        return faults

    def _call(self, given: Sequence[Any]) -> FloatArray:
        # A seed is a plain number for a function of one episode. Arrays are copies: what the
        # function does to them must not reach the log, or another call.
        arguments = [int(each) if isinstance(each, np.integer) else each.copy() for each in given]
        value = np.asarray(self._task.function(*arguments))
        expected = given[0].shape[:-1]
        if value.shape != expected:
            raise EpisodeError(
                f"{self._task.name} returned shape {value.shape} where {expected} is due"
            )
        if value.dtype.kind not in "fiub":  # text and None would become numbers
            what = f"what {self._task.name} returned"
            numbers = [read_number(what, each) for each in value.ravel().tolist()]
            value = np.reshape(numbers, expected)
        return value.astype(np.float64)
