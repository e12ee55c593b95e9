"""The mark of functions that kernels are made of: compiled by numba where it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

__all__ = ["jit", "numba"]

F = TypeVar("F", bound=Callable[..., Any])

numba: Any
try:
    numba = importlib.import_module("numba")
except Exception:  # noqa: BLE001 - an extra that is missing, or broken beside this numpy
    numba = None
if numba is not None and numba.config.DISABLE_JIT:
    numba = None  # functions are plain Python then, and slow


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
