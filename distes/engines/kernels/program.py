"""A kernel's functions and an actor's, compiled with the episode loop into one program."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
import numpy as np
from filelock import FileLock
from numba.extending import is_jitted

from distes.engines.kernels import code_cache, episode_loop
from distes.engines.kernels.jit import jit
from distes.engines.kernels.kernel import Actor, Kernel

KERNEL_FUNCTIONS = ("reset", "observe", "step", "show", "inform")

_INTEGERS, _NUMBERS, _TABLE = "int64[::1]", "float64[::1]", "float64[:, ::1]"
_WORDS, _FLAGS = "uint64[:, ::1]", "boolean[::1]"

BEGIN = (_INTEGERS, _TABLE, _NUMBERS, _TABLE, _WORDS, _TABLE, _TABLE)
RUN = (
    *(_TABLE, _WORDS, _TABLE, _INTEGERS, _TABLE, _INTEGERS, _NUMBERS, _NUMBERS),
    *(_TABLE, _TABLE, _TABLE, "int64", _INTEGERS, _NUMBERS, _INTEGERS, _FLAGS),
    *(_TABLE, _TABLE, _INTEGERS, _TABLE, _TABLE, _NUMBERS),
)
"""Types of the arguments of `episode_loop`'s functions; others are refused."""


@dataclass(frozen=True, eq=False)
class Program:
    """Compiled functions; see `distes.engines.kernels.episode_loop`.

    Attributes:
        begin: resets episodes.
        run: runs them.
    """

    begin: Callable[..., None]
    run: Callable[..., None]


@dataclass(frozen=True)
class _Pair:
    """A kernel and an actor as they are now: equal ones have one program in a process.

    Attributes:
        functions: of the kernel, in the order of `KERNEL_FUNCTIONS`.
        choosing, decode, sizes, samples: of the actor.
        globals: what the kernel's functions read of their modules, from `_read_globals`.
    """

    functions: tuple[FunctionType, ...]
    choosing: Callable[..., Any]
    decode: Callable[..., Any]
    sizes: tuple[int, ...]
    samples: bool
    globals: tuple[tuple[str, Any], ...]


def load_program(kernel: type[Kernel], actor: Actor) -> Program:
    """Compile a pair, or load what this process or this machine has compiled before.

    Args:
        kernel: of the environment.
        actor: of the policy.
    """
    pair = _make_pair(kernel, actor)
    return _load(pair, _find_file(pair))


def compiled_before(kernel: type[Kernel], actor: Actor) -> bool:
    """Whether this machine need not compile a pair."""
    file = cache_file(kernel, actor)
    return file is not None and file.exists()


def cache_file(kernel: type[Kernel], actor: Actor) -> Path | None:
    """Where a pair's machine code is kept; None where it is not."""
    return _find_file(_make_pair(kernel, actor))


def _make_pair(kernel: type[Kernel], actor: Actor) -> _Pair:
    functions = tuple(getattr(kernel, name) for name in KERNEL_FUNCTIONS)
    read = tuple(_read_globals(functions))
    return _Pair(functions, actor.choosing, actor.decode, actor.sizes, actor.samples, read)


def _read_globals(functions: Iterable[FunctionType]) -> Iterator[tuple[str, Any]]:
    """Find numbers, as text, and compiled functions that functions know by name.

    numba takes their values when it compiles, wherever they came from.
    """
    for function in functions:
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            if is_jitted(value):
                yield name, value
            elif isinstance(value, np.ndarray):
                yield name, repr((value.dtype, value.shape, value.tobytes()))
            elif isinstance(value, int | float | np.generic | tuple):
                yield name, repr(value)


def _find_file(pair: _Pair) -> Path | None:
    functions: tuple[Any, ...] = (*pair.functions, pair.choosing, pair.decode)
    numbers = [(name, value) for name, value in pair.globals if isinstance(value, str)]
    return code_cache.find_file(
        [getattr(each, "py_func", each) for each in functions],
        repr((pair.sizes, pair.samples, numbers)),
    )


@lru_cache(maxsize=32)
def _load(pair: _Pair, file: Path | None) -> Program:
    if file is None:
        return _compile(pair)
    try:
        return _load_kept(pair, file)
    except (OSError, RuntimeError):  # a full disk, no locks
        return _compile(pair)


def _load_kept(pair: _Pair, file: Path) -> Program:
    """Load what the cache has, or compile it while other processes wait for it."""
    writable = os.access(file.parent, os.W_OK)
    lock = FileLock(file.with_suffix(".lock")) if writable else nullcontext()
    with lock, tempfile.TemporaryDirectory(prefix="distes-") as name:
        folder = Path(name)
        code_cache.unpack(file, folder)
        with _numba_keeps_in(folder):
            program = _compile(pair, cache=True)
        functions: Any = (program.begin, program.run)
        compiled = any(each.stats.cache_misses for each in functions)
        # numba keeps nothing of a function with large arrays.
        if writable and compiled and len(list(folder.rglob("*.nbc"))) == len(functions):
            code_cache.pack(folder, file)
    return program


def _compile(pair: _Pair, *, cache: bool = False) -> Program:
    """Compile the episode loop with a pair's functions in the place of its globals."""
    names = dict(vars(episode_loop))
    names |= {
        name: jit(function) for name, function in zip(KERNEL_FUNCTIONS, pair.functions, strict=True)
    }
    names |= {"choose": pair.choosing(pair.sizes), "decode": pair.decode, "SAMPLES": pair.samples}

    def compile_as(signature: tuple[str, ...], function: Any) -> Any:
        compiler = numba.njit(
            f"void({', '.join(signature)})", cache=cache, error_model="numpy", nogil=True
        )
        return compiler(FunctionType(function.__code__, names))

    return Program(compile_as(BEGIN, episode_loop.begin), compile_as(RUN, episode_loop.run))


@contextmanager
def _numba_keeps_in(folder: Path) -> Iterator[None]:
    """Let numba's own cache be in a folder, as NUMBA_CACHE_DIR does."""
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before
