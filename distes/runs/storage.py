"""Every access to a run's files: whole-file writes that are there fully or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import IO

from distes.errors import UsageError


class Folder:
    """The files of one run, named by '/'-separated paths below its directory.

    Attributes:
        root: the run's directory.
    """

    def __init__(self, root: str | Path) -> None:
        """Name a directory; nothing is touched yet."""
        self.root = Path(root)

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write a whole file durably; readers see the old one, then the new one.

        The temporary name begins with a dot, which Parquet's dataset discovery skips.

        Raises:
            OSError: the disk is full, or writing is not allowed.
        """
        target = self.root / name
        if not target.parent.exists():
            target.parent.mkdir(parents=True)
            _sync(target.parent.parent)
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _sync(target.parent)

    def append(self, name: str, data: bytes) -> None:
        """Add whole lines to a file, first ending a line that a crash cut short."""
        with (self.root / name).open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def read(self, name: str) -> bytes:
        """Read a whole file.

        Raises:
            FileNotFoundError: there is none.
        """
        return (self.root / name).read_bytes()

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of that name."""
        return (self.root / name).exists()

    def names(self, folder: str = ".") -> list[str]:
        """List what a folder holds, sorted, temporaries left out; empty if there is none."""
        try:
            found = os.listdir(self.root / folder)  # noqa: PTH208 (names are wanted)
        except FileNotFoundError:
            return []
        return sorted(name for name in found if not name.startswith((".", "_")))

    def delete(self, name: str) -> None:
        """Delete a file, or a folder with all it holds, durably."""
        target = self.root / name
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink()
        _sync(target.parent)

    def delete_temporaries(self) -> None:
        """Delete what interrupted writes left behind."""
        for temporary in self.root.rglob(".*.tmp"):
            temporary.unlink()

    def lock(self, name: str) -> IO[bytes]:
        """Lock a file against a second writer until the handle is closed or the process dies.

        Raises:
            UsageError: another process holds the lock.
        """
        handle = (self.root / name).open("r+b")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            raise UsageError(
                f"'{self.root}' is being written by a search that still runs"
            ) from None
        except OSError:
            pass  # a file system without locks
        return handle


def _sync(folder: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
