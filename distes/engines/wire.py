"""What an engine ships for a chunk of episodes, and how chunks become `Episodes`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from distes.population.folding import Node, fold, fold_chunk
from distes.population.records import RECORDS, Episodes, Population, RunKey, Status, Trajectory
from distes.tasks.base import AnyTask
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


def _array_to_wire(array: Array | None) -> Any:
    """Strip an array of what costs 150 bytes a piece to pickle; objects stay as they are."""
    if array is None or array.dtype.kind in "OV":
        return array
    return array.dtype.str, array.shape, array.tobytes()


def _array_from_wire(sent: Any) -> Any:
    if not isinstance(sent, tuple):
        return sent
    kind, shape, data = sent
    return np.frombuffer(data, kind).reshape(shape)


@dataclass(frozen=True, eq=False)
class PackedTrajectories:
    """Trajectories end to end: a few arrays travel cheaper than many.

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
    def pack(
        cls, trajectories: Sequence[Trajectory], records: Collection[str] = RECORDS
    ) -> PackedTrajectories | None:
        """Put trajectories together, at least one; those of failed episodes have no step.

        Parts that are not among ``records`` stay behind; None is the answer if there are none.
        """
        if not records:
            return None
        none = np.zeros(trajectories[0].observations.shape[1])
        last = [none if t.last_observation is None else t.last_observation for t in trajectories]
        return cls(
            lengths=np.array([len(t.observations) for t in trajectories], dtype=np.int32),
            observations=np.concatenate([t.observations for t in trajectories]),
            actions=_join([t.actions for t in trajectories]) if "actions" in records else None,
            rewards=_join([t.rewards for t in trajectories]) if "rewards" in records else None,
            last_observations=np.array(last) if "last_observation" in records else None,
        )

    @classmethod
    def join(cls, packed: Sequence[PackedTrajectories]) -> PackedTrajectories:
        """Put neighbours together, of which the same was asked."""

        def column(name: str) -> Any:
            each = [getattr(part, name) for part in packed]
            return None if each[0] is None else _join(each)

        return cls(*(column(each.name) for each in fields(cls)))

    def unpack(self, parameters: FloatArray) -> list[Trajectory]:
        """Take trajectories apart again, with their parameters (m, d)."""
        ends = np.cumsum(self.lengths, dtype=np.int64).tolist()
        nothing = np.empty(0)
        found = []
        for i, (end, length) in enumerate(zip(ends, self.lengths.tolist(), strict=True)):
            steps = slice(end - length, end)
            actions = nothing if self.actions is None else self.actions[steps]
            rewards = nothing if self.rewards is None else self.rewards[steps]
            last = None if self.last_observations is None else self.last_observations[i]
            seen = self.observations[steps]
            found.append(Trajectory(parameters[i], seen, actions, rewards, last))
        return found

    def to_wire(self) -> WireTuple:
        """Write it as plain numbers and bytes; `from_wire` reads them."""
        _, *columns = (getattr(self, each.name) for each in fields(self))
        return self.lengths.tolist(), *map(_array_to_wire, columns)

    @classmethod
    def from_wire(cls, sent: WireTuple) -> PackedTrajectories:
        """Read what `to_wire` wrote; arrays are read-only."""
        lengths, *columns = sent
        return cls(np.array(lengths, dtype=np.int32), *map(_array_from_wire, columns))


def _join(arrays: Sequence[Array]) -> Array:
    """Concatenate arrays; those that are empty may have another shape, and are left out."""
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
        warnings: of the simulator, each kind once.
    """

    start: int
    stop: int
    rows: Array
    nodes: list[Node] = field(default_factory=list)
    contexts: FloatArray | None = None
    info: Mapping[str, FloatArray] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)
    trajectories: PackedTrajectories | None = None
    warnings: tuple[str, ...] = ()

    def to_wire(self) -> WireTuple:
        """Write it as plain numbers and bytes; `from_wire` reads them.

        Most chunks are a few short rows: pickled as they are, names of classes and of
        columns would be most of it.
        """
        rest: list[Any] = [
            [
                (level, index, {name: _array_to_wire(each) for name, each in sums.items()})
                for level, index, sums in self.nodes
            ],
            _array_to_wire(self.contexts),
            {name: _array_to_wire(column) for name, column in self.info.items()},
            self.faults,
            None if self.trajectories is None else self.trajectories.to_wire(),
            self.warnings,
        ]
        while rest and not rest[-1]:  # what is empty at the end need not be sent
            rest.pop()
        return self.start, self.rows.tobytes(), *rest

    @classmethod
    def from_wire(cls, sent: WireTuple) -> Chunk:
        """Read what `to_wire` wrote; arrays are read-only."""
        start, rows, *rest = sent
        nodes, contexts, info, faults, trajectories, warnings = rest + [None] * (6 - len(rest))
        return cls(
            start=start,
            stop=start + len(rows) // ROW.itemsize,
            rows=np.frombuffer(rows, ROW),
            nodes=[
                (level, index, {name: _array_from_wire(each) for name, each in sums.items()})
                for level, index, sums in nodes or ()
            ],
            contexts=_array_from_wire(contexts),
            info={name: _array_from_wire(column) for name, column in (info or {}).items()},
            faults=faults or [],
            trajectories=trajectories and PackedTrajectories.from_wire(trajectories),
            warnings=warnings or (),
        )


def join_chunks(chunks: Sequence[Chunk]) -> Chunk:
    """Make one chunk of neighbours with one episode each, in order; there is at least one."""
    first, last = chunks[0], chunks[-1]
    contexts = [chunk.contexts for chunk in chunks if chunk.contexts is not None]
    sums = [chunk.nodes[0][2] for chunk in chunks if chunk.nodes]
    trajectories = [chunk.trajectories for chunk in chunks if chunk.trajectories is not None]
    return Chunk(
        start=first.start,
        stop=last.stop,
        rows=join_rows(chunks),
        nodes=fold_chunk(first.start, sums),
        contexts=np.concatenate(contexts) if contexts else None,
        info={name: np.concatenate([chunk.info[name] for chunk in chunks]) for name in first.info},
        faults=[fault for chunk in chunks for fault in chunk.faults][:MAX_FAULTS],
        trajectories=PackedTrajectories.join(trajectories) if trajectories else None,
        warnings=tuple(each for chunk in chunks for each in chunk.warnings),
    )


def collect_trajectories(population: Population, chunks: Sequence[Chunk]) -> list[Trajectory]:
    """Collect the trajectories of chunks that cover a population, in order."""
    found: list[Trajectory] = []
    for chunk in sorted(chunks, key=lambda chunk: chunk.start):
        if chunk.trajectories is not None:
            candidate, _ = population.locate(chunk.start, chunk.stop)
            contexts = chunk.contexts if population.distribution.uses_context else None
            found += chunk.trajectories.unpack(population.distribution.draw(candidate, contexts))
    return found


def join_rows(chunks: Sequence[Chunk]) -> Array:
    """Put the rows of chunks together; `np.concatenate` takes 7 µs for each of this type."""
    rows = np.empty(sum(len(chunk.rows) for chunk in chunks), ROW)
    at = 0
    for chunk in chunks:
        rows[at : at + len(chunk.rows)] = chunk.rows
        at += len(chunk.rows)
    return rows


def assemble(
    population: Population, key: RunKey, task: AnyTask, chunks: Sequence[Chunk]
) -> Episodes:
    """Put a population's chunks together and score its candidates by the task's fitness rule.

    Chunks cover all episodes once, in any order; seeds follow from the population's key.
    """
    chunks = sorted(chunks, key=lambda chunk: chunk.start)
    rows = join_rows(chunks)
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
