"""Checkpoints: a snapshot of the search, whose ``done`` marker commits all parts so far.

The marker says what the commit stands on (`distes.runs.inventory`): a checkpoint is whole
while all of that is there as it was written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distes.errors import UsageError
from distes.runs import codec, inventory
from distes.runs.inventory import Sums
from distes.runs.parts import Part, list_all_parts, parse_part
from distes.runs.schema import CHECKPOINTS, CONFIG, PARTS
from distes.runs.storage.folder import Folder
from distes.runs.storage.location import shorten

KEEP = 3  # checkpoints kept: a reader still finds the one it has just looked up


def write(folder: Folder, number: int, state: bytes, sums: Sums) -> None:
    """Commit: the snapshot, then its marker, then delete old checkpoints.

    Args:
        folder: the run's.
        number: of the commit.
        state: the encoded snapshot.
        sums: of the run's other files; they move to a list when they have become many.
    """
    inventory.move_to_list(folder, number, sums)
    name = _state_name(number)
    folder.write(name, state)
    marked = {**sums, name: inventory.take_sum(state)}
    folder.write(marker_name(number), inventory.encode(marked))
    for old in sorted(_list_numbers(folder))[:-KEEP]:
        _delete(folder, old)


def align_markers(folder: Folder, sums: Sums) -> None:
    """Let each kept commit name the parts that ``sums`` does, where it names the same rows.

    The newest comes first: from then on the run stands on these.
    """
    for number in _list_complete(folder):
        try:
            marked = _read_marker(folder, number)
        except UsageError:  # damaged: it counts no longer
            continue
        aligned = inventory.replace_parts(marked, sums)
        if aligned != marked:
            folder.write(marker_name(number), inventory.encode(aligned))


def find_newest(folder: Folder) -> int | None:
    """Give the number of the last commit; None before the first."""
    return next(iter(_list_complete(folder)), None)


def read_newest(folder: Folder, say: Callable[[str], None]) -> Any | None:
    """Decode the newest snapshot that can be read; None before the first commit.

    ``say`` is told where that is not the last one.

    Raises:
        UsageError: none of them can.
    """
    faults: list[str] = []
    for number in _list_complete(folder):
        try:
            snapshot = _read_state(folder, number, _read_marker(folder, number))
        except UsageError as error:
            faults.append(str(error))
        else:
            if faults:
                say(f"{faults[0]}; commit {number} is read instead")
            return snapshot
    if faults:
        raise UsageError(faults[0])
    return None


def read_newest_sums(folder: Folder) -> tuple[Sums, dict[str, str]]:
    """Read what the newest commit stands on, its own snapshot left out.

    Returns:
        The sums by file name, and why lists of them cannot be read, likewise; empty before
        the first commit, and where no marker can be read.
    """
    for number in _list_complete(folder):
        try:
            sums = _read_marker(folder, number)
        except UsageError:
            continue
        sums.pop(_state_name(number), None)
        return inventory.read_lists(folder, sums)
    return {}, {}


def find_whole(folder: Folder, say: Callable[[str], None]) -> tuple[int, Any, Sums] | None:
    """Find the newest checkpoint that is whole; ``say`` is told where that is not the last.

    Returns:
        Its number, its snapshot, and the sums to go on with; None before the first commit.

    Raises:
        UsageError: there are some and none is whole, or they are gone.
    """
    audit = Audit(folder)
    told: list[str] = []
    for number in _list_complete(folder):
        faults = audit.find_faults(number)
        if not faults:
            try:
                sums = _read_marker(folder, number)
                snapshot = _read_state(folder, number, sums)
            except UsageError as error:
                faults = [str(error)]
            else:
                if told:
                    say(f"{told[0]}; the run goes on from commit {number}, which is whole")
                del sums[_state_name(number)]
                return number, snapshot, sums
        more = f" (distes verify lists {len(faults) - 1} more)" if len(faults) > 1 else ""
        told.append(faults[0] + more)
    if told:
        raise UsageError(f"{told[0]}; no commit that is kept is whole: bring the file back")
    if lost := _explain_loss(folder):
        raise UsageError(lost)
    if uncommitted := _explain_rows(folder):
        say(uncommitted)
    return None


class Audit:
    """Looks for what is wrong with the files that commits stand on; reads each file once."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._faults: dict[str, str] = {}
        self.sums: Sums = {}  # of all files that were looked at

    def find_faults(self, number: int) -> list[str]:
        """Say, in a sentence for each file, what keeps a commit from being whole."""
        try:
            marked = _read_marker(self._folder, number)
        except UsageError as error:
            return [str(error)]
        sums, faults = inventory.read_lists(self._folder, marked)
        new = {name: each for name, each in sums.items() if name not in self.sums}
        self.sums |= new
        self._faults |= dict(inventory.find_faults(self._folder, new))
        faults = {name: self._faults[name] for name in sums if name in self._faults} | faults
        if not any(inventory.list_number(name.rpartition("/")[2]) is not None for name in faults):
            known = [part for name in sums if (part := parse_part(name))]
            faults |= {
                part.name: "is a part that no commit wrote"
                for part in _list_all(self._folder)
                # Those with rows that others have were being merged.
                if part.last <= number and not any(map(part.overlaps, known))
            }
        return [f"'{shorten(self._folder.root / name)}' {said}" for name, said in faults.items()]


def verify(folder: Folder) -> tuple[list[str], Sums]:
    """Read every file that the commits stand on.

    Returns:
        What is wrong, in sentences; and the sums of the files.
    """
    audit = Audit(folder)
    complete = _list_complete(folder)
    lost = None if complete else _explain_loss(folder) or _explain_rows(folder)
    faults = dict.fromkeys([lost] if lost else [])  # in order, each once
    if inventory.is_config_altered(folder):
        faults[f"'{shorten(folder.root / CONFIG)}' is damaged"] = None
    for number in complete:
        found = audit.find_faults(number)
        # Who writes the run may have merged what it stood on, or deleted it.
        if found and folder.exists(marker_name(number)):
            faults |= dict.fromkeys(audit.find_faults(number))
    return list(faults), audit.sums


def marker_name(number: int) -> str:
    """Name the file that makes commit ``number`` count."""
    return f"{_folder_name(number)}/done"


def drop_beyond(folder: Folder, number: int, sums: Sums) -> None:
    """Delete whatever commit ``number``, which has these sums, does not stand on.

    That is what was written after it, and what is left of merging; -1 has no parts.
    """
    folder.delete_temporaries()
    for beyond in _list_numbers(folder):
        if beyond > number:
            _delete(folder, beyond)
    for name in folder.list_names(CHECKPOINTS):
        found = inventory.list_number(name)
        if found is not None and found > number:
            folder.delete(f"{CHECKPOINTS}/{name}")
    align_markers(folder, sums)
    known, _ = inventory.read_lists(folder, sums)
    folder.delete_all([part.name for part in _list_all(folder) if part.name not in known])


def _explain_loss(folder: Folder) -> str | None:
    """Say, of a run without a complete checkpoint, that it once had one; None if it had none."""
    # A part is written after the commits before its own.
    if max((part.last for part in _list_all(folder)), default=0) == 0:
        return None
    return (
        f"'{shorten(folder.root / CHECKPOINTS)}' has no complete checkpoint, and the run has "
        "parts of several commits: bring its checkpoints back, or begin anew"
    )


def _explain_rows(folder: Folder) -> str | None:
    """Say, of a run without a complete checkpoint, that rows of its first commit are there.

    A crash before that commit leaves them, too: they are computed again, identically.
    """
    if not _list_all(folder):
        return None
    place = shorten(folder.root / CHECKPOINTS)
    return f"'{place}' has no complete checkpoint: a run that goes on begins anew"


def _list_all(folder: Folder) -> list[Part]:
    return [part for table in PARTS for part in list_all_parts(folder, table)]


def _read_marker(folder: Folder, number: int) -> Sums:
    try:
        return inventory.decode(folder.read(marker_name(number)))
    except UsageError as error:
        raise UsageError(f"'{shorten(folder.root / marker_name(number))}' is damaged") from error


def _read_state(folder: Folder, number: int, sums: Sums) -> Any:
    """Decode a checkpoint's snapshot; refuse one that is missing or not as it was written."""
    name = _state_name(number)
    place = shorten(folder.root / name)
    try:
        data = folder.read(name)
    except FileNotFoundError:
        raise UsageError(f"'{place}' is missing") from None
    if name not in sums or inventory.is_altered(data, sums[name]):
        raise UsageError(f"'{place}' is damaged")
    try:
        return codec.loads(data)
    except UsageError as error:
        raise UsageError(f"'{place}' cannot be read: {error}") from error


def _list_complete(folder: Folder) -> list[int]:
    """List the numbers of the commits that are kept, the newest first."""
    numbers = sorted(_list_numbers(folder), reverse=True)
    return [number for number in numbers if folder.exists(marker_name(number))]


def _list_numbers(folder: Folder) -> list[int]:
    return [int(name) for name in folder.list_names(CHECKPOINTS) if name.isdecimal()]


def _folder_name(number: int) -> str:
    return f"{CHECKPOINTS}/{number:06d}"


def _state_name(number: int) -> str:
    return f"{_folder_name(number)}/state.npz"


def _delete(folder: Folder, number: int) -> None:
    """Delete a checkpoint, its marker first: it is never complete in part."""
    if folder.exists(marker_name(number)):
        folder.delete(marker_name(number))
    folder.delete(_folder_name(number))
