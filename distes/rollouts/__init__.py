"""Engines: each runs whole episodes, and all agree on what an episode is."""

from __future__ import annotations

import importlib
import pkgutil

from distes.errors import unknown
from distes.policies.base import Policy
from distes.population import Population, RunKey, Trace
from distes.rollouts.base import Chunk, Engine, assemble
from distes.task import AnyTask, FunctionTask
from distes.types import IntArray

__all__ = ["Chunk", "Engine", "Engines", "assemble", "make", "names", "resolve"]


def names() -> list[str]:
    """List the engines' names, one per file."""
    return [m.name for m in pkgutil.iter_modules(__path__) if m.name != "base"]


def resolve(engine: str, task: AnyTask) -> str:
    """Settle, once and on the driver, which engine runs a task.

    Raises:
        UsageError: the engine is unknown, or cannot run this kind of task.
    """
    natural = "function" if isinstance(task, FunctionTask) else "loop"
    if engine in ("auto", natural):
        return natural
    raise unknown(f"engine for {task.name}", engine, ["auto", natural])


def make(engine: str, task: AnyTask, policy: Policy) -> Engine:
    """Make a resolved engine, on the process that will run it."""
    module = importlib.import_module(f"distes.rollouts.{engine}")
    made: Engine = module.make(task, policy)
    return made


class Engines:
    """The engine of the search's own task, and of a population's own task where it has one."""

    def __init__(self, engine: str, task: AnyTask, policy: Policy) -> None:
        self._policy = policy
        self._own = make(engine, task, policy)
        self._other: tuple[AnyTask, Engine] | None = None

    def prepare(self, population: Population | None = None) -> None:
        """Have an environment ready for a population's next episode."""
        self._engine(None if population is None else population.task).prepare()

    def run(self, population: Population, key: RunKey, start: int, stop: int) -> Chunk:
        """Run the flat episodes ``start .. stop`` of a population."""
        return self._engine(population.task).run(population, key, start, stop)

    def record(self, population: Population, candidates: IntArray, seeds: IntArray) -> list[Trace]:
        """Run episodes of a population again, and give all that was seen and done."""
        return self._engine(population.task).record(population, candidates, seeds)

    def close(self) -> None:
        """Release all environments."""
        self._own.close()
        if self._other is not None:
            self._other[1].close()

    def _engine(self, task: AnyTask | None) -> Engine:
        if task is None:
            return self._own
        if self._other is None or self._other[0] is not task:
            if self._other is not None:
                self._other[1].close()
            self._other = (task, make(resolve("auto", task), task, self._policy))
        return self._other[1]
