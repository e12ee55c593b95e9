"""Asking an object store again, for a bounded time: throttling and lost connections pass."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from distes.runs.storage.location import URI
from distes.runs.storage.store_errors import StoreRefusedError, fault
from distes.runs.storage.stores import Store

T = TypeVar("T")

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0

READING_S = 10.0
"""How long a command that reads a run, or is about to begin one, tries again."""

WRITING_S = 180.0
"""How long a run under way does: longer than what a store calls an incident of a moment."""

HURRY_S = 5.0
"""How long it goes on trying once the run is to end."""


class RetryingStore:
    """A store whose operations are tried again until they work or time is up.

    All are safe to repeat: an object is written whole, and what is gone may be deleted.

    Attributes:
        once: the store itself.
        patience_s: for how long one operation is tried again.
    """

    def __init__(self, uri: URI, store: Store) -> None:
        self.once = store
        self.patience_s = READING_S
        self._uri = uri
        self._end = math.inf
        self._hurried = threading.Event()
        self._overcome: list[dict[str, object]] = []

    def put(self, key: str, data: bytes | memoryview) -> None:
        """See `Store`."""

        def put() -> None:
            try:
                self.once.put(key, data)
            except FileNotFoundError as error:  # how some say that the bucket is missing
                raise OSError(f"NoSuchBucket: {error}") from error

        self._try(put, "write", key)

    def get(self, key: str) -> bytes:
        """See `Store`."""
        return self._try(lambda: self.once.get(key), "read", key)

    def entries(self, folder: str) -> list[str]:
        """See `Store`."""
        return self._try(lambda: self.once.entries(folder), "list", folder)

    def exists(self, key: str) -> bool:
        """See `Store`."""
        return self._try(lambda: self.once.exists(key), "look up", key)

    def delete(self, key: str) -> None:
        """See `Store`, except that it may be gone already."""
        self._try(lambda: _gone(self.once.delete, key), "delete", key)

    def delete_folder(self, key: str) -> None:
        """See `Store`, except that it may be gone already."""
        self._try(lambda: _gone(self.once.delete_folder, key), "delete", key)

    def hurry(self) -> None:
        """Be patient for a few seconds more, and no longer."""
        self._end = time.monotonic() + HURRY_S
        self._hurried.set()

    def overcome(self) -> list[dict[str, object]]:
        """Give, once, what had to be tried again and then worked."""
        told, self._overcome = self._overcome, []
        return told

    def _try(self, act: Callable[[], T], what: str, key: str) -> T:
        began, pause, tries, cause = time.monotonic(), FIRST_PAUSE_S, 1, ""
        while True:
            try:
                done = act()
            except FileNotFoundError:
                raise
            except OSError as error:
                told = fault(self._uri, error)
                until = min(began + self.patience_s, self._end)
                if isinstance(told, StoreRefusedError) or time.monotonic() + pause > until:
                    raise told from error
            else:
                if tries > 1:
                    seconds = round(time.monotonic() - began, 3)
                    row = {"action": what, "object": key, "tries": tries, "seconds": seconds}
                    self._overcome.append({**row, "cause": cause})
                return done
            cause = str(told)
            if self._hurried.is_set():
                time.sleep(min(pause, 1.0))
            else:
                self._hurried.wait(pause)
            tries, pause = tries + 1, min(2 * pause, LONGEST_PAUSE_S)


def _gone(delete: Callable[[str], None], key: str) -> None:
    with suppress(FileNotFoundError):
        delete(key)
