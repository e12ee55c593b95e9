"""Engines: each runs whole episodes, and all agree on what an episode is."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from distes.engines.base import Chunk, Engine, assemble
from distes.engines.kernels import lookup
from distes.errors import UsageError, unknown
from distes.policies.base import Policy
from distes.population.records import Population, RunKey
from distes.tasks.base import AnyTask
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask

__all__ = ["Chunk", "Engine", "Engines", "accept", "assemble", "hint", "make", "names", "resolve"]

_OF_TASKS = ("loop", "compiled")


def names() -> list[str]:
    """List the engines' names, one per file."""
    files = pkgutil.iter_modules([str(Path(__file__).parent)])
    return [m.name for m in files if not m.ispkg and m.name not in ("base", "choice")]


def accept(engine: str, task: AnyTask) -> None:
    """Refuse a name that stands for no engine, or for none of this kind of task.

    Raises:
        UsageError: one sentence with what is accepted.
    """
    accepted = ["auto", "function"] if isinstance(task, FunctionTask) else ["auto", *_OF_TASKS]
    if engine not in accepted:
        raise unknown(f"engine for {task.name}", engine, accepted)


def resolve(engine: str, task: AnyTask, policy: Policy) -> str:
    """Settle, once and on the driver, which engine runs a task.

    ``auto`` is the compiled engine where environment and policy have kernels and numba is
    installed.

    Raises:
        UsageError: the engine is unknown, or cannot run this task with this policy.
    """
    accept(engine, task)
    if not isinstance(task, Task):
        return "function"
    if engine == "auto":
        return "loop" if lookup.unfit(task, policy) else "compiled"
    if engine == "compiled":
        reason = lookup.unfit(task, policy)
        if reason is not None:
            raise UsageError(f"engine 'compiled' can't run {task.name}: {reason}")
    return engine


def hint(engine: str, task: AnyTask, policy: Policy, timed: bool) -> str | None:
    """Why ``auto`` leaves an environment's kernel aside, in a sentence; None where it does not.

    Args:
        engine: that is asked for.
        task: what is to be solved.
        policy: built for it.
        timed: whether each episode has a time limit.
    """
    if engine != "auto" or not isinstance(task, Task) or not lookup.covers(task):
        return None
    reason = lookup.misfit(task, policy)
    if reason is None and timed:
        reason = "episode_timeout_s watches each episode alone"
    if reason is not None:
        return f"{task.name} has a kernel, yet runs step by step: {reason}"
    if lookup.installed():
        return None
    return f"{task.name} can run as machine code, far faster: {lookup.INSTALL}"


def make(engine: str, task: AnyTask, policy: Policy) -> Engine:
    """Make a resolved engine, on the process that will run it."""
    module = importlib.import_module(f"distes.engines.{engine}")
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
            natural = "function" if isinstance(task, FunctionTask) else "loop"
            self._other = (task, make(natural, task, self._policy))
        return self._other[1]
