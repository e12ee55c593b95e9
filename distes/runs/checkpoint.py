"""Checkpoints: a snapshot of the search, whose ``done`` marker commits all parts so far."""

from __future__ import annotations

from distes.errors import UsageError
from distes.runs import codec
from distes.runs.schema import CHECKPOINTS, PARTS, part_number
from distes.runs.storage.folder import Folder
from distes.runs.storage.location import shorten

KEEP = 3  # checkpoints kept: a reader still finds the one it has just looked up


def write(folder: Folder, number: int, state: bytes) -> None:
    """Commit: the snapshot, then its marker, then delete old checkpoints."""
    name = _folder_name(number)
    folder.write(f"{name}/state.npz", state)
    folder.write(marker_name(number), b"")
    for old in sorted(_list_numbers(folder))[:-KEEP]:
        _delete(folder, old)


def find_newest(folder: Folder) -> int | None:
    """Give the number of the last commit; None before the first."""
    complete = [n for n in _list_numbers(folder) if folder.exists(marker_name(n))]
    return max(complete, default=None)


def read(folder: Folder, number: int) -> object:
    """Decode a checkpoint's snapshot.

    Raises:
        UsageError: it is damaged, or the modules that define it are not imported.
    """
    try:
        return codec.loads(folder.read(f"{_folder_name(number)}/state.npz"))
    except UsageError as error:
        raise UsageError(
            f"'{shorten(folder.root / _folder_name(number))}' cannot be read: {error}"
        ) from error


def marker_name(number: int) -> str:
    """Name the file that makes commit ``number`` count."""
    return f"{_folder_name(number)}/done"


def drop_beyond(folder: Folder, number: int) -> None:
    """Delete whatever was written after commit ``number`` (-1: everything)."""
    folder.delete_temporaries()
    for beyond in _list_numbers(folder):
        if beyond > number:
            _delete(folder, beyond)
    for parts in PARTS:
        for name in folder.list_names(parts):
            found = part_number(name)
            if found is not None and found > number:
                folder.delete(f"{parts}/{name}")


def _list_numbers(folder: Folder) -> list[int]:
    return [int(name) for name in folder.list_names(CHECKPOINTS) if name.isdigit()]


def _folder_name(number: int) -> str:
    return f"{CHECKPOINTS}/{number:06d}"


def _delete(folder: Folder, number: int) -> None:
    """Delete a checkpoint, its marker first: it is never complete in part."""
    if folder.exists(marker_name(number)):
        folder.delete(marker_name(number))
    folder.delete(_folder_name(number))
