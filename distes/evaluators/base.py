"""What an evaluator is: something that runs a population's episodes, anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import numpy as np

from distes.engines.wire import ROW, Chunk, assemble, collect_trajectories, join_rows
from distes.population.records import Evaluated, Population, RunKey, Telemetry
from distes.tasks.base import AnyTask

# Tracebacks kept of one evaluation: the first in episode order. Every chunk ships at least
# as many, so which are kept does not depend on how the episodes were cut.
FAULTS_KEPT = 3

Event = dict[str, object]


def make_event(kind: str, **fields: object) -> Event:
    """Note for the log what happened just now."""
    return {"time": datetime.now(UTC).isoformat(), "kind": kind, **fields}


class Pending(Protocol):
    """An evaluation under way."""

    @property
    def share(self) -> float:
        """Share of its episodes that are answered; any thread may ask."""

    def result(self) -> Evaluated:
        """Wait for the whole answer, helping it along."""


class Evaluator(Protocol):
    """Runs populations. How many workers there are cannot change a result."""

    @property
    def num_nodes(self) -> int:
        """Machines that take part, the driver's included."""

    def events(self) -> list[Event]:
        """Take what happened since the last answer; for the log of a run that stops."""

    def submit(self, population: Population, key: RunKey) -> Pending:
        """Start an evaluation; those submitted earlier go first."""

    def close(self) -> None:
        """End the workers."""


class PlacedChunk(NamedTuple):
    """A chunk's answer, and where it came from."""

    chunk: Chunk
    attempt: int = 1  # 1 for the first try
    worker: int = 0
    node: int = 0  # index into the evaluation's node names


def assemble_evaluated(
    population: Population,
    key: RunKey,
    task: AnyTask,
    placed: Sequence[PlacedChunk],
    nodes: Sequence[str],
    *,
    summary: Mapping[str, float],
    events: Iterable[Mapping[str, object]] = (),
) -> Evaluated:
    """Put an evaluator's answer together from its chunks.

    Args:
        population: what was evaluated.
        key: its key.
        task: the evaluator's; a population's own goes before it.
        placed: covering all episodes once, in any order.
        nodes: names of the nodes that `placed` refers to.
        summary: figures about the whole evaluation.
        events: what happened besides; failed episodes' tracebacks are added.
    """
    placed = sorted(placed, key=lambda each: each.chunk.start) or [
        PlacedChunk(Chunk(0, 0, np.empty(0, ROW)))
    ]
    chunks = [each.chunk for each in placed]
    rows = join_rows(chunks)
    lengths = [chunk.stop - chunk.start for chunk in chunks]
    own = task if population.task is None else population.task
    return Evaluated(
        episodes=assemble(population, key, own, chunks),
        telemetry=Telemetry(
            attempt=np.repeat(np.array([p.attempt for p in placed], dtype=np.int16), lengths),
            worker=np.repeat(np.array([p.worker for p in placed], dtype=np.int32), lengths),
            node=np.repeat(np.array([p.node for p in placed], dtype=np.int32), lengths),
            nodes=tuple(nodes),
            started_at=rows["started_at"].copy(),
            duration_s=rows["duration_s"].astype(np.float64),
            summary=dict(summary),
        ),
        events=(*events, *_fault_events(population, chunks), *_warning_events(chunks)),
        trajectories=tuple(collect_trajectories(population, chunks)),
    )


def _fault_events(population: Population, chunks: Sequence[Chunk]) -> list[Mapping[str, object]]:
    faults = [fault for chunk in chunks for fault in sorted(chunk.faults)]
    events: list[Mapping[str, object]] = []
    for flat, traceback in faults[:FAULTS_KEPT]:
        candidate, episode = (int(each[0]) for each in population.locate(flat, flat + 1))
        place = {"kind": "episode_error", "candidate": candidate, "episode": episode}
        events.append({**place, "traceback": traceback})
    return events


def _warning_events(chunks: Sequence[Chunk]) -> list[Mapping[str, object]]:
    said = dict.fromkeys(each for chunk in chunks for each in chunk.warnings)
    return [{"kind": "simulator_warning", "warning": each} for each in said]
