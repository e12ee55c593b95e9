"""What one commit adds to a run, made while the commit is still to come.

Making Parquet of many episodes takes longer than writing it: the log's thread does it as
soon as there are enough of them for a row group, and not when somebody waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distes.population.records import Population, RunKey
from distes.runs import codec, schema

LARGE_POPULATION = 1_000_000  # bytes: larger populations are kept of some generations only
LARGE_POPULATION_EVERY = 10  # generations

Row = Mapping[str, float | int | str]


@dataclass
class Batch:
    """What was queued since some moment."""

    rows: list[Row] = field(default_factory=list)  # figures of generations
    generations: list[schema.Record] = field(default_factory=list)  # their own populations
    evaluations: list[schema.Record] = field(default_factory=list)  # further ones
    num_episodes: int = 0

    def extend(self, other: Batch) -> None:
        """Add what was queued later."""
        self.rows += other.rows
        self.generations += other.generations
        self.evaluations += other.evaluations
        self.num_episodes += other.num_episodes


class CommitFiles:
    """The files of one commit; ``info`` names the episodes' info to log."""

    def __init__(self, info: Sequence[str]) -> None:
        self._info = info
        self._rows: list[Row] = []
        self._episodes: dict[str, schema.ParquetFile] = {}
        self._populations: dict[str, Any] = {}
        self._arrays: dict[str, Any] = {}

    def add(self, batch: Batch) -> None:
        """Add what belongs to the commit, in the order of its happening."""
        self._rows += batch.rows
        for name, records in (
            (schema.EPISODES, batch.generations),
            (schema.EVALUATIONS, batch.evaluations),
        ):
            filled = [r for r in records if len(r.evaluated.episodes.candidate)]
            if filled:
                table = schema.make_episodes_table(
                    filled, self._info, evaluations=name == schema.EVALUATIONS
                )
                if name not in self._episodes:
                    self._episodes[name] = schema.ParquetFile(table.schema)
                self._episodes[name].add(table)
        for record in batch.generations:
            self._add_population(record.key, record.population)

    def finish(
        self, figures: schema.GenerationRows
    ) -> Iterator[tuple[str, bytes | memoryview, int]]:
        """Make the files: the folders that get one, the bytes of it, and its rows."""
        if self._rows:
            table = figures.make_table(self._rows)
            yield schema.GENERATIONS, schema.write_parquet(table), len(self._rows)
        for name, file in self._episodes.items():
            yield name, file.finish(), file.num_rows
        if self._populations:
            data = codec.pack({"dict": self._populations}, self._arrays)
            yield schema.POPULATIONS, data, len(self._populations)

    def _add_population(self, key: RunKey, population: Population) -> None:
        """Keep a generation's population, a large one now and then."""
        encoder = codec.Encoder()
        name = f"{key.generation:06d}"
        tree = encoder.encode(population, name)
        size = sum(array.nbytes for array in encoder.arrays.values())
        if size <= LARGE_POPULATION or key.generation % LARGE_POPULATION_EVERY == 0:
            self._populations[name] = tree
            self._arrays.update(encoder.arrays)
