"""The engine for functions of the parameters."""

from __future__ import annotations

import time
import traceback
from typing import Any

import numpy as np

from distes.policies.base import Policy
from distes.population import Population, RunKey, Status
from distes.rollouts.base import MAX_FAULTS, ROW, Chunk
from distes.task import FunctionTask
from distes.types import Array, FloatArray, IntArray


def make(task: FunctionTask, policy: Policy) -> FunctionEngine:  # noqa: ARG001 - as any engine
    """Make the engine; the policy is the parameters themselves."""
    return FunctionEngine(task)


class FunctionEngine:
    """Calls the task's function; an evaluation counts as an episode of one step."""

    def __init__(self, task: FunctionTask) -> None:
        self._task = task

    def close(self) -> None:
        """There is nothing to release."""

    def prepare(self) -> None:
        """There is nothing to make."""

    def run(self, population: Population, key: RunKey, start: int, stop: int) -> Chunk:
        """Evaluate the flat episodes ``start .. stop``."""
        candidate, _ = population.locate(start, stop)
        contexts = None if population.contexts is None else population.contexts[candidate]
        parameters = population.distribution.draw(candidate, contexts)
        seeds = population.seeds(key, start, stop)
        rows = np.zeros(stop - start, dtype=ROW)
        rows["episode_length"] = 1
        rows["terminated"] = True
        rows["started_at"] = time.time()
        faults: list[tuple[int, str]] = []
        if not (self._task.vectorised and self._all_at_once(rows, parameters, seeds)):
            self._one_by_one(rows, parameters, seeds, start, faults)
        failed = rows["status"] != Status.OK
        bad = ~failed & ~np.isfinite(rows["episode_return"])
        rows["status"][bad] = Status.NAN
        return Chunk(start, stop, rows, contexts=contexts, faults=faults[:MAX_FAULTS])

    def _all_at_once(self, rows: Array, parameters: FloatArray, seeds: IntArray) -> bool:
        """Call a vectorised function; whether that worked."""
        began = time.perf_counter()
        try:
            rows["episode_return"] = self._call(parameters, seeds)
        except Exception:  # noqa: BLE001 - which rows are at fault is found one by one
            return False
        rows["duration_s"] = (time.perf_counter() - began) / len(rows)
        return True

    def _one_by_one(
        self,
        rows: Array,
        parameters: FloatArray,
        seeds: IntArray,
        start: int,
        faults: list[tuple[int, str]],
    ) -> None:
        for i, row in enumerate(rows):
            # A vectorised function gets arrays of one row.
            chosen: Any = slice(i, i + 1) if self._task.vectorised else i
            began = time.perf_counter()
            try:
                row["episode_return"] = self._call(parameters[chosen], seeds[chosen]).item()
            except Exception:  # noqa: BLE001 - the user's function may raise anything
                row["status"] = Status.ERROR
                row["episode_return"] = np.nan
                faults.append((start + i, traceback.format_exc()))
            row["duration_s"] = time.perf_counter() - began

    def _call(self, parameters: FloatArray, seeds: IntArray | np.int64) -> FloatArray:
        if not self._task.noisy:
            value = self._task.function(parameters)
        else:
            value = self._task.function(
                parameters, seeds if isinstance(seeds, np.ndarray) else int(seeds)
            )
        result: FloatArray = np.asarray(value, dtype=np.float64)
        expected = parameters.shape[:-1]
        if result.shape != expected:
            raise ValueError(
                f"{self._task.name} returned shape {result.shape} where {expected} is due"
            )
        return result
