"""What a search gives in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distes.errors import UsageError
from distes.population.records import Population
from distes.population.statistics import Score
from distes.runs.reader import Run, load
from distes.runs.storage.location import Location
from distes.search.limits import find_stop_reason
from distes.search.settings import Settings
from distes.search.solution import bind_policy, draw_parameters_at
from distes.types import FloatArray


@dataclass(frozen=True, eq=False)
class Reevaluation:
    """The last generation's top candidates, tried again on fresh seeds.

    Attributes:
        search_score: mean return of the candidates when they were selected.
        fresh_score: mean return of the same candidates on fresh seeds.
        gap: the difference: what selection flattered (the winner's curse).
    """

    search_score: float
    fresh_score: float

    @property
    def gap(self) -> float:
        """Score during search less the score on fresh seeds."""
        return self.search_score - self.fresh_score


@dataclass(frozen=True, eq=False)
class Result:
    """A finished search.

    Attributes:
        solution: one candidate, statistics included.
        score: over unseen episodes.
        stopped: why the search stopped.
        path: the run directory.
        search: the settings.
        deployed: which solution this is, and why.
        reevaluation: None where a strategy has no candidates to tell apart.
    """

    solution: Population
    score: Score
    stopped: str
    path: Location
    search: Settings
    deployed: str
    reevaluation: Reevaluation | None = None

    def __repr__(self) -> str:
        """Say what came out, without the parameters, which may be thousands."""
        return (
            f"Result({self.score!r}, stopped={self.stopped!r}, deployed={self.deployed!r}, "
            f"path={str(self.path)!r})"
        )

    @property
    def _expected(self) -> tuple[int, str]:
        return self.search.resolved_task.num_contexts, self.search.resolved_task.name

    @property
    def parameters(self) -> FloatArray:
        """The solution's parameters, (d,).

        Raises:
            UsageError: they depend on the context.
        """
        if self.solution.distribution.uses_context:
            raise UsageError(
                "the parameters of a contextual run depend on the context: use "
                "parameters_for(context)"
            )
        return draw_parameters_at(self.solution, self._expected, None)

    def parameters_for(self, context: Any) -> FloatArray:
        """The solution's parameters for a context, (k,) -> (d,) or (m, k) -> (m, d).

        Raises:
            UsageError: the task has no contexts, or this is none of them.
        """
        return draw_parameters_at(self.solution, self._expected, context)

    @property
    def run(self) -> Run:
        """The run's log as data frames."""
        return load(self.path)

    def policy(self, context: Any = None, *, seed: int | None = None) -> Callable[[Any], Any]:
        """Make the solution callable: environment observation -> action.

        For a stateful policy, make one per episode. A stochastic policy takes its likeliest
        action, or samples as in the run's scores.

        Args:
            context: (k,) of the episode, for a contextual run.
            seed: of the episode, from which a stochastic policy samples.

        Raises:
            UsageError: there is a context too many or too few, or it does not fit.
        """
        parameters = draw_parameters_at(self.solution, self._expected, context)
        return bind_policy(self.search.built_policy(), self.solution, parameters, seed)


def read_result(search: Settings, run: Run) -> Result | None:
    """Read a run's result from its log; None while it is unfinished by these settings.

    Args:
        search: the settings the run has.
        run: where it is.

    Raises:
        UsageError: the run is damaged.
    """
    snapshot = run.snapshot()
    if snapshot is None or not snapshot.finished or not find_stop_reason(search, snapshot):
        return None
    run.warn_of_missing()
    finished = [event for event in run.events if event["kind"] == "finished"]
    try:
        event = finished[-1]
        # JSON has no NaN: it is text there.
        figures: dict[str, Any] = {
            name: float(value) if isinstance(value, str) else value
            for name, value in event["score"].items()
        }
        score = Score(**figures)
        scores = event["search_score"], event["fresh_score"]
        reevaluation = None if None in scores else Reevaluation(*map(float, scores))
        deployed = str(event["deployed"])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise UsageError(
            f"{run.path} is finished, and the event that says with what score is lost: distes "
            "evaluate scores its solution anew"
        ) from None
    return Result(
        solution=snapshot.solution,
        score=score,
        stopped=snapshot.stopped,
        path=run.path,
        search=search,
        deployed=deployed,
        reevaluation=reevaluation,
    )
