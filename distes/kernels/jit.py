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
except ImportError:  # the extra: without it the functions are plain Python, and slow
    numba = None


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
