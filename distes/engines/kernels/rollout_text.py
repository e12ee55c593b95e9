"""The text of `episode_loop`, in the two parts between which names are defined."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_SPLIT = "@njit(cache=True"


@cache
def _whole() -> str:
    return Path(__file__).with_name("episode_loop.py").read_text(encoding="utf-8")


def head() -> str:
    """Its imports."""
    return _whole().partition(_SPLIT)[0]


def body(*, cached: bool) -> str:
    """Its functions, whose machine code numba is to keep, or not."""
    _, split, rest = _whole().partition(_SPLIT)
    text = split + rest
    return text if cached else text.replace("cache=True, ", "")
