"""The mark of functions that kernels are made of: compiled by numba where it is installed."""

from __future__ import annotations

import importlib
import itertools
import os
import secrets
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

IMPORTED_AT = time.time()
"""Seconds since the epoch; kernels' modules are read after it, as they import this one first."""

numba: Any
try:
    numba = importlib.import_module("numba")
except Exception:  # noqa: BLE001 - an extra that is missing, or broken beside this numpy
    numba = None
if numba is not None and numba.config.DISABLE_JIT:
    numba = None  # functions are plain Python then, and slow


def _count_apart() -> bool:
    """Let this process give machine code names that no other gives; whether it can be done.

    numba tells functions of one name apart by a count that begins at one in each process,
    keeps those names in its cache, and links what it loads by name alone: of two networks
    that two processes compiled, the second loaded would use layers of the first
    (numba issue 10486). So this process counts from a random number.
    """
    try:
        identity = importlib.import_module("numba.core.bytecode").FunctionIdentity
        next(identity._unique_ids)
    except (ImportError, AttributeError):  # another numba
        return False
    identity._unique_ids = itertools.count(secrets.randbits(62))
    return True


NAMED_APART = numba is not None and _count_apart()
"""Whether machine code may be kept, for other processes to load beside their own."""

if NAMED_APART:
    os.register_at_fork(after_in_child=_count_apart)


def jit(function: F) -> F:
    """Let a function be called from kernels; it stays callable from Python, too.

    Division by zero gives inf or NaN, as in numpy. Sums keep their order: nothing is
    reassociated or fused, so that bits are those of the same operations in Python.

    Args:
        function: of numbers and arrays, in the part of Python that numba compiles.
    """
    return cast("F", numba.njit(error_model="numpy", nogil=True)(function)) if numba else function
