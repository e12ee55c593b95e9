"""Evaluation that begins in this process, and goes on with workers once they are worth it.

An episode is the same wherever it runs. So what takes too long here is given up and run whole
elsewhere, and no result depends on when that happens.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from distes.evaluators.base import Evaluator, Event, Pending
from distes.evaluators.serial import SerialEvaluator, SerialPending
from distes.population.records import Evaluated, Population, Purpose, RunKey
from distes.signals import shielded

# Seconds of a generation that are worth workers: Ray needs some hundredths for each, and below
# this several cores would hardly be noticed.
SEARCH_S = 0.25
# Seconds that such generations may take here in all: about what starting workers takes. A run
# that ends before is spared that, and no run waits for more than twice as long.
PATIENCE_S = 5.0
# Seconds of a score, of which a run has few: less than starting workers just for it would take.
SCORE_S = 10.0
SCORES = {Purpose.HELDOUT, Purpose.TEST, Purpose.REEVALUATION}


def is_ray_connected() -> bool:
    """Whether this process is connected to a Ray; tells without importing it."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


class AutoEvaluator:
    """Runs here what is small; hires workers at the first evaluation that is not.

    Args:
        here: runs what is small.
        hire: makes the evaluator that has workers, told why.
    """

    def __init__(self, here: SerialEvaluator, hire: Callable[[str], Evaluator]) -> None:
        self._here = here
        self._hire = hire
        self._hired: Evaluator | None = None
        self._waiting: list[AutoPending] = []
        self._patience_s = PATIENCE_S

    @property
    def num_nodes(self) -> int:
        """Machines that take part, the driver's included."""
        return (self._hired or self._here).num_nodes

    def events(self) -> list[Event]:
        """Take what happened since the last answer."""
        return (self._hired or self._here).events()

    def submit(self, population: Population, key: RunKey) -> Pending:
        """Start an evaluation; before there are workers, it runs when asked for."""
        if self._hired is not None:
            return self._hired.submit(population, key)
        self._waiting.append(AutoPending(self, self._here.submit(population, key)))
        return self._waiting[-1]

    def close(self) -> None:
        """End the workers, if there are any, and close the environments."""
        self._waiting.clear()
        try:
            if self._hired is not None:
                self._hired.close()
        finally:
            self._here.close()

    def _answer(self, pending: AutoPending) -> Evaluated:
        if pending.place is pending.here:
            is_score = pending.here.population.purpose in SCORES
            limit_s = SCORE_S if is_score else max(SEARCH_S, self._patience_s)
            began = time.perf_counter()
            answer = pending.here.run_within(limit_s)
            if answer is not None:
                self._waiting.remove(pending)
                took_s = time.perf_counter() - began
                if not is_score and took_s > SEARCH_S:
                    self._patience_s -= took_s
                return answer
            generation = pending.here.key.generation
            self._move(
                f"a score takes longer than {SCORE_S:g} s"
                if is_score
                else f"at generation {generation}, generations of more than {SEARCH_S:g} s have "
                f"taken {PATIENCE_S:g} s"
            )
        return pending.place.result()

    @shielded  # a Ray that is half started would be left behind
    def _move(self, reason: str) -> None:
        """Hire workers and hand them all that waits, in its order."""
        self._hired = self._hire(reason)
        for each in self._waiting:
            each.place = self._hired.submit(each.here.population, each.here.key)
        self._waiting.clear()


@dataclass(eq=False)
class AutoPending:
    """An evaluation that runs here when it is asked for, unless workers have it by then."""

    evaluator: AutoEvaluator
    here: SerialPending

    def __post_init__(self) -> None:
        """Begin here."""
        self.place: Pending = self.here

    @property
    def share(self) -> float:
        """Share of its episodes that are answered; any thread may ask."""
        return self.place.share

    def result(self) -> Evaluated:
        """Wait for the whole answer.

        Raises:
            UsageError: there is no room for a worker.
            RunFailed: workers cannot be started.
            Exception: what the user's code raised outside an episode.
        """
        return self.evaluator._answer(self)
