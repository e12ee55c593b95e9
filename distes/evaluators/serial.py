"""Evaluation in this process: for small work, for debugging, and as the reference."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass

from distes.engines.choice import Engines
from distes.evaluators.base import Event, PlacedChunk, assemble_evaluated
from distes.policies.base import Policy
from distes.population.records import Evaluated, Population, RunKey
from distes.tasks.base import AnyTask


class SerialEvaluator:
    """Runs everything here, when its result is asked for.

    Args:
        task: what is to be solved.
        policy: built for the task.
        engine: a resolved engine's name.
    """

    def __init__(self, task: AnyTask, policy: Policy, engine: str) -> None:
        self._task = task
        self._engines = Engines(engine, task, policy)
        self._engines.prepare()

    @property
    def num_nodes(self) -> int:
        """This machine."""
        return 1

    def events(self) -> list[Event]:
        """Nothing happens here between answers."""
        return []

    def submit(self, population: Population, key: RunKey) -> SerialPending:
        """Note the evaluation down; it runs when asked for."""
        return SerialPending(self._task, self._engines, population, key)

    def close(self) -> None:
        """Close the environments."""
        self._engines.close()


@dataclass(frozen=True)
class SerialPending:
    """An evaluation that runs in `result`."""

    task: AnyTask
    engines: Engines
    population: Population
    key: RunKey

    def result(self) -> Evaluated:
        """Run all episodes as one chunk."""
        began = time.perf_counter()
        total = self.population.num_episodes
        chunk = self.engines.run(self.population, self.key, 0, total)
        wall = time.perf_counter() - began
        busy = float(chunk.rows["duration_s"].sum())
        return assemble_evaluated(
            self.population,
            self.key,
            self.task,
            [PlacedChunk(chunk)],
            [platform.node()],
            summary={
                "workers": 0,
                "chunks": 1,
                "retries": 0,
                "duplicates": 0,
                "utilisation": min(1.0, busy / wall) if wall else 1.0,
                "tail_wait_s": 0.0,
            },
        )
