"""What MuJoCo warns of, kept for the log.

MuJoCo itself would print it in the midst of other lines, and write MUJOCO_LOG.TXT into the working
directory.
"""

from __future__ import annotations

import re
import sys

_heard: dict[str, None] = {}
"""Warnings since they were taken, in order. Their numbers differ from episode to episode, and are
left out."""


def listen() -> None:
    """Hear what MuJoCo warns of from now on, if it is loaded and nobody else does."""
    mujoco = sys.modules.get("mujoco")
    if mujoco is not None and mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_note)


def take_warnings() -> tuple[str, ...]:
    """Take what was heard, each kind once."""
    taken = tuple(_heard)
    _heard.clear()
    return taken


def _note(warning: str) -> None:
    _heard[" ".join(re.sub(r"[-+]?\d[\d.e+-]*", "…", warning).split())] = None
