"""What a run directory holds, and the Parquet tables made from records.

docs/log-schema.md describes every file and column; change it, and `SCHEMA_VERSION`,
together with this file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distes.errors import UsageError
from distes.population.records import Evaluated, Population, Purpose, RunKey, Status
from distes.types import Array, FloatArray

SCHEMA_VERSION = 2

CONFIG = "config.json"
EVENTS = "events.jsonl"
GENERATIONS = "generations"
EPISODES = "episodes"
EVALUATIONS = "evaluations"
POPULATIONS = "populations"
CHECKPOINTS = "checkpoints"
PARTS = (GENERATIONS, EPISODES, EVALUATIONS, POPULATIONS)

MAX_LOGGED_PARAMETERS = 32  # longer vectors are not logged; populations can redraw them
_LIST = pa.list_(pa.float64())
_EPISODES = [
    ("generation", pa.int64()),
    ("candidate", pa.int64()),
    ("episode", pa.int64()),
    ("seed", pa.int64()),
    ("episode_return", pa.float64()),
    ("episode_length", pa.int64()),
    ("terminated", pa.bool_()),
    ("truncated", pa.bool_()),
    ("status", pa.string()),
    ("fitness", pa.float64()),
    ("context", _LIST),
    ("parameters", _LIST),
    ("attempt", pa.int16()),
    ("worker", pa.int32()),
    ("node", pa.string()),
    ("started_at", pa.timestamp("us", tz="UTC")),
    ("duration_s", pa.float64()),
]
_EVALUATIONS = [_EPISODES[0], ("purpose", pa.string()), ("call", pa.int64()), *_EPISODES[1:]]


class Record(NamedTuple):
    """One evaluation, as it is queued for the log."""

    key: RunKey
    population: Population
    evaluated: Evaluated


def part_name(folder: str, number: int) -> str:
    """Name the part that commit ``number`` adds to a folder."""
    return f"{folder}/part-{number:06d}.{'npz' if folder == POPULATIONS else 'parquet'}"


def part_number(name: str) -> int | None:
    """Give the commit number of a part's file name; None for any other file."""
    match = re.fullmatch(r"part-(\d+)\.(?:npz|parquet)", name)
    return int(match[1]) if match else None


def make_empty_table(folder: str) -> pa.Table:
    """Make a table without rows, for a folder without parts."""
    columns = {EPISODES: _EPISODES, EVALUATIONS: _EVALUATIONS}.get(folder, _EPISODES[:1])
    return pa.schema(columns).empty_table()


def make_episodes_table(
    records: Sequence[Record], info: Sequence[str] = (), *, evaluations: bool = False
) -> pa.Table:
    """Make the rows of some evaluations, one an episode.

    Args:
        records: at least one.
        info: names to log; null for episodes of another task, which have none of that name.
        evaluations: whether to add the columns ``purpose`` and ``call``.
    """
    episodes = [record.evaluated.episodes for record in records]
    telemetry = [record.evaluated.telemetry for record in records]
    counts = np.array([len(each.candidate) for each in episodes])

    def concatenate(parts: Sequence[Any], name: str) -> Array:
        return np.concatenate([getattr(part, name) for part in parts])

    def repeat_by_episode(values: list[int]) -> Array:
        return np.repeat(np.array(values, dtype=np.int64), counts)

    nodes = sorted({node for each in telemetry for node in each.nodes})
    numbers = {node: number for number, node in enumerate(nodes)}
    node = np.concatenate(
        [np.array([numbers[name] for name in t.nodes], dtype=np.int32)[t.node] for t in telemetry]
    )
    started_at = concatenate(telemetry, "started_at") * 1e6
    unknown = ~np.isfinite(started_at)
    started_at = np.where(unknown, 0.0, started_at).round().astype(np.int64)
    plain = ("candidate", "episode", "seed", "episode_return", "episode_length")
    columns: dict[str, Any] = {
        **{name: concatenate(episodes, name) for name in (*plain, "terminated", "truncated")},
        **{name: concatenate(telemetry, name) for name in ("attempt", "worker", "duration_s")},
        "generation": repeat_by_episode([record.key.generation for record in records]),
        "status": _make_text_column(
            concatenate(episodes, "status"), [each.name.lower() for each in Status]
        ),
        "fitness": np.concatenate([each.fitness[each.candidate] for each in episodes]),
        "context": _make_list_column([each.contexts for each in episodes], counts),
        "parameters": _make_list_column([_draw_parameters(each) for each in records], counts),
        "node": _make_text_column(node, nodes),
        "started_at": pa.array(started_at, mask=unknown).cast(pa.timestamp("us", tz="UTC")),
    }
    if evaluations:
        purpose = repeat_by_episode([record.population.purpose for record in records])
        columns["purpose"] = _make_text_column(purpose, [each.name.lower() for each in Purpose])
        columns["call"] = repeat_by_episode([record.key.call for record in records])
    fields = _EVALUATIONS if evaluations else _EPISODES
    for name in info:
        columns[f"info_{name}"] = pa.concat_arrays(
            [
                pa.array(each.info[name], pa.float64())
                if name in each.info
                else pa.nulls(len(each.candidate), pa.float64())
                for each in episodes
            ]
        )
    # Chosen info stands where a reader looks for results: before where and when.
    split = [name for name, _ in fields].index("attempt")
    chosen = [(f"info_{name}", pa.float64()) for name in info]
    schema = pa.schema([*fields[:split], *chosen, *fields[split:]])
    return pa.table(
        [
            column if isinstance(column, pa.Array) else pa.array(column, type=kind)
            for column, kind in ((columns[each.name], each.type) for each in schema)
        ],
        schema=schema,
    )


class ParquetFile:
    """A Parquet file in memory; each table that is added is a row group.

    Text has dictionaries; whole numbers are stored as differences, and the bytes of floats
    side by side: then LZ4 makes smaller files than Zstandard does without, in less time.
    Pages have checksums, for readers that read a part of the file.

    Attributes:
        num_rows: so far.
    """

    def __init__(self, schema: pa.Schema) -> None:
        text, encodings = [], {}
        for each in schema:
            if pa.types.is_string(each.type):
                text.append(each.name)
            elif pa.types.is_integer(each.type) or pa.types.is_timestamp(each.type):
                if each.name != "seed":  # a hash: its differences are as long as itself
                    encodings[each.name] = "DELTA_BINARY_PACKED"
            elif pa.types.is_floating(each.type):
                encodings[each.name] = "BYTE_STREAM_SPLIT"
            elif pa.types.is_list(each.type):
                encodings[f"{each.name}.list.element"] = "BYTE_STREAM_SPLIT"
        self.num_rows = 0
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            compression="lz4",
            use_dictionary=text,
            column_encoding=encodings,
            write_page_checksum=True,
        )

    def add(self, table: pa.Table) -> None:
        """Add rows."""
        self.num_rows += len(table)
        self._writer.write_table(table)

    def finish(self) -> memoryview:
        """Give the bytes of the whole file; nothing can be added any more."""
        self._writer.close()
        return memoryview(self._sink.getvalue())


def write_parquet(table: pa.Table) -> memoryview:
    """Write a table as the bytes of one Parquet file."""
    file = ParquetFile(table.schema)
    file.add(table)
    return file.finish()


def read_parquet(data: bytes, place: object, **options: Any) -> pa.Table:
    """Read a table from the bytes of a Parquet file.

    Args:
        data: the file.
        place: where it is, for what is said of it.
        options: what `pyarrow.parquet.read_table` is to read of it.

    Raises:
        UsageError: it is damaged.
    """
    try:
        return pq.read_table(pa.BufferReader(data), page_checksum_verification=True, **options)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UsageError(f"'{place}' is damaged: {' '.join(str(error).split())}") from error


class GenerationRows:
    """The generations table: its columns are those of the run's first row.

    Args:
        schema: of the parts written so far; None if there are none.
    """

    def __init__(self, schema: pa.Schema | None = None) -> None:
        self._schema = schema

    def check(self, row: Mapping[str, float | int | str]) -> None:
        """Refuse a row that does not fit.

        Raises:
            UsageError: other names than the first row's, or a value of another type.
        """
        if self._schema is None:
            columns = [(name, _choose_type(name, value)) for name, value in row.items()]
            self._schema = pa.schema(columns)
        types = {each.name: _ACCEPTED[each.type] for each in self._schema}
        if row.keys() != types.keys():
            missing = sorted(types.keys() - row.keys())
            added = sorted(row.keys() - types.keys())
            raise UsageError(
                f"a generation's figures lack {missing} and add {added}: the same names are "
                "needed in every generation"
            )
        for name, accepted in types.items():
            value = row[name]
            whole = accepted is _WHOLE and isinstance(value, float) and value.is_integer()
            if not (whole or isinstance(value, accepted)):
                raise UsageError(
                    f"the figure {name} is {value!r}: it must be {accepted[0].__name__}, as "
                    "in the first generation"
                )

    def make_table(self, rows: Sequence[Mapping[str, float | int | str]]) -> pa.Table:
        """Make a table of rows that were checked."""
        assert self._schema is not None  # noqa: S101 - set by the first check
        return pa.table(
            [pa.array([row[each.name] for row in rows], each.type) for each in self._schema],
            schema=self._schema,
        )


_WHOLE = (int, np.integer)
_ACCEPTED: dict[pa.DataType, tuple[type, ...]] = {
    pa.int64(): _WHOLE,
    pa.float64(): (float, int, np.floating, np.integer),
    pa.string(): (str,),
}


def _choose_type(name: str, value: object) -> pa.DataType:
    for kind, accepted in _ACCEPTED.items():
        if isinstance(value, accepted):
            return kind
    raise UsageError(f"the figure {name} is {value!r}: figures are numbers or text")


def _draw_parameters(record: Record) -> FloatArray | None:
    """Draw the parameters of every episode, (m, d); None where they are not logged."""
    distribution, episodes = record.population.distribution, record.evaluated.episodes
    if distribution.num_parameters > MAX_LOGGED_PARAMETERS:
        return None
    if distribution.uses_context:
        return distribution.draw(episodes.candidate, episodes.contexts)
    drawn = distribution.draw(np.arange(record.population.size))
    rows: FloatArray = drawn[episodes.candidate]
    return rows


def _make_list_column(rows: Sequence[FloatArray | None], counts: Array) -> pa.Array:
    """Make one list column of (m, k) arrays; null where there is none."""
    widths = np.array([0 if each is None else each.shape[1] for each in rows])
    ends = np.cumsum(np.repeat(widths, counts))
    values = [np.ravel(each) for each in rows if each is not None]
    return pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], ends]), type=pa.int32()),
        pa.array(np.concatenate([np.empty(0), *values])),
        mask=pa.array(np.repeat([each is None for each in rows], counts)),
    )


def _make_text_column(codes: Array, names: Sequence[str]) -> pa.Array:
    """Make a text column of numbers into a list of names."""
    column = pa.DictionaryArray.from_arrays(
        pa.array(codes.astype(np.int32)), pa.array(names, type=pa.string())
    )
    return column.cast(pa.string())
