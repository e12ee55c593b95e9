"""Small searches for tests of whole runs, and how two runs are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import environments
import pandas as pd

import distes
from distes.search.observer import Observer
from distes.search.search import Search
from distes.strategies import CEM
from distes.tasks.function import FunctionTask

TIMING = ["attempt", "worker", "node", "started_at", "duration_s"]


ABOUT_THE_SESSION = ["workers", "chunks", "retries", "duplicates", "utilisation"]


def tables(path: Path) -> dict[str, pd.DataFrame]:
    """The tables of a run without the columns that may differ."""
    run = distes.load(path)
    generations = run.generations
    drop = [c for c in generations if c.endswith("_s") or c in ABOUT_THE_SESSION]
    generations = generations.drop(columns=drop)
    assert len(generations.columns) > 20
    for frame, purposes in ((run.episodes, []), (run.evaluations, ["purpose", "call"])):
        assert not frame.duplicated([*purposes, "generation", "candidate", "episode"]).any()
    return {
        "generations": generations,
        "episodes": run.episodes.drop(columns=TIMING),
        "evaluations": run.evaluations.drop(columns=TIMING),
    }


def assert_same_run(one: Path, other: Path) -> None:
    expected = tables(other)
    for name, table in tables(one).items():
        keys = [k for k in ("purpose", "generation", "call", "candidate", "episode") if k in table]
        left = table.sort_values(keys, ignore_index=True, kind="stable")
        right = expected[name].sort_values(keys, ignore_index=True, kind="stable")
        pd.testing.assert_frame_equal(left, right, check_exact=True, obj=name)


def cartpole(out: Path, **changes: Any) -> Search:
    settings: dict[str, Any] = {"population": 24, "generations": 4, "episodes": 2, "seed": 5}
    settings |= {"heldout_every": 2, "heldout_episodes": 5, "final_episodes": 7, "workers": 0}
    settings |= {"strategy": "cem"}
    return Search("CartPole-v1", out=out, **(settings | changes))


def long_search(out: Path, *, quick: bool = False) -> Search:
    """Sixty generations of 64 ms, or as quick as can be."""
    task = FunctionTask(environments.sphere if quick else environments.slow_sphere, 6)
    return Search(
        task,
        strategy=CEM(extra_std=0.3, extra_decay="constant"),
        population=16,
        generations=1500 if quick else 60,
        heldout_every=7,
        heldout_episodes=3,
        final_episodes=3,
        seed=11,
        workers=0,
        out=out,
    )


class SlowCompiler:
    """Stands for the process that compiles: over once it was asked so many times, and failed."""

    def __init__(self, times: int) -> None:
        self.left = times

    def poll(self) -> int | None:
        self.left -= 1
        return None if self.left >= 0 else 1


class StopAt(Observer):
    """Interrupts a search after a generation."""

    def __init__(self, generation: int) -> None:
        self.at = generation

    def generation(self, row: Any) -> None:
        if row["generation"] == self.at:
            raise KeyboardInterrupt
