"""Which engine runs a task: engines say themselves what they fit, and none is named here."""

from __future__ import annotations

from distes.engines.base import Engine
from distes.engines.wire import Chunk
from distes.errors import UsageError, unknown
from distes.policies.base import Policy
from distes.population.records import Population, RunKey
from distes.registry import AUTO, find, find_own, names
from distes.signals import defer_keyboard_interrupts
from distes.tasks.base import AnyTask


def accept(engine: str, task: AnyTask) -> None:
    """Refuse a name that stands for no engine, or for none of this kind of task.

    Raises:
        UsageError: one sentence with what is accepted.
    """
    accepted = [AUTO, *_engines_for(task)]
    others = ":" in engine or engine in names("engines", Engine)
    if engine in accepted or (others and isinstance(task, find_engine(engine).solves)):
        return
    raise unknown(f"engine for {task.name}", engine, accepted)


def resolve(engine: str, task: AnyTask, policy: Policy, *, timed: bool = False) -> str:
    """Settle, once and on the driver, which engine runs a task.

    Args:
        engine: a name, or ``auto`` for the most preferred engine that fits.
        task: what is to be solved.
        policy: built for the task.
        timed: whether each episode has a time limit: then ``auto`` takes an engine that runs
            one at a time, as the limit would take the others' advantage away.

    Raises:
        UsageError: the engine is unknown, or cannot run this task with this policy.
    """
    accept(engine, task)
    engines = _engines_for(task) if engine == AUTO else {engine: find_engine(engine)}
    reason: str | None = "none is of its kind"
    for name, each in engines.items():
        if engine == AUTO and timed and each.preference:
            continue
        reason = each.unfit(task, policy)
        if reason is None:
            return name
    raise UsageError(f"engine '{engine}' can't run {task.name}: {reason}")


def hint(engine: str, task: AnyTask, policy: Policy, timed: bool) -> str | None:
    """Say why ``auto`` passes by an engine made for the task; None where it does not.

    ``timed`` says whether each episode has a time limit.
    """
    if engine != AUTO:
        return None
    hints = (each.hint(task, policy, timed=timed) for each in _engines_for(task).values())
    return next((said for said in hints if said is not None), None)


def make(engine: str, task: AnyTask, policy: Policy) -> Engine:
    """Make a resolved engine, on the process that will run it."""
    return find_engine(engine)(task, policy)


class Engines:
    """The engine of the search's own task, and of a population's own task where it has one."""

    def __init__(self, engine: str, task: AnyTask, policy: Policy) -> None:
        self._task = task
        self._policy = policy
        self._own = make(engine, task, policy)
        self._other: tuple[AnyTask, Engine] | None = None

    def prepare(self, population: Population | None = None) -> None:
        """Have an environment ready for a population's next episode."""
        self._engine(None if population is None else population.task).prepare()

    def begin(self) -> None:
        """Have the search's own engine ready, or what stands in for it."""
        self._own.begin()

    def waits(self, population: Population) -> bool:
        """Whether a population's engine is slow only until something is ready."""
        return self._engine(population.task).waits

    def first_chunk(self, population: Population) -> int:
        """Say how many episodes of a population surely end within a chunk's time."""
        if self.waits(population):
            return 1
        task = self._task if population.task is None else population.task
        engine = type(self._engine(population.task))
        return engine.first_chunk(population, task, self._policy)

    def run(self, population: Population, key: RunKey, start: int, stop: int) -> Chunk:
        """Run the flat episodes ``start .. stop`` of a population."""
        # So that Ctrl-C can be told from a KeyboardInterrupt of the user's code.
        with defer_keyboard_interrupts():
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
            # Settled here and not on the driver: an engine that every machine has.
            general = min(_engines_for(task).values(), key=lambda each: each.preference)
            self._other = (task, general(task, self._policy))
        return self._other[1]


def find_engine(engine: str) -> type[Engine]:
    """Find an engine by its file's name, or as ``package.module:Class``."""
    return find("engines", engine, Engine)  # type: ignore[type-abstract]


def _engines_for(task: AnyTask) -> dict[str, type[Engine]]:
    """Find our own engines for a kind of task, by name, the most preferred first.

    Those of installed packages are asked for by name: installing one changes no run.
    """
    found: dict[str, type[Engine]] = find_own("engines", Engine)
    fitting = [(name, each) for name, each in found.items() if isinstance(task, each.solves)]
    return dict(sorted(fitting, key=lambda item: -item[1].preference))
