"""The program of a kernel and an actor, from the cache of this machine where it is kept there.

A program is kept in one file, named after all that it is made of: so it is never out of date,
and may be deleted at any time. That asks for sources that can be hashed: distes' own, and those
of installed packages. docs/decisions/012-kernel-cache.md says what was tried before.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import llvmlite
import numba
import numpy as np
from filelock import FileLock
from llvmlite import binding
from numba.extending import is_jitted

from distes.engines.kernels import episode_loop
from distes.engines.kernels.episode_loop import Program, compile_program
from distes.engines.kernels.jit import IMPORTED_AT, NAMED_APART, jit
from distes.engines.kernels.kernel import KERNEL_FUNCTIONS, Actor, Kernel

OWN_SOURCES = ("engines/kernels", "tasks/envs")
"""Folders of distes that programs are made of: environments' constants are kernels', too."""

INSTALLED = ("site-packages", "dist-packages")
"""Names of folders with packages that nobody edits."""

NUMBA_SETTINGS = "OPT BOUNDSCHECK LOOP_VECTORIZE SLP_VECTORIZE ENABLE_AVX CPU_NAME CPU_FEATURES"
"""Settings of numba that make other machine code."""

Pair: TypeAlias = tuple[tuple[Callable[..., Any], ...], tuple[int, ...], bool, tuple[Any, ...]]
"""What a program is made of; see `_read_pair`."""


def load_program(kernel: type[Kernel], actor: Actor) -> Program:
    """Compile a program, or load what this process or this machine has compiled before.

    Args:
        kernel: of the environment.
        actor: of the policy.
    """
    return _load(_read_pair(kernel, actor), cache_file(kernel, actor))


def _read_pair(kernel: type[Kernel], actor: Actor) -> Pair:
    """List a pair's functions, the actor's sizes and whether it samples, and values.

    Values are what the kernel's functions know by name: numbers, as text, and compiled
    functions. numba takes them as they are when it compiles, wherever they are from.
    """
    functions = [getattr(kernel, name) for name in KERNEL_FUNCTIONS]
    values: list[tuple[str, Any]] = []
    for function in functions:
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            if isinstance(value, np.ndarray):
                value = (value.dtype, value.shape, value.tobytes())
            if is_jitted(value):
                values.append((name, value))
            elif isinstance(value, int | float | np.generic | tuple):
                values.append((name, repr(value)))
    return (*functions, actor.make_choose, actor.decode), actor.sizes, actor.samples, tuple(values)


@lru_cache(maxsize=32)
def _load(pair: Pair, file: Path | None) -> Program:
    (*functions, choosing, decode), sizes, samples, _ = pair
    names: dict[str, Any] = {"choose": choosing(sizes), "decode": decode, "SAMPLES": samples}
    names |= zip(KERNEL_FUNCTIONS, map(jit, functions), strict=True)
    with suppress(OSError, RuntimeError):  # a full disk, no locks
        if file is not None:
            return _load_kept(names, file)
    return compile_program(names, cache=False)


def _load_kept(names: dict[str, Any], file: Path) -> Program:
    """Load what the cache has, or compile it, in a folder that numba takes for its own cache."""
    writable = os.access(file.parent, os.W_OK)
    lock = FileLock(f"{file}.lock") if writable else nullcontext()
    with lock, tempfile.TemporaryDirectory(prefix="distes-") as name:
        folder = Path(name)
        _unpack(file, folder)
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, name
        try:
            program = compile_program(names, cache=True)
        finally:
            numba.config.CACHE_DIR = before
        compiled = any(function.stats.cache_misses for function in program)  # type: ignore[attr-defined]
        # Of functions with large arrays numba keeps nothing.
        if writable and compiled and len(list(folder.rglob("*.nbc"))) == len(program):
            _pack(folder, file)
    return program


def _unpack(file: Path, folder: Path) -> None:
    """Write what `_pack` packed, if it is as it was: a flipped bit would give other numbers."""
    content = file.read_bytes() if file.exists() else b""
    packed = content[32:]
    if hashlib.sha256(packed).digest() == content[:32]:
        for name, data in pickle.loads(packed).items():  # noqa: S301 - no other's file
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)


def _pack(folder: Path, file: Path) -> None:
    """Write all files of a folder into one, behind their sum, whole or not at all."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    packed = pickle.dumps(found)
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    partial.write_bytes(hashlib.sha256(packed).digest() + packed)
    partial.replace(file)


def cache_file(kernel: type[Kernel], actor: Actor) -> Path | None:
    """Where a program is, or would be, kept.

    None where it is not: of functions whose sources may be edited, or for want of a folder
    that can be written, and by no other.
    """
    functions, sizes, samples, values = _read_pair(kernel, actor)
    places = [(each.__module__, each.__qualname__) for each in functions]
    sources = [_describe_sources(module) for module in sorted({place[0] for place in places})]
    # A function within another may have any values around it.
    if not NAMED_APART or None in sources or any("<locals>" in name for _, name in places):
        return None
    loop = Path(episode_loop.__file__)
    made_of = (
        *(places, sources, sizes, samples),
        [(name, value) for name, value in values if isinstance(value, str)],
        [platform.python_version(), *(each.__version__ for each in (numba, llvmlite, np))],
        [getattr(numba.config, name, None) for name in NUMBA_SETTINGS.split()],
        (binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()),
        (loop, loop.stat().st_mtime_ns),  # numba compares these
    )
    try:
        folder = _find_folder()
        file = folder / hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]
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
    if any(each.stat().st_mtime > IMPORTED_AT for each in files):
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
