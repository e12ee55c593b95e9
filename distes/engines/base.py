"""What an engine is, what it ships for a chunk, and how chunks become `Episodes`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np

from distes.errors import UsageError
from distes.policies.base import Policy
from distes.population.folding import Node, fold, fold_chunk
from distes.population.probes import report
from distes.population.records import RECORDS, Episodes, Population, RunKey, Status, Trajectory
from distes.tasks.base import AnyTask
from distes.tasks.environment import Task
from distes.types import Array, FloatArray, IntArray

ROW = np.dtype(
    [
        ("episode_return", "f8"),
        ("episode_length", "i4"),
        ("terminated", "?"),
        ("truncated", "?"),
        ("status", "i1"),
        ("started_at", "f8"),
        ("duration_s", "f4"),
    ]
)
"""One episode on the wire: a chunk is one buffer, small enough to travel inline."""


MAX_FAULTS = 8
"""Tracebacks that one chunk ships; further failures are still marked in their rows."""


WireTuple = tuple[Any, ...]
"""Plain numbers, text and bytes: pickled, they take hardly more room than they say."""


def _bare(array: Array | None) -> Any:
    """Strip an array of what costs 150 bytes a piece to pickle; objects stay as they are."""
    if array is None or array.dtype.kind in "OV":
        return array
    return array.dtype.str, array.shape, array.tobytes()


def _array(bare: Any) -> Any:
    if not isinstance(bare, tuple):
        return bare
    kind, shape, data = bare
    return np.frombuffer(data, kind).reshape(shape)


@dataclass(frozen=True, eq=False)
class PackedTrajectories:
    """Traces end to end: a few arrays travel cheaper than many.

    Parameters stay behind: whoever asked can draw them. What was not asked for is None.

    Attributes:
        lengths: (m,) int32 steps of each.
        observations: (Σ T, k).
        actions: (Σ T, ...).
        rewards: (Σ T,).
        last_observations: (m, k).
    """

    lengths: IntArray
    observations: FloatArray
    actions: Array | None = None
    rewards: FloatArray | None = None
    last_observations: FloatArray | None = None

    @classmethod
    def of(
        cls, trajectories: Sequence[Trajectory], records: Collection[str] = RECORDS
    ) -> PackedTrajectories:
        """Put trajectories together; those of failed episodes have no step.

        Args:
            trajectories: at least one.
            records: their parts that are asked for.
        """
        width = trajectories[0].observations.shape[1]
        last = [
            np.zeros(width) if trajectory.last_observation is None else trajectory.last_observation
            for trajectory in trajectories
        ]
        return cls(
            lengths=np.array(
                [len(trajectory.observations) for trajectory in trajectories], dtype=np.int32
            ),
            observations=np.concatenate([trajectory.observations for trajectory in trajectories]),
            actions=_joined([t.actions for t in trajectories]) if "actions" in records else None,
            rewards=_joined([t.rewards for t in trajectories]) if "rewards" in records else None,
            last_observations=np.array(last) if "last_observation" in records else None,
        )

    @classmethod
    def joined(cls, packed: Sequence[PackedTrajectories]) -> PackedTrajectories:
        """Put neighbours together, of which the same was asked."""

        def column(name: str) -> Any:
            each = [getattr(part, name) for part in packed]
            return None if each[0] is None else _joined(each)

        return cls(*(column(each.name) for each in fields(cls)))

    def unpacked(self, parameters: FloatArray) -> list[Trajectory]:
        """Take trajectories apart again, with their parameters (m, d)."""
        ends = np.cumsum(self.lengths, dtype=np.int64).tolist()
        nothing = np.empty(0)
        found = []
        for i, (end, length) in enumerate(zip(ends, self.lengths.tolist(), strict=True)):
            steps = slice(end - length, end)
            found.append(
                Trajectory(
                    parameters[i],
                    self.observations[steps],
                    nothing if self.actions is None else self.actions[steps],
                    nothing if self.rewards is None else self.rewards[steps],
                    None if self.last_observations is None else self.last_observations[i],
                )
            )
        return found

    def bare(self) -> WireTuple:
        """What travels, without what Python and NumPy say about it."""
        _, *columns = (getattr(self, each.name) for each in fields(self))
        return self.lengths.tolist(), *map(_bare, columns)

    @classmethod
    def of_bare(cls, bare: WireTuple) -> PackedTrajectories:
        """Make of it what it was; arrays are read-only."""
        lengths, *columns = bare
        return cls(np.array(lengths, dtype=np.int32), *map(_array, columns))


def _joined(arrays: Sequence[Array]) -> Array:
    """Concatenate; what is empty has perhaps another shape."""
    whole = [array for array in arrays if len(array)]
    return np.concatenate(whole) if whole else arrays[0]


@dataclass(frozen=True, eq=False)
class Chunk:
    """The answer for the flat episodes ``start .. stop``.

    Attributes:
        start: first flat episode number.
        stop: one past the last.
        rows: (stop - start,) of dtype `ROW`.
        nodes: the probes' sums, folded as far as the chunk reaches.
        contexts: (stop - start, k) or None.
        info: chosen keys of the final info, (stop - start,) each; NaN where absent.
        faults: (flat episode number, traceback) of failed episodes, the first few.
        trajectories: what was recorded, if it was asked for.
    """

    start: int
    stop: int
    rows: Array
    nodes: list[Node] = field(default_factory=list)
    contexts: FloatArray | None = None
    info: Mapping[str, FloatArray] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)
    trajectories: PackedTrajectories | None = None

    def bare(self) -> WireTuple:
        """What travels, without what Python and NumPy say about it.

        Most chunks are a few short rows: pickled as they are, names of classes and of
        columns would be most of it.
        """
        rest: list[Any] = [
            [
                (level, index, {name: _bare(each) for name, each in sums.items()})
                for level, index, sums in self.nodes
            ],
            _bare(self.contexts),
            {name: _bare(column) for name, column in self.info.items()},
            self.faults,
            None if self.trajectories is None else self.trajectories.bare(),
        ]
        while rest and not rest[-1]:
            rest.pop()
        return self.start, self.rows.tobytes(), *rest

    @classmethod
    def of_bare(cls, bare: WireTuple) -> Chunk:
        """Make of it what it was; arrays are read-only."""
        start, rows, *rest = bare
        nodes, contexts, info, faults, trajectories = rest + [None] * (5 - len(rest))
        return cls(
            start=start,
            stop=start + len(rows) // ROW.itemsize,
            rows=np.frombuffer(rows, ROW),
            nodes=[
                (level, index, {name: _array(each) for name, each in sums.items()})
                for level, index, sums in nodes or ()
            ],
            contexts=_array(contexts),
            info={name: _array(column) for name, column in (info or {}).items()},
            faults=faults or [],
            trajectories=None if trajectories is None else PackedTrajectories.of_bare(trajectories),
        )


class Engine(Protocol):
    """Runs episodes.

    An episode's result depends on its parameters, its seed and the population's frozen
    statistics, and on nothing else.
    """

    def prepare(self) -> None:
        """Have an environment ready, where the next episode needs one; never raises."""

    def run(self, population: Population, key: RunKey, start: int, stop: int) -> Chunk:
        """Run the flat episodes ``start .. stop``."""

    def close(self) -> None:
        """Release environments."""


def drawn_contexts(
    population: Population, task: AnyTask, candidate: IntArray, seeds: IntArray
) -> tuple[FloatArray | None, Mapping[int, Exception]]:
    """Contexts that are known before the reset, (m, k): imposed, or drawn from the seeds.

    Args:
        population: what is evaluated.
        task: what it is evaluated on.
        candidate: (m,).
        seeds: (m,).

    Returns:
        The contexts, None where there are none or only the reset shows them; and by row the
        faults of a sampler, for episodes that fail with it and whose context is NaN.

    Raises:
        UsageError: contexts have another length than the task's.
    """
    if population.contexts is None:
        return (
            task.contexts.try_sampling(seeds, task.num_contexts)
            if task.contexts.sampled
            else (None, {})
        )
    imposed: FloatArray = population.contexts[candidate]
    if task.context is not None and imposed.shape[1] != task.num_contexts:
        raise UsageError(
            f"a context has {imposed.shape[1]} components, those of {task.name} have "
            f"{task.num_contexts}"
        )
    return imposed, {}


def empty_trajectory(policy: Policy) -> Trajectory:
    """No step at all: what is left of an episode that failed."""
    width = policy.observation_size
    return Trajectory(
        np.zeros(policy.num_parameters), np.empty((0, width)), np.empty(0), np.empty(0)
    )


def joined(chunks: Sequence[Chunk]) -> Chunk:
    """Make one chunk of neighbours with one episode each.

    Args:
        chunks: at least one, in order.
    """
    first, last = chunks[0], chunks[-1]
    contexts = [chunk.contexts for chunk in chunks if chunk.contexts is not None]
    sums = [chunk.nodes[0][2] for chunk in chunks if chunk.nodes]
    trajectories = [chunk.trajectories for chunk in chunks if chunk.trajectories is not None]
    return Chunk(
        start=first.start,
        stop=last.stop,
        rows=all_rows(chunks),
        nodes=fold_chunk(first.start, sums),
        contexts=np.concatenate(contexts) if contexts else None,
        info={name: np.concatenate([chunk.info[name] for chunk in chunks]) for name in first.info},
        faults=[fault for chunk in chunks for fault in chunk.faults][:MAX_FAULTS],
        trajectories=PackedTrajectories.joined(trajectories) if trajectories else None,
    )


def trajectories_of(population: Population, chunks: Sequence[Chunk]) -> list[Trajectory]:
    """Collect the trajectories of chunks that cover a population, in order."""
    found: list[Trajectory] = []
    for chunk in sorted(chunks, key=lambda chunk: chunk.start):
        if chunk.trajectories is not None:
            candidate, _ = population.locate(chunk.start, chunk.stop)
            contexts = chunk.contexts if population.distribution.uses_context else None
            found += chunk.trajectories.unpacked(population.distribution.draw(candidate, contexts))
    return found


def all_rows(chunks: Sequence[Chunk]) -> Array:
    """Put the rows of chunks together; `np.concatenate` takes 7 µs for each of this type."""
    rows = np.empty(sum(len(chunk.rows) for chunk in chunks), ROW)
    at = 0
    for chunk in chunks:
        rows[at : at + len(chunk.rows)] = chunk.rows
        at += len(chunk.rows)
    return rows


def lost_episode(
    population: Population, policy: Policy, task: AnyTask, flat: int, status: Status
) -> Chunk:
    """Make the row of an episode that no worker could finish.

    Args:
        population: what is evaluated.
        policy: built for the task.
        task: the evaluator's; a population's own goes before it.
        flat: number of the episode.
        status: why.
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
        trajectories=PackedTrajectories.of([nothing], population.records)
        if population.records
        else None,
    )


def assemble(
    population: Population, key: RunKey, task: AnyTask, chunks: Sequence[Chunk]
) -> Episodes:
    """Put a population's chunks together and score its candidates.

    Args:
        population: what was evaluated.
        key: its key, from which seeds follow.
        task: whose fitness rule applies.
        chunks: covering all episodes once, in any order.
    """
    chunks = sorted(chunks, key=lambda chunk: chunk.start)
    rows = all_rows(chunks)
    total = population.num_episodes
    candidate, episode = population.locate(0, total)
    contexts = [chunk.contexts for chunk in chunks if chunk.contexts is not None]
    ok = rows["status"] == Status.OK
    episode_return = np.where(ok, rows["episode_return"], np.nan)
    lengths = rows["episode_length"].astype(np.int64)
    return Episodes(
        candidate=candidate,
        episode=episode,
        seed=population.seeds(key, 0, total),
        episode_return=episode_return,
        episode_length=lengths,
        terminated=rows["terminated"].copy(),
        truncated=rows["truncated"].copy(),
        status=rows["status"].copy(),
        fitness=task.compute_fitness(episode_return, lengths, population.counts()),
        contexts=np.concatenate(contexts) if contexts else None,
        sums=fold([node for chunk in chunks for node in chunk.nodes], total),
        info={
            name: np.concatenate([chunk.info[name] for chunk in chunks])
            for name in (chunks[0].info if chunks else ())
        },
    )
