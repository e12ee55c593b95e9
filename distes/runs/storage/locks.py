"""One writer at a time: a lock of the operating system, or a lease in an object store."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeAlias

from distes.errors import StorageError, UsageError
from distes.runs.storage.location import URI
from distes.runs.storage.retries import RetryingStore

LOCK_S = 0.25  # seconds that a writer waits for readers that ask whether there is one
LEASE = "lease.json"

BEAT_S = 5.0  # seconds between a holder's signs of life
STALE_S = 30.0  # a lease without a sign of life for so long is taken over
LONG_AGO_S = 600.0  # one older than this by our clock is taken over without watching it first
SETTLE_S = 0.5  # of two that take a free lease at the same time, the later one has written by then


class FileLock:
    """A lock on a file; it ends with the process, however that ends.

    On a file system without locks there is nothing to take. It is `flock`, which Linux and
    macOS have, and not the filelock package: that has no shared lock on the file for readers
    that ask, and where there are no locks its stand-in, a file, outlives the process.

    Raises:
        UsageError: another process holds it.
    """

    def __init__(self, path: Path) -> None:
        deadline = time.monotonic() + LOCK_S
        while not self._take(path):
            if time.monotonic() >= deadline:
                raise UsageError(f"'{path.parent}' is being written by a search that still runs")
            time.sleep(0.01)

    def _take(self, path: Path) -> bool:
        """Lock the file, if it still has the name: whoever extends a run puts another there."""
        self._handle = path.open("r+b")
        free = _try_flock(self._handle, fcntl.LOCK_EX) is not False
        taken = free and os.path.samestat(os.fstat(self._handle.fileno()), path.stat())
        if not taken:
            self._handle.close()
        return taken

    def check(self) -> None:
        """Do nothing: the operating system takes it from nobody."""

    def close(self) -> None:
        self._handle.close()


def is_locked(path: Path) -> bool | None:
    """Whether a writer holds the lock on a file; None where that cannot be known.

    Asking takes a shared lock for microseconds: a writer waits for longer than that.
    """
    try:
        with path.open("rb") as handle:
            free = _try_flock(handle, fcntl.LOCK_SH)
    except OSError:
        return None
    return None if free is None else not free


def _try_flock(file: IO[bytes], kind: int) -> bool | None:
    """Lock a file if that can be had at once; None where the file system has no locks."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


class Lease:
    """An object that names its holder, and that the holder writes again every few seconds.

    Not a lock in the strict sense: a holder that sleeps for longer than `STALE_S` and wakes
    may finish one object before it notices that another took over. A holder that may be alive
    is watched first; ``say`` is told for how long at most.

    Raises:
        UsageError: its holder is alive.
        OSError: the store fails.
    """

    def __init__(self, uri: URI, store: RetryingStore, say: Callable[[str], None]) -> None:
        self._uri, self._store = uri, store
        self._me = {
            "holder": secrets.token_hex(8),
            "host": platform.node(),
            "process": _name_process(os.getpid()),
        }
        self._beats, self._lost = 0, ""
        self._ended = threading.Event()
        self._outwait_holder(say)
        store.put(LEASE, self._next_beat())
        time.sleep(SETTLE_S)
        found = read_lease(store)
        if found is None or found.get("holder") != self._me["holder"]:
            raise _refuse_written(uri, found or {})
        self._thread = threading.Thread(target=self._beat, name="distes-lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Make sure that it is still held.

        Raises:
            StorageError: another writer has it.
        """
        if not self._lost:
            found = read_lease(self._store)
            if found is None:
                self._lost = "somebody deleted its lease"
            elif found.get("holder") != self._me["holder"]:
                self._lost = f"a search on {found.get('host')} took it over"
        if self._lost:
            raise StorageError(f"'{self._uri}': {self._lost}, so this search stops")

    def close(self) -> None:
        self._ended.set()
        self._store.hurry()
        self._thread.join()
        with suppress(OSError):  # it ends by itself
            self.check()
            self._store.delete(LEASE)

    def _next_beat(self) -> bytes:
        self._beats += 1
        now = datetime.now(UTC).isoformat()
        return json.dumps({**self._me, "beat": self._beats, "time": now}).encode() + b"\n"

    def _beat(self) -> None:
        """Give signs of life until closed, or until the lease is lost."""
        while not self._ended.wait(BEAT_S) and not self._lost:
            # The next beat may come through; the run's own writes tell of faults.
            with suppress(OSError):
                self.check()
                # Not tried again: a late one would hide that another has taken over since.
                self._store.put(LEASE, self._next_beat(), patience_s=0.0)

    def _outwait_holder(self, say: Callable[[str], None]) -> None:
        """Return once nobody holds the lease, or its holder is known to be dead."""
        first = read_lease(self._store)
        if first is None or _is_over(first):
            return
        say(
            f"'{self._uri}' may be being written by a search on {first.get('host')}: watching "
            f"it for up to {STALE_S:g} s"
        )
        end = time.monotonic() + STALE_S
        while time.monotonic() < end:
            time.sleep(min(1.0, BEAT_S))
            found = read_lease(self._store)
            if found is None:
                return
            if found != first:
                raise _refuse_written(self._uri, found)


Lock: TypeAlias = FileLock | Lease  # held by the one writer of a run


def read_lease(store: RetryingStore) -> dict[str, Any] | None:
    """Read who holds a run's lease; None if nobody does."""
    try:
        found = json.loads(store.get(LEASE))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def is_held(store: RetryingStore) -> bool:
    """Whether a holder has lately given a sign of life, as far as clocks agree."""
    lease = read_lease(store)
    return lease is not None and not _is_over(lease) and _age_s(lease) < STALE_S


def _is_over(lease: dict[str, Any]) -> bool:
    """Whether its holder is surely gone: long silent, or a dead process of this machine."""
    return _age_s(lease) > LONG_AGO_S or _is_dead(str(lease.get("process", "")))


def _age_s(lease: dict[str, Any]) -> float:
    try:
        then = datetime.fromisoformat(str(lease["time"]))
        return (datetime.now(UTC) - then).total_seconds()
    except (KeyError, ValueError, TypeError):
        return 0.0


def _refuse_written(uri: URI, lease: dict[str, Any]) -> UsageError:
    host = f" on {lease['host']}" if "host" in lease else ""
    return UsageError(f"'{uri}' is being written by a search that still runs{host}")


def _name_process(pid: int) -> str:
    """Name a process so that a machine finds out later whether it lives: "" where it can't.

    Boot, process namespace, number, and time of its start: a number alone is used again.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = Path("/proc/self/ns/pid").readlink().name
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    state, started = fields[0], fields[19]
    return "" if state in "ZX" else f"{boot} {space} {pid} {started}"


def _is_dead(process: str) -> bool:
    """Whether a named process ran in this very place, and runs no more."""
    parts = process.split()
    here = _name_process(os.getpid()).split()
    if len(parts) != 4 or len(here) != 4 or parts[:2] != here[:2]:
        return False
    return _name_process(int(parts[2])) != process
