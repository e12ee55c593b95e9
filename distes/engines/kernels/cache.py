"""The cache of compiled programs: one file each, in the user's cache folder of this machine.

A file is named after all that its program is made of: so it is never out of date, and may be
deleted at any time. That asks for sources that can be hashed: distes' own, and those of
installed packages. docs/decisions/012-kernel-cache.md says what was tried before.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any
from zipfile import ZipFile

import llvmlite
import numba
import numpy as np
from filelock import FileLock
from llvmlite import binding

from distes.engines.kernels import episode_loop
from distes.engines.kernels.episode_loop import Program, compile_program
from distes.engines.kernels.ingredients import Ingredients
from distes.engines.kernels.jit import IMPORTED_AT, NAMED_APART

OWN_SOURCES = ("engines/kernels", "tasks/envs")
"""Folders of distes that programs are made of: environments' constants are kernels', too."""

INSTALLED = ("site-packages", "dist-packages")
"""Names of folders with packages that nobody edits."""

NUMBA_SETTINGS = "OPT BOUNDSCHECK LOOP_VECTORIZE SLP_VECTORIZE ENABLE_AVX CPU_NAME CPU_FEATURES"
"""Settings of numba that make other machine code."""

_COMPILING = Lock()
"""Held while numba's cache is where a program is unpacked: its setting is the process's."""


def load_kept(names: dict[str, Any], file: Path) -> Program:
    """Load what the cache has, or compile it, in a folder that numba takes for its own cache."""
    writable = os.access(file.parent, os.W_OK)
    lock = FileLock(f"{file}.lock") if writable else nullcontext()
    with _COMPILING, lock, tempfile.TemporaryDirectory(prefix="distes-") as name:
        folder = Path(name)
        _unpack(file, folder)
        with _numba_caching_in(name):
            program = compile_program(names, cache=True)
        compiled = any(function.stats.cache_misses for function in program)  # type: ignore[attr-defined]
        # Of functions with large arrays numba keeps nothing.
        if writable and compiled and len(list(folder.rglob("*.nbc"))) == len(program):
            _pack(folder, file)
    return program


@contextmanager
def _numba_caching_in(folder: str) -> Iterator[None]:
    """Let numba read and write a folder, and no other: it runs what it finds in its cache."""
    config = numba.config
    # numba reads its variables anew where they changed: now, not between two functions.
    config.reload_config()
    before = config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES
    config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES = folder, ""
    try:
        yield
    finally:
        config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES = before


def _unpack(file: Path, folder: Path) -> None:
    """Write what `_pack` packed, if it is as it was: a flipped bit would give other numbers."""
    content = file.read_bytes() if file.exists() else b""
    packed = content[32:]
    if hashlib.sha256(packed).digest() == content[:32]:
        with ZipFile(BytesIO(packed)) as archive:
            archive.extractall(folder)


def _pack(folder: Path, file: Path) -> None:
    """Write all files of a folder into one, behind their sum, whole or not at all."""
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        for each in filter(Path.is_file, folder.rglob("*")):
            archive.write(each, each.relative_to(folder))
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    partial.write_bytes(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
    partial.replace(file)


def find_file(made_of: Ingredients) -> Path | None:
    """Where a program is, or would be, kept.

    None where it is not: of functions whose sources may be edited, or that call themselves, or
    for want of a folder that can be written, and by no other.
    """
    functions: tuple[Any, ...] = (*made_of.kernel, *made_of.actor, *made_of.helpers)
    places = [(each.__module__, each.__qualname__) for each in functions]
    called = [getattr(each, "py_func", each).__code__.co_names for each in functions]
    sources = [_describe_sources(module) for module in sorted({place[0] for place in places})]
    # A function within another may have any values around it; one that calls itself, numba's
    # cache gives back broken.
    together = zip(places, called, strict=True)
    inside = any("<locals>" in name or name in calls for (_, name), calls in together)
    if not NAMED_APART or None in sources or inside:
        return None
    loop = Path(episode_loop.__file__)
    content = (
        *(places, sources, made_of.sizes, made_of.samples),
        [each for each in made_of.values if isinstance(each[1], str | tuple)],
        [platform.python_version(), *(each.__version__ for each in (numba, llvmlite, np))],
        [getattr(numba.config, name, None) for name in NUMBA_SETTINGS.split()],
        (binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()),
        (loop, loop.stat().st_mtime_ns),  # numba compares these
    )
    try:
        folder = _find_folder()
        file = folder / hashlib.sha256(repr(content).encode()).hexdigest()[:32]
        return file if file.exists() or os.access(folder, os.W_OK) else None
    except (OSError, RuntimeError):  # nowhere to write, or nobody's home
        return None


def _describe_sources(module: str) -> list[str] | None:
    """Name the sources of a module's package, with their sums; None where they may be edited."""
    described: list[str] = []
    if module.startswith("distes."):
        root = Path(__file__).parents[2]
        files = [each for folder in OWN_SOURCES for each in (root / folder).rglob("*.py")]
    else:
        file = Path(getattr(sys.modules.get(module), "__file__", None) or "")
        root = next((each for each in file.parents if each.name in INSTALLED), file)
        if root == file or file.suffix != ".py":
            return None
        package = root / module.partition(".")[0]
        files = list(package.rglob("*.py")) if package.is_dir() else [file]
        # It may be made of other packages, whose versions these names tell.
        described += sorted(each.name for each in root.glob("*.dist-info"))
    # An upgrade may keep the time of a file's content (rsync -a), never that of its entry.
    if any(max(s.st_mtime, s.st_ctime) > IMPORTED_AT for s in map(Path.stat, files)):
        return None  # edited since: what is in memory is older
    for each in sorted(files):
        described += [str(each.relative_to(root)), hashlib.sha256(each.read_bytes()).hexdigest()]
    return described


def _find_folder() -> Path:
    """Make the user's cache folder.

    Raises:
        OSError: it can't be made, or others can write it: what lies in it is run.
    """
    asked = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = (asked if asked.is_absolute() else Path.home() / ".cache") / "distes" / "kernels"
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
        if each.stat().st_uid not in (os.getuid(), 0) or each.stat().st_mode & 0o022:
            raise PermissionError(f"others can write {each}")
    return folder
