"""How much memory this process may use, and the refusal of what would need more."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from distes.errors import UsageError

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


def refuse_beyond_memory(numbers: int, what: str, remedy: str) -> None:
    """Refuse what would hold more numbers at once than fit into memory.

    Args:
        numbers: float64 that are held at once, about.
        what: they are; begins the refusal.
        remedy: what to give instead; ends it.

    Raises:
        UsageError: there is less memory.
    """
    needed, there = 8 * numbers, find_memory()
    if there is not None and needed > there:
        raise UsageError(
            f"{what} needs about {needed / 2**30:,.0f} GiB of memory, and there are "
            f"{there / 2**30:,.0f}: {remedy}"
        )
