"""What one commit adds to a run, made while the commit is still to come.

Making Parquet of many episodes takes longer than writing it: the log's thread does it as
soon as there are enough of them for a row group, and not when somebody waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distes.population.records import Population, RunKey
from distes.runs import codec
from distes.runs.schema import (
    EPISODES,
    EVALUATIONS,
    GENERATIONS,
    POPULATIONS,
    GenerationRows,
    ParquetFile,
    Record,
    make_episodes_table,
    write_parquet,
)

LARGE_POPULATION = 1_000_000
"""Bytes from which only every `LARGE_POPULATION_EVERY`-th generation's population is kept."""

LARGE_POPULATION_EVERY = 10


class CommitFiles:
    """The files of one commit.

    Args:
        info: names of the episodes' info to log.
    """

    def __init__(self, info: Sequence[str]) -> None:
        self._info = info
        self._rows: list[Mapping[str, float | int | str]] = []
        self._episodes: dict[str, ParquetFile] = {}
        self._populations: dict[str, Any] = {}
        self._arrays: dict[str, Any] = {}

    def add(
        self,
        rows: Sequence[Mapping[str, float | int | str]],
        generations: Sequence[Record],
        evaluations: Sequence[Record],
    ) -> None:
        """Add what belongs to the commit, in the order of its happening.

        Args:
            rows: figures of generations.
            generations: the generations' own populations.
            evaluations: further ones.
        """
        self._rows += rows
        for name, records in ((EPISODES, generations), (EVALUATIONS, evaluations)):
            filled = [r for r in records if len(r.evaluated.episodes.candidate)]
            if filled:
                table = make_episodes_table(filled, self._info, evaluations=name == EVALUATIONS)
                if name not in self._episodes:
                    self._episodes[name] = ParquetFile(table.schema)
                self._episodes[name].add(table)
        for record in generations:
            self._add_population(record.key, record.population)

    def finish(self, figures: GenerationRows) -> Iterator[tuple[str, bytes | memoryview]]:
        """Make the files: the folders that get one, and the bytes of it.

        Args:
            figures: makes the table of the generations.
        """
        if self._rows:
            yield GENERATIONS, write_parquet(figures.make_table(self._rows))
        for name, file in self._episodes.items():
            yield name, file.finish()
        if self._populations:
            yield POPULATIONS, codec.pack({"dict": self._populations}, self._arrays)

    def _add_population(self, key: RunKey, population: Population) -> None:
        """Keep a generation's population, a large one now and then."""
        encoder = codec.Encoder()
        name = f"{key.generation:06d}"
        tree = encoder.encode(population, name)
        size = sum(array.nbytes for array in encoder.arrays.values())
        if size <= LARGE_POPULATION or key.generation % LARGE_POPULATION_EVERY == 0:
            self._populations[name] = tree
            self._arrays.update(encoder.arrays)
