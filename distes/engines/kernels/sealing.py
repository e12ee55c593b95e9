"""Sums of the files of machine code, by which damage is noticed: it would crash, or worse."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

SUMS = "rollout.sums.json"


def intact(folder: Path) -> bool:
    """Whether all that numba keeps of a module is as it was sealed."""
    try:
        told = json.loads((folder / SUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(told == _sums(folder))


def seal(folder: Path) -> bool:
    """Note what there is; whether it is all: numba keeps code with large arrays to itself."""
    sums = _sums(folder)
    codes = {name.partition("-")[0] for name in sums if name.endswith(".nbc")}
    if codes != {"rollout.begin", "rollout.run"}:
        return False
    write(folder / SUMS, json.dumps(sums))
    return True


def write(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = file.with_name(f"{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)


def clear(folder: Path) -> None:
    """Remove machine code."""
    for file in _files(folder):
        file.unlink(missing_ok=True)


def _sums(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in _files(folder)}


def _files(folder: Path) -> list[Path]:
    found = (*folder.glob("rollout.*.nbi"), *folder.glob("rollout.*.nbc"))
    return sorted(found)
