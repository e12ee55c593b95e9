"""Run logs of a search that was never run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distes.population.distributions import Gaussian, Point
from distes.population.records import (
    Episodes,
    Evaluated,
    Population,
    Purpose,
    RunKey,
    Status,
    Telemetry,
)
from distes.runs.reader import load
from distes.runs.writer import RunLog
from distes.seeds import noise_key
from distes.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a search would save."""

    generation: int
    mean: FloatArray


@dataclass(frozen=True, eq=False)
class Shifted:
    """Parameters that depend on the context."""

    base: FloatArray

    num_parameters = 2
    uses_context = True

    def draw(self, candidates: IntArray, contexts=None):
        return self.base + candidates[:, None] + 10 * contexts


def population(generation: int, size: int = 3, episodes: int = 2) -> Population:
    distribution = Gaussian(np.full(2, float(generation)), np.ones(2), noise_key(0, generation))
    return Population(distribution, size, episodes)


def evaluated(key: RunKey, asked: Population, *, info=(), contexts=None, events=()) -> Evaluated:
    total = asked.num_episodes
    candidate, episode = asked.locate(0, total)
    status = np.zeros(total, np.int8)
    status[-1:] = Status.ERROR
    returns = np.arange(total) + 100.0 * key.generation
    returns[-1:] = np.nan
    return Evaluated(
        Episodes(
            candidate=candidate,
            episode=episode,
            seed=asked.seeds(key, 0, total),
            episode_return=returns,
            episode_length=np.arange(total) + 1,
            terminated=np.arange(total) % 2 == 0,
            truncated=np.arange(total) % 2 == 1,
            status=status,
            fitness=np.zeros(asked.size),
            contexts=contexts,
            info={name: np.arange(total) / 2 for name in info},
        ),
        Telemetry(
            attempt=np.ones(total, np.int16),
            worker=np.arange(total, dtype=np.int32) % 2,
            node=np.arange(total, dtype=np.int32) % 2,
            nodes=("b", "a") if key.generation % 2 else ("a", "c"),
            started_at=np.where(np.arange(total) == 1, np.nan, 1.7e9 + np.arange(total) / 4),
            duration_s=np.full(total, 0.25),
            summary={},
        ),
        events,
    )


def record(log: RunLog, generation: int, asked: Population | None = None, **what) -> None:
    """Queue one generation and, every other time, a held-out evaluation."""
    key = RunKey(0, generation)
    asked = population(generation) if asked is None else asked
    log.add_generation({"fitness_max": generation / 2}, key, asked, evaluated(key, asked, **what))
    if generation % 2:
        held = Population(Point(np.ones(2)), 1, 4, purpose=Purpose.HELDOUT)
        again = RunKey(0, generation, 1)
        log.add_evaluation(again, held, evaluated(again, held, **what))


def snapshot(generation: int) -> Snapshot:
    return Snapshot(generation, np.full(2, 0.1 * generation))


def run_to(log: RunLog, start: int, stop: int, *, now: bool = True) -> None:
    """Run generations as a search does: record, then commit the state after it."""
    for generation in range(start, stop):
        record(log, generation)
        log.commit(snapshot(generation + 1), now=now)


def assert_whole(path: Path, generations: int) -> None:
    """Every generation of a run is in its log, exactly once and in order."""
    run = load(path)
    assert run.generations["generation"].tolist() == list(range(generations))
    assert run.episodes["generation"].tolist() == np.repeat(np.arange(generations), 6).tolist()
    held = [g for g in range(generations) if g % 2]
    assert run.evaluations["generation"].tolist() == np.repeat(held, 4).tolist()
    for generation in range(generations):
        assert run.population(generation).distribution.mean[0] == generation
    last = run.snapshot()
    assert last.generation == generations
    np.testing.assert_array_equal(last.mean, snapshot(generations).mean)
