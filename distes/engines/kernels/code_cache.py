"""Where machine code is kept between processes: one file for each kernel and actor.

A file is named after all that its machine code is made of, so that it is never out of date
and may be deleted at any time. That asks for sources that can be hashed: distes' own, and
those of installed packages. docs/decisions/012-kernel-cache.md says what else was tried.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType

import llvmlite
import numba
import numpy as np
from llvmlite import binding

import distes
from distes.engines.kernels import episode_loop
from distes.engines.kernels.jit import IMPORTED_AT, named_apart

OWN_SOURCES = ("engines/kernels", "tasks/envs")
"""Folders of distes that machine code is made of: environments' constants are kernels', too."""

INSTALLED = ("site-packages", "dist-packages")
"""Folders of packages that nobody edits."""

NUMBA_SETTINGS = (
    *("OPT", "BOUNDSCHECK", "LOOP_VECTORIZE", "SLP_VECTORIZE", "ENABLE_AVX"),
    *("CPU_NAME", "CPU_FEATURES"),
)
"""Settings of numba that make other machine code."""

DIGEST_BYTES = hashlib.sha256().digest_size


def find_file(functions: Iterable[FunctionType], details: str) -> Path | None:
    """Find the file that machine code is, or would be, kept in.

    Args:
        functions: that it is made of, besides the episode loop's.
        details: what else it depends on.

    Returns:
        The file; None where machine code is not kept: of functions whose sources may be
        edited, or for want of a folder that nobody else can write.
    """
    described = [_describe_function(each) for each in functions]
    modules = sorted({each.__module__ for each in functions})
    sources = [_describe_sources(each) for each in modules]
    if None in described or None in sources or not named_apart():
        return None
    made_of = (
        *(described, sources, details),
        [each.__version__ for each in (numba, llvmlite, np)],
        (platform.python_implementation(), platform.python_version()),
        [getattr(numba.config, name, None) for name in NUMBA_SETTINGS],
        (binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()),
        # numba's own index asks for the place and, before 0.68, the date of the loop's file.
        (episode_loop.__file__, Path(episode_loop.__file__).stat().st_mtime_ns),
    )
    try:
        folder = _find_folder()
        if folder is None:
            return None
        file = folder / hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]
        return file if file.exists() or os.access(folder, os.W_OK) else None
    except (OSError, RuntimeError):  # nowhere to write, or nobody's home
        return None


def unpack(file: Path, folder: Path) -> None:
    """Write what `pack` packed, if the file is there and as it was written.

    Machine code with a flipped bit would end the process, or give other numbers.
    """
    content = file.read_bytes() if file.exists() else b""
    packed = content[DIGEST_BYTES:]
    if hashlib.sha256(packed).digest() != content[:DIGEST_BYTES]:
        return
    for name, data in pickle.loads(packed).items():  # noqa: S301 - in nobody else's folder
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)


def pack(folder: Path, file: Path) -> None:
    """Write all files of a folder, with their sum before them, whole or not at all."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    packed = pickle.dumps(found)
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    partial.write_bytes(hashlib.sha256(packed).digest() + packed)
    partial.replace(file)


def _describe_function(function: FunctionType) -> tuple[str, str] | None:
    """Where a function is found; None for one in another, which may have any values around it."""
    name = function.__qualname__
    return None if "<locals>" in name else (function.__module__, name)


def _describe_sources(module: str) -> list[str] | None:
    """Name the sources of an installed package with their sums; None where they may be edited."""
    described: list[str] = []
    if module.startswith("distes."):
        root = Path(distes.__file__).parent
        files = [each for place in OWN_SOURCES for each in (root / place).rglob("*.py")]
    else:
        file = Path(getattr(sys.modules.get(module), "__file__", None) or "")
        root = next((each for each in file.parents if each.name in INSTALLED), file)
        package = root / module.partition(".")[0]
        if root == file or file.suffix != ".py":
            return None
        files = list(package.rglob("*.py")) if package.is_dir() else [file]
        # Its functions may be made of other packages', whose versions these names tell.
        described += sorted(each.name for each in root.glob("*.dist-info"))
    if any(each.stat().st_mtime > IMPORTED_AT for each in files):
        return None  # edited since: what is in memory may be older
    for each in sorted(files):
        described += [str(each.relative_to(root)), hashlib.sha256(each.read_bytes()).hexdigest()]
    return described


def _find_folder() -> Path | None:
    """Make the user's cache folder; None if others can write it: what lies in it is run."""
    asked = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = asked if asked.is_absolute() else Path.home() / ".cache"
    folder = base / "distes" / "kernels"
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = each.stat()
        if status.st_uid not in (os.getuid(), 0) or status.st_mode & 0o022:
            return None
    return folder
