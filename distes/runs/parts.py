"""The parts of a run's tables: one for each commit, later one for many of them.

What a merged part replaces is deleted a moment after it is there. Whoever meets both takes
the wider part: rows and their order are the same.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from distes.runs import schema
from distes.runs.storage.folder import Folder


class Part(NamedTuple):
    """A part of a table, with the commits whose rows it holds."""

    table: str
    first: int
    last: int

    @property
    def name(self) -> str:
        """Name the file, below the run's directory."""
        numbers = "-".join(f"{number:06d}" for number in sorted({self.first, self.last}))
        suffix = "npz" if self.table == schema.POPULATIONS else "parquet"
        return f"{self.table}/part-{numbers}.{suffix}"

    def overlaps(self, other: Part) -> bool:
        """Whether both hold rows of some commit."""
        same = self.table == other.table
        return same and self.first <= other.last and other.first <= self.last


def parse_part(name: str) -> Part | None:
    """Read a part's name, its folder included; None for any other file."""
    table, _, file = name.rpartition("/")
    match = re.fullmatch(r"part-(\d+)(?:-(\d+))?\.(?:npz|parquet)", file)
    if match is None or table not in schema.PARTS:
        return None
    return Part(table, int(match[1]), int(match[2] or match[1]))


def list_all_parts(folder: Folder, table: str) -> list[Part]:
    """List a table's parts by their commits, the wider first."""
    found = [parse_part(f"{table}/{name}") for name in folder.list_names(table)]
    return sorted(
        (part for part in found if part is not None), key=lambda part: (part.first, -part.last)
    )


def list_parts(folder: Folder, table: str) -> list[Part]:
    """List the parts that hold each row of a table once, in the order of their commits."""
    found: list[Part] = []
    for part in list_all_parts(folder, table):
        if not found or part.last > found[-1].last:
            found.append(part)
    return found
