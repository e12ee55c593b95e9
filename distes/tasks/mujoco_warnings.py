"""What MuJoCo warns of, kept for the log.

MuJoCo itself would print it in the midst of other lines, and write MUJOCO_LOG.TXT into the working
directory.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_heard: deque[str] = deque(maxlen=1_000)
"""Warnings since they were taken."""


@contextmanager
def hear_warnings() -> Iterator[None]:
    """Hear what MuJoCo warns of meanwhile, if it is loaded and nobody else does."""
    mujoco = sys.modules.get("mujoco")
    if mujoco is None or mujoco.get_mju_user_warning() is not None:
        yield
        return
    # No function of Python's own: a signal's handler may run in one, and what it raises would end
    # the process in the midst of MuJoCo's code.
    mujoco.set_mju_user_warning(_heard.append)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(None)


def take_warnings() -> tuple[str, ...]:
    """Take what was heard, each kind once, without its numbers: these differ between episodes."""
    if not _heard:
        return ()
    said = [" ".join(re.sub(r"[-+]?\d[\d.e+-]*", "…", each).split()) for each in _heard]
    _heard.clear()
    return tuple(dict.fromkeys(said))
