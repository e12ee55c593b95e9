"""How much memory this process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says what a container may use, if anything."""


def find_memory() -> int | None:
    """Find the machine's memory or its container's limit, in bytes; None where unknown."""
    found = []
    with suppress(AttributeError, ValueError, OSError):  # systems without these names
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in CONTAINER_LIMITS:
        with suppress(ValueError, OSError):  # no such file, or the word for no limit
            found.append(int(Path(path).read_text(encoding="ascii")))
    return min(found, default=None)
