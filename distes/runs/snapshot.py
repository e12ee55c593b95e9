"""What a run must remember to go on exactly: the content of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distes.population.records import Population
from distes.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Selected:
    """The top candidates of a generation."""

    candidates: IntArray  # (n,) their numbers, best first
    parameters: FloatArray  # (n, d)
    returns: FloatArray  # (n,) mean returns, less any reward shift, under which they were selected
    frozen: Mapping[str, FloatArray]  # the statistics they ran with


@dataclass(frozen=True, eq=False)
class ScoredSolution:
    """A solution and its held-out score."""

    generation: int  # after which it was the solution
    mean: float  # return on the batch that counts
    solution: Population


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All that a run needs to go on exactly."""

    generation: int  # the next one to run
    start: FloatArray  # (d,) where the search started; what it was read from may change
    strategy: Any  # the strategy's state
    solution: Population  # what would be deployed now
    max_steps: int | None = None  # of the next generation's episodes; None is the task's limit
    episodes: int = 0  # search episodes so far
    env_steps: int = 0  # search steps so far
    elapsed_s: float = 0.0  # seconds so far, of all sessions
    elite: float = -math.inf  # mean return of the last elites, or the greatest fitness
    best: ScoredSolution | None = None  # of the held-out scores so far
    confirmed: ScoredSolution | None = None  # reached the target twice; the lesser mean
    last: Selected | None = None  # of the last generation, for the final re-evaluation
    stopped: str = ""  # the reason to stop, "" while running
    finished: bool = False  # whether the final evaluations are done, too
