"""Every access to a run's files: whole-file writes that are there fully or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import IO

from distes.errors import UsageError

LOCK_S = 0.25
"""Seconds that a writer waits for readers that ask whether there is one."""


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

    def read(self, name: str, start: int = 0) -> bytes:
        """Read a whole file, or what comes after its first ``start`` bytes.

        Raises:
            FileNotFoundError: there is none.
        """
        with (self.root / name).open("rb") as file:
            file.seek(start)
            return file.read()

    def modified(self, name: str) -> float | None:
        """When a file was last written, in seconds since 1970; None if there is none."""
        try:
            return (self.root / name).stat().st_mtime
        except FileNotFoundError:
            return None

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
        deadline = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
                handle.close()
                raise UsageError(
                    f"'{self.root}' is being written by a search that still runs"
                ) from None
            except OSError:
                pass  # a file system without locks
            return handle

    def locked(self, name: str) -> bool | None:
        """Whether a writer holds the lock; None where that cannot be known.

        Asking takes a shared lock for microseconds: `lock` waits for longer than that.
        """
        try:
            with (self.root / name).open("rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return None
        return False


def _sync(folder: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
