"""Asking an object store again, for a bounded time: throttling and lost connections pass.

The clients' own retries are turned off. They cannot be told that the run is to end, and do
not say what they had to overcome.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from distes.runs.storage.location import URI
from distes.runs.storage.store_errors import StoreRefusedError, describe_fault
from distes.runs.storage.stores import Store, as_os_error

T = TypeVar("T")

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0

READING_S = 10.0  # how long a command that reads a run, or is about to begin one, tries again
WRITING_S = 180.0  # how long a run under way does: longer than stores' momentary incidents
LEAST_TRIES = 2  # a single request may be silent for longer than all patience
HURRY_S = 5.0  # how long it goes on trying once the run is to end


class RetryingStore:
    """A store whose operations are tried again until they work or time is up.

    All are safe to repeat: an object is written whole, and what is gone may be deleted.
    Faults are raised as `StoreError`, but for FileNotFoundError where something is to be read.
    """

    def __init__(self, uri: URI, store: Store) -> None:
        self.inner = store
        self.patience_s = READING_S  # for how long one operation is tried again
        self._uri = uri
        self._end = math.inf
        self._hurried = threading.Event()
        self._overcome: list[dict[str, object]] = []

    def put(self, key: str, data: bytes | memoryview, patience_s: float = math.inf) -> None:
        """Write a whole object, trying for ``patience_s`` if not as long as usual."""

        def put() -> None:
            try:
                self.inner.put(key, data)
            except FileNotFoundError as error:  # how some say that the bucket is missing
                raise OSError(f"NoSuchBucket: {error}") from error

        self._try(put, "write", key, patience_s)

    def get(self, key: str) -> bytes:
        return self._try(lambda: self.inner.get(key), "read", key)

    def list_names(self, folder: str) -> list[str]:
        return self._try(lambda: self.inner.list_names(folder), "list", folder)

    def exists(self, key: str) -> bool:
        return self._try(lambda: self.inner.exists(key), "look up", key)

    def delete(self, key: str) -> None:
        self._delete(self.inner.delete, key)

    def delete_folder(self, key: str) -> None:
        self._delete(self.inner.delete_folder, key)

    def hurry(self) -> None:
        """Be patient for a few seconds more, and no longer."""
        self._end = time.monotonic() + HURRY_S
        self._hurried.set()

    def take_overcome_faults(self) -> list[dict[str, object]]:
        """Give, once, what had to be tried again and then worked."""
        taken, self._overcome = self._overcome, []
        return taken

    def _delete(self, delete: Callable[[str], None], key: str) -> None:
        def act() -> None:
            with suppress(FileNotFoundError):  # an earlier try may have done it, unheard
                delete(key)

        self._try(act, "delete", key)

    def _try(self, act: Callable[[], T], what: str, key: str, patience_s: float = math.inf) -> T:
        began, pause, tries, cause = time.monotonic(), FIRST_PAUSE_S, 1, ""
        until = began + min(patience_s, self.patience_s)
        while True:
            try:
                done = act()
            except FileNotFoundError:
                raise
            except Exception as error:
                fault = describe_fault(self._uri, as_os_error(error))
                end = min(until, self._end)  # which a hurry has moved, perhaps
                again = tries < LEAST_TRIES and patience_s > 0 and not self._hurried.is_set()
                late = time.monotonic() + pause > end and not again
                if isinstance(fault, StoreRefusedError) or late:
                    raise fault from error
            else:
                if tries > 1:
                    seconds = round(time.monotonic() - began, 3)
                    row = {"action": what, "object": key, "tries": tries, "seconds": seconds}
                    self._overcome.append({**row, "cause": cause})
                return done
            cause = str(fault)
            if self._hurried.is_set():
                time.sleep(min(pause, 1.0))
            else:
                self._hurried.wait(pause)
            tries, pause = tries + 1, min(2 * pause, LONGEST_PAUSE_S)
