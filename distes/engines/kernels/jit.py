"""The mark of functions that kernels are made of: compiled by numba where it is installed."""

from __future__ import annotations

import importlib
import itertools
import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar, cast

__all__ = ["eager", "forget", "jit", "keep_no_more", "named_apart", "numba"]

F = TypeVar("F", bound=Callable[..., Any])

numba: Any
try:
    numba = importlib.import_module("numba")
except Exception:  # noqa: BLE001 - an extra that is missing, or broken beside this numpy
    numba = None
if numba is not None and numba.config.DISABLE_JIT:
    numba = None  # functions are plain Python then, and slow


def named_apart() -> bool:
    """Whether no other process gives machine code the names that this one gives.

    numba tells functions of one name apart by a count that begins at one in each process,
    keeps those names in its cache, and links what it loads by name alone: of two networks
    that two processes compiled, the second loaded would use layers of the first
    (numba issue 10486). So this process counts from a random number; where a numba cannot be
    made to, machine code must not be kept.
    """
    return hasattr(_counter(), "_unique_ids")


def _counter() -> Any:
    try:
        return importlib.import_module("numba.core.bytecode").FunctionIdentity
    except (ImportError, AttributeError):
        return None


def _count_apart() -> None:
    if named_apart():
        _counter()._unique_ids = itertools.count(secrets.randbits(62))


if numba is not None:
    _count_apart()
    os.register_at_fork(after_in_child=_count_apart)


def jit(function: F) -> F:
    """Let a function be called from kernels; it stays callable from Python, too.

    Division by zero gives inf or NaN, as in numpy. Sums keep their order: nothing is
    reassociated or fused, so that bits are those of the same operations in Python.

    Args:
        function: of numbers and arrays, in the part of Python that numba compiles.
    """
    if numba is None:
        return function
    return cast("F", numba.njit(error_model="numpy", nogil=True)(function))


def eager(function: Any) -> bool:
    """Whether a compiled function has the signatures it was given, and takes no others."""
    return not getattr(function, "_can_compile", True)


def forget(functions: Iterable[Any]) -> None:
    """Let compiled functions be compiled anew where they are called next.

    numba takes the value of a global once, and its own cache does not look at other files;
    what it compiled elsewhere may have another's name (see `named_apart`).

    Args:
        functions: compiled by numba, callees first.
    """
    held = list(functions)
    for function in held:
        keep_no_more(function)
        if not eager(function):
            _drop(function)
    for function in held:
        if eager(function):
            function.recompile()


def keep_no_more(function: Any) -> None:
    """Let numba keep no more machine code of a function on disk."""
    with suppress(ImportError, AttributeError):
        function._cache = importlib.import_module("numba.core.caching").NullCache()


def _drop(function: Any) -> None:
    """Forget machine code alone: what one of two functions that call each other links is both's."""
    try:
        function._make_finalizer()()
        function._reset_overloads()
    except AttributeError:  # another numba
        function.recompile()
