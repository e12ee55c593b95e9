"""Merging the parts of many commits into one, so that a long run is a few files.

The last 8 commits that are not to be gone back to become one part of each table, 8 of such
parts one more, and so on while it stays small enough: a row is written again at most once
for each power of 8. The wide parts are written first; then each kept commit names them
instead of the narrow ones, the newest before the others; then those are deleted. Wherever
that is cut short, `distes.runs.checkpoint.drop_beyond` brings it to an end, or back.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import pyarrow as pa

from distes.runs import checkpoint, codec, inventory, schema
from distes.runs.inventory import Sums
from distes.runs.parts import Part, parse_part
from distes.runs.storage.folder import Folder

FAN = 8  # commits, and then parts, that become one
MAX_BYTES = 32 * 2**20  # of a merged part: what a commit writes at once, and a reader holds
MAX_POPULATIONS_BYTES = 4 * 2**20  # likewise; it is read whole for one of them


def merge_parts(folder: Folder, number: int, sums: Sums) -> None:
    """Merge the parts of the last 8, 64, 512, ... commits, if such a group ends here.

    Args:
        folder: the run's.
        number: of the oldest commit that is kept.
        sums: of the run's files; they then name the merged parts.

    Raises:
        OSError: something cannot be written or deleted; the run is whole all the same.
    """
    files, narrow = [], []
    for table in schema.PARTS:
        chosen = choose_parts(table, number, sums)
        if chosen and (data := _merge(folder, chosen, sums)) is not None:
            rows = sum(sums[part.name].rows for part in chosen)
            files.append((Part(table, chosen[0].first, chosen[-1].last), data, rows))
            narrow += [part.name for part in chosen]
    if not files:
        return
    for part, data, rows in files:
        folder.write(part.name, data)
        sums[part.name] = inventory.take_sum(data, rows)
    for name in narrow:
        del sums[name]
    checkpoint.align_markers(folder, sums)
    folder.delete_all(narrow)


def choose_parts(table: str, number: int, sums: Sums) -> list[Part]:
    """Choose the parts of a table that become one; none where there is nothing to do."""
    width = 1
    while width <= number and (number + 1) % (width * FAN) == 0:
        width *= FAN
    if width == 1:
        return []
    found = (parse_part(name) for name in sums)
    parts = sorted(part for part in found if part and part.table == table and part.last <= number)
    limit = MAX_POPULATIONS_BYTES if table == schema.POPULATIONS else MAX_BYTES
    while width > 1:
        chosen = [part for part in parts if part.first > number - width]
        if len(chosen) > 1 and sum(sums[part.name].size for part in chosen) <= limit:
            return chosen
        width //= FAN
    return []


def _merge(folder: Folder, parts: list[Part], sums: Sums) -> bytes | memoryview | None:
    """Merge files; None where one is missing or damaged: it must stay known as that."""
    names = [part.name for part in parts]
    if inventory.find_missing(folder, names):
        return None
    data = list(folder.read_all(names))
    if any(inventory.is_altered(each, sums[name]) for name, each in zip(names, data, strict=True)):
        return None
    if parts[0].table == schema.POPULATIONS:
        return _merge_populations(data)
    # In this thread alone: the other cores are the episodes'.
    read = partial(schema.read_parquet, use_threads=False)
    return _merge_tables(map(read, data, names))


def _merge_tables(tables: Iterable[pa.Table]) -> memoryview | None:
    """Write the rows of several tables as one file; None where their columns differ."""
    file: schema.ParquetFile | None = None
    gathered: list[pa.Table] = []
    for table in tables:
        if file is None:
            file = schema.ParquetFile(table.schema)
        if not table.schema.equals(file.schema):
            return None
        gathered.append(table)
        if sum(map(len, gathered)) >= schema.MAX_ROW_GROUP:
            file.add(pa.concat_tables(gathered))
            gathered = []
    assert file is not None  # noqa: S101 - there are at least two tables
    if gathered:
        file.add(pa.concat_tables(gathered))
    return file.finish()


def _merge_populations(files: Iterable[bytes]) -> bytes:
    trees: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for data in files:
        tree, found = codec.unpack(data)
        trees |= tree["dict"]
        arrays |= {name: found[name] for name in found if name != codec.TREE}
    return codec.pack({"dict": trees}, arrays)
