"""What an engine is, and what every engine needs."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np

from distes.engines.wire import ROW, Chunk, PackedTrajectories
from distes.errors import EpisodeError, UsageError
from distes.policies.base import Policy
from distes.population.folding import fold_chunk
from distes.population.probes import report
from distes.population.records import Population, RunKey, Status, Trajectory
from distes.tasks.base import AnyTask
from distes.tasks.environment import Task
from distes.types import FloatArray, IntArray


class Engine(ABC):
    """Runs whole episodes of one task with one policy.

    An episode's result depends on its parameters, its seed and the population's frozen
    statistics, and on nothing else. A file of this folder that defines a subclass is an
    engine, by the file's name; `distes.engines.choice` takes what fits a task.

    Args:
        task: what is to be solved, of the kind that it `solves`.
        policy: built for the task.

    Attributes:
        solves: the kind of task that it runs.
        preference: ``auto`` takes the engine of the highest that fits. 0 is for an engine that
            runs every task of its kind, with equal bits on every machine, one episode at a
            time: populations with a task of their own and episodes with a time limit have it.
    """

    solves: ClassVar[type[AnyTask]] = Task
    preference: ClassVar[int] = 1

    def __init__(self, task: Any, policy: Policy) -> None:
        self._task = task
        self._policy = policy

    @classmethod
    def unfit(cls, task: Any, policy: Policy) -> str | None:  # noqa: ARG003 - it runs all
        """Say why it cannot run a task with a policy, as the end of a sentence; None if it can."""
        return None

    @classmethod
    def hint(cls, task: Any, policy: Policy, *, timed: bool) -> str | None:  # noqa: ARG003
        """Say why ``auto`` passes it by though the task is made for it; None where it does not.

        ``timed`` says whether each episode has a time limit.
        """
        return None

    @classmethod
    def first_chunk(cls, population: Population, task: Any, policy: Policy) -> int:  # noqa: ARG003
        """Say how many episodes of a population on the task surely end within a chunk's time.

        Their durations are not known yet.
        """
        return 1

    def prepare(self) -> None:  # noqa: B027 - most have nothing to make
        """Have ready what the next episode needs."""

    def begin(self) -> None:
        """Have ready what the next episode needs, or what runs it until that is ready."""
        self.prepare()

    @property
    def waits(self) -> bool:
        """Whether it is slow only because something else runs its episodes meanwhile."""
        return False

    @abstractmethod
    def run(self, population: Population, key: RunKey, start: int, stop: int) -> Chunk:
        """Run the flat episodes ``start .. stop``."""

    def close(self) -> None:  # noqa: B027 - most have nothing to release
        """Release environments."""


def draw_contexts(
    population: Population, task: AnyTask, candidate: IntArray, seeds: IntArray
) -> tuple[FloatArray | None, Mapping[int, BaseException]]:
    """Give the contexts that are known before the reset: imposed, or drawn from the seeds (m,).

    Returns:
        The contexts (m, k), None where there are none or only the reset shows them; and by row
        the faults of a sampler, for episodes that fail with it and whose context is NaN.

    Raises:
        UsageError: contexts have another length than the task's.
    """
    if population.contexts is None and task.contexts.sampled:
        return task.contexts.try_sampling(seeds, task.num_contexts)
    if population.contexts is None:
        return None, {}
    imposed: FloatArray = population.contexts[candidate]
    if task.context is not None and imposed.shape[1] != task.num_contexts:
        raise UsageError(
            f"a context has {imposed.shape[1]} components, those of {task.name} have "
            f"{task.num_contexts}"
        )
    return imposed, {}


def read_number(what: str, value: Any) -> float:
    """Read a reward or a value that the user's code gave, of whatever type of numbers.

    Raises:
        EpisodeError: it is no number.
    """
    if not isinstance(value, str | bytes):
        with suppress(TypeError, ValueError, OverflowError):
            return float(value)
    raise EpisodeError(f"{what} is {abridge(value)}, which is not a number")


def abridge(value: Any) -> str:
    """Show a value on one line, its beginning if it is long."""
    return " ".join(repr(value).split())[:60]


def not_finite(seen: FloatArray, step: int) -> EpisodeError:
    """Say which component of an observation (k,) is not finite; step 0 is the reset's."""
    place = int(np.argmin(np.isfinite(seen)))
    when = f"after step {step}" if step else "of the reset"
    return EpisodeError(
        f"the observation {when} has {float(seen[place])} in component {place}, and observations "
        "must be finite"
    )


def write_fault(error: BaseException) -> str:
    """Write a fault for the log: with its traceback, unless its sentence says all."""
    if isinstance(error, EpisodeError):
        return "".join(traceback.format_exception_only(error))
    return "".join(traceback.format_exception(error))


def empty_trajectory(policy: Policy) -> Trajectory:
    """Make the trajectory of an episode that failed: it has no step."""
    width = policy.observation_size
    return Trajectory(
        np.zeros(policy.num_parameters), np.empty((0, width)), np.empty(0), np.empty(0)
    )


def make_lost_chunk(
    population: Population, policy: Policy, task: AnyTask, flat: int, status: Status
) -> Chunk:
    """Make the answer for a flat episode that no worker could finish, for which ``status`` is why.

    The task is the evaluator's; a population's own goes before it.
    """
    own = task if population.task is None else population.task
    rows = np.zeros(1, ROW)
    rows["episode_return"] = np.nan
    rows["started_at"] = np.nan
    rows["status"] = status
    contexts = None
    if population.contexts is not None:
        contexts = population.contexts[population.locate(flat, flat + 1)[0]]
    elif own.num_contexts:
        contexts = np.full((1, own.num_contexts), np.nan)
    nothing = empty_trajectory(policy)
    probes = population.probes if isinstance(own, Task) else ()
    sums = report(probes, nothing, policy, population.frozen)
    return Chunk(
        start=flat,
        stop=flat + 1,
        rows=rows,
        nodes=fold_chunk(flat, [sums]) if sums else [],
        contexts=contexts,
        info={name: np.full(1, np.nan) for name in (own.log_info if isinstance(own, Task) else ())},
        trajectories=PackedTrajectories.pack([nothing], population.records),
    )
