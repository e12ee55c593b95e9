"""What a commit stands on: every part and list with its size and checksum.

The marker of a checkpoint holds the sums of the run's files. So that it stays small, they
move to a list, a file of its own, when they have become many; the marker then holds the sum
of that list, which begins with the one before it. A commit writes no file more than before.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from distes.errors import UsageError
from distes.runs import schema
from distes.runs.parts import parse_part
from distes.runs.storage.folder import Folder

CHECKSUM = "checksum"
"""Name of that of ``config.json``, within it."""

MAX_SUMS = 256  # in a marker: some 16 KB, written with each commit


class FileSum(NamedTuple):
    """What is known of a file."""

    size: int  # bytes
    crc32: int
    rows: int = 0  # of a table, or populations; 0 for other files
    footer: int = 0  # CRC-32 of what a Parquet file ends with; 0 for other files, or unknown


Sums = dict[str, FileSum]
"""What is known of files, by name."""


def take_sum(data: bytes | memoryview, rows: int = 0) -> FileSum:
    """Sum up a file as it is written."""
    end = data[len(data) - footer_size(data[-8:]) :]
    return FileSum(len(data), zlib.crc32(data), rows, zlib.crc32(end) if end else 0)


def footer_size(end: bytes | memoryview) -> int:
    """Give the bytes of a Parquet file's footer, by the file's last 8; 0 for other files."""
    if end[4:] != b"PAR1":
        return 0
    return int.from_bytes(end[:4], "little") + 8


def has_footer(file: BinaryIO, known: FileSum) -> bool:
    """Whether an open Parquet file has the size and the footer that it was written with.

    The footer says where all else is, and pages have checksums of their own: so a reader of
    a few columns knows that they are as they were written.
    """
    size = file.seek(0, os.SEEK_END)
    if size != known.size:
        return False
    file.seek(max(size - 8, 0))
    file.seek(max(size - footer_size(file.read()), 0))
    end = file.read()
    file.seek(0)
    return zlib.crc32(end) == known.footer


def encode(sums: Mapping[str, FileSum]) -> bytes:
    """Write sums as a line of JSON, and the checksum of that line below it."""
    text = json.dumps(sums, separators=(",", ":")).encode()
    return b"%s\n%08x\n" % (text, zlib.crc32(text))


def decode(data: bytes) -> Sums:
    """Read what `encode` wrote.

    Raises:
        UsageError: it is something else, or damaged.
    """
    text, _, checksum = data.removesuffix(b"\n").rpartition(b"\n")
    if b"%08x" % zlib.crc32(text) != checksum:
        raise UsageError("it is damaged")
    return {name: FileSum(*found) for name, found in json.loads(text).items()}


def encode_config(config: Mapping[str, Any]) -> bytes:
    """Write a configuration as JSON, with the checksum of all else in it.

    It is its own: a run that is extended gets another one, before the next commit.

    Raises:
        TypeError: it is no JSON.
        ValueError: likewise.
    """
    content = {name: value for name, value in config.items() if name != CHECKSUM}
    return json.dumps({**content, CHECKSUM: _sum_config(content)}, indent=2).encode() + b"\n"


def is_config_altered(folder: Folder) -> bool:
    """Whether a run's configuration is not as `encode_config` wrote it."""
    config = json.loads(folder.read(schema.CONFIG))
    return bool(config.pop(CHECKSUM, None) != _sum_config(config))


def _sum_config(content: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(content).encode()):08x}"


def move_to_list(folder: Folder, number: int, sums: Sums) -> None:
    """Move a run's sums to a list, if they are many; only that list's sum is left."""
    if len(sums) > MAX_SUMS:
        name, data = f"{schema.CHECKPOINTS}/files-{number:06d}.json", encode(sums)
        folder.write(name, data)
        sums.clear()
        sums[name] = take_sum(data)


def replace_parts(sums: Sums, newer: Sums) -> Sums:
    """Name the parts that ``newer`` has where a run's sums name others with their rows."""
    known = [part for name in newer if (part := parse_part(name))]
    found: Sums = {}
    for name, each in sums.items():
        old = None if name in newer else parse_part(name)
        instead = [part.name for part in known if old is not None and part.overlaps(old)]
        found |= {name: newer[name] for name in instead} if instead else {name: each}
    return found


def list_number(name: str) -> int | None:
    """Give the commit number of a list's file name, without its folder; None for others."""
    match = re.fullmatch(r"files-(\d+)\.json", name)
    return int(match[1]) if match else None


def read_lists(folder: Folder, sums: Sums) -> tuple[Sums, dict[str, str]]:
    """Follow lists to lists before them.

    Returns:
        The sums of all files, lists included; and why a list could not be followed, by name.
    """
    found, faults, unread = dict(sums), {}, list(sums)
    while unread:
        name = unread.pop()
        if list_number(name.rpartition("/")[2]) is None:
            continue
        try:
            listed = decode(folder.read(name))
        except FileNotFoundError:
            faults[name] = "is missing, and with it the list of earlier files"
        except UsageError:
            faults[name] = "is damaged, and with it the list of earlier files"
        else:
            found |= listed
            unread += listed
    return found, faults


def find_missing(folder: Folder, names: Sequence[str]) -> list[str]:
    """Find those of some files that are not there, in their order."""
    folders = {name.rpartition("/")[0] for name in names}
    there = {f"{each}/{name}" for each in folders if each for name in folder.list_names(each)}
    return [each for each in names if not (each in there if "/" in each else folder.exists(each))]


def find_faults(folder: Folder, sums: Sums) -> Iterator[tuple[str, str]]:
    """Read files, and find what is wrong with them: their names, and what to say of them."""
    missing = set(find_missing(folder, list(sums)))
    yield from ((name, f"is missing{_count_rows(sums[name])}") for name in sums if name in missing)
    there = [name for name in sums if name not in missing]
    while there:
        checked = 0
        try:
            for name, data in zip(there, folder.read_all(there), strict=True):
                if is_altered(data, sums[name]):
                    yield name, f"is damaged{_count_rows(sums[name])}"
                checked += 1
        except FileNotFoundError:  # deleted since it was listed
            yield there[checked], f"is missing{_count_rows(sums[there[checked]])}"
            checked += 1
        there = there[checked:]


def is_altered(data: bytes, known: FileSum) -> bool:
    """Whether a file is not as it was written."""
    return (len(data), zlib.crc32(data)) != (known.size, known.crc32)


def _count_rows(known: FileSum) -> str:
    return f" ({known.rows:,} row{'s' if known.rows > 1 else ''})" if known.rows else ""
