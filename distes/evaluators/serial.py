"""Evaluation in this process: for small work, for debugging, and as the reference."""

from __future__ import annotations

import math
import platform
import time
from dataclasses import dataclass, field

from distes.engines.choice import Engines
from distes.evaluators.base import Event, PlacedChunk, assemble_evaluated
from distes.policies.base import Policy
from distes.population.records import Evaluated, Population, RunKey
from distes.tasks.base import AnyTask
from distes.tasks.function import FunctionTask

SLICE_S = 0.5  # seconds between two looks at the clock, about: the display shows what is answered


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
        self._engines.begin()

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


@dataclass(eq=False)
class SerialPending:
    """An evaluation that runs in `result`."""

    task: AnyTask
    engines: Engines
    population: Population
    key: RunKey
    answered: int = field(default=0, init=False)  # episodes

    @property
    def share(self) -> float:
        """Share of its episodes that are answered; any thread may ask."""
        return self.answered / max(self.population.num_episodes, 1)

    def result(self) -> Evaluated:
        """Run all episodes."""
        answer = self.run_within(math.inf)
        assert answer is not None  # noqa: S101 - there was no limit
        return answer

    def run_within(self, limit_s: float) -> Evaluated | None:
        """Run all episodes, or give up: None, where after some seconds some are left.

        Episodes are not interrupted: the clock is looked at between chunks. It stands while an
        engine is slow only because it waits for its machine code.
        """
        population, total = self.population, self.population.num_episodes
        size = self.engines.first_chunk(population)
        if limit_s == math.inf and isinstance(population.task or self.task, FunctionTask):
            size = total  # rows of a vectorised function may round as their batch does
        placed: list[PlacedChunk] = []
        self.answered = 0
        began, wall, spent = time.perf_counter(), 0.0, 0.0
        while self.answered < total:
            if spent > limit_s:
                return None
            waits = self.engines.waits(population)
            start, stop = self.answered, min(self.answered + size, total)
            placed.append(PlacedChunk(self.engines.run(population, self.key, start, stop)))
            self.answered = stop
            before, wall = wall, time.perf_counter() - began
            spent += 0.0 if waits else wall - before
            size = max(1, int(stop / wall * min(SLICE_S, limit_s - spent)))
        busy = sum(float(each.chunk.rows["duration_s"].sum()) for each in placed)
        return assemble_evaluated(
            population,
            self.key,
            self.task,
            placed,
            [platform.node()],
            summary={
                "workers": 0,
                "chunks": len(placed),
                "retries": 0,
                "duplicates": 0,
                "utilisation": min(1.0, busy / wall) if wall else 1.0,
                "tail_wait_s": 0.0,
            },
        )
