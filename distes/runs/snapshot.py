"""What a run must remember to go on exactly: the content of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distes.population.records import Population
from distes.types import FloatArray


@dataclass(frozen=True, eq=False)
class Selected:
    """The top candidates of a generation.

    Attributes:
        parameters: (n, d), best first.
        returns: (n,) mean returns, less any reward shift, under which they were selected.
        frozen: the statistics they ran with.
    """

    parameters: FloatArray
    returns: FloatArray
    frozen: Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All that a run needs to go on exactly.

    Attributes:
        generation: the next one to run.
        start: (d,) where the search started; what it was read from may change.
        strategy: the strategy's state.
        solution: what would be deployed now.
        episodes: search episodes so far.
        env_steps: search steps so far.
        elapsed_s: seconds so far, of all sessions.
        due: a solution whose held-out score is still to be taken, None if there is none.
        confirmed: a solution that reached the target twice.
        last: the last search population and its fitness, for the final re-evaluation.
        stopped: the reason to stop, "" while running.
        finished: whether the final evaluations are done, too.
    """

    generation: int
    start: FloatArray
    strategy: Any
    solution: Population
    episodes: int = 0
    env_steps: int = 0
    elapsed_s: float = 0.0
    due: Population | None = None
    confirmed: Population | None = None
    last: Selected | None = None
    stopped: str = ""
    finished: bool = False
